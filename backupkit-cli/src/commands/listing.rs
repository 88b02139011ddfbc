//! Lists of what is on record.

use backupkit_core::Result;
use backupkit_core::manage::Workspace;
use backupkit_core::state::{Record, RecordKind};
use serde::Serialize;

use crate::app::App;
use crate::output::Form;
use crate::output::table::Table;

/// So many records are read at once.
const PAGE: usize = 100;

/// All records of a kind.
pub(super) async fn all(workspace: &Workspace, kind: RecordKind) -> Result<Vec<Record>> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let after = all.last().map(|record| record.content.name.clone());
        let page = workspace.list(kind, after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// Prints a table for people, or what is in it for programs.
pub(super) fn print_list<T: Serialize>(
    app: &App<'_>,
    kind: &'static str,
    table: &Table,
    items: &[T],
    none: &str,
) {
    if app.output.form() == Form::Text {
        if items.is_empty() {
            app.output.note(none);
        } else {
            app.output.line(table);
        }
        return;
    }
    for item in items {
        app.output.item(kind, "", item);
    }
    app.output.end_items();
}
