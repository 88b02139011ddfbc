//! `plan`, but for running it.

use std::collections::BTreeMap;

use backupkit_core::Result;
use backupkit_core::manage::{PlanBody, PlanChange};
use backupkit_core::state::{Record, RecordKind};
use serde::Serialize;

use super::listing::{print_list, remove};
use crate::app::App;
use crate::exit::Exit;
use crate::output::format;
use crate::output::table::{Align, Table};

#[derive(Serialize)]
struct PlanRecord {
    name: String,
    id: String,
    #[serde(flatten)]
    body: PlanBody,
}

pub(super) async fn create(
    app: &App<'_>,
    name: &str,
    from: &[String],
    to: &[String],
    tags: Vec<String>,
) -> Result<Exit> {
    let record = app.workspace().await?.add_plan(name, from, to, tags).await?;
    let name = format::one_line(name);
    app.output.summary_line(format_args!("made plan {name}; `backupkit plan run {name}` runs it"));
    app.output.document("plan", &describe(&record)?);
    Ok(Exit::Success)
}

pub(super) async fn set(app: &App<'_>, name: &str, change: PlanChange) -> Result<Exit> {
    let record = app.workspace().await?.update_plan(name, None, change).await?;
    let name = format::one_line(&record.content.name);
    app.output.summary_line(format_args!("plan {name} is as you want it"));
    app.output.document("plan", &describe(&record)?);
    Ok(Exit::Success)
}

pub(super) async fn list(app: &App<'_>) -> Result<Exit> {
    let workspace = app.workspace().await?;
    let mut known = BTreeMap::new();
    for kind in [RecordKind::Connection, RecordKind::Repository] {
        for record in workspace.list_all(kind).await? {
            known.insert(record.itself.id.to_string(), format::one_line(&record.content.name));
        }
    }
    let named = |id: &String| known.get(id).cloned().unwrap_or_default();
    let mut table = Table::new([("NAME", Align::Left), ("FROM", Align::Left), ("TO", Align::Left)]);
    let records = workspace.list_all(RecordKind::Plan).await?;
    let plans = records.iter().map(describe).collect::<Result<Vec<_>>>()?;
    for plan in &plans {
        let all = |ids: &[String]| ids.iter().map(named).collect::<Vec<_>>().join(", ");
        let PlanBody { sources, repositories, .. } = &plan.body;
        table.row([format::one_line(&plan.name), all(sources), all(repositories)]);
    }
    print_list(app, "plan", &table, &plans, "no plans; `backupkit plan create` makes one");
    Ok(Exit::Success)
}

pub(super) async fn rm(app: &App<'_>, name: &str) -> Result<Exit> {
    let text = format!("removed plan {}", format::one_line(name));
    remove(app, RecordKind::Plan, name, text).await
}

fn describe(record: &Record) -> Result<PlanRecord> {
    let (name, id) = (record.content.name.clone(), record.itself.id.to_string());
    Ok(PlanRecord { name, id, body: record.decode()? })
}
