//! `check`.

use backupkit_core::repo::{CheckOptions, CheckReport, ReadData};
use backupkit_core::{CheckRequest, Result};
use serde::Serialize;

use crate::app::App;
use crate::cli::CheckArguments;
use crate::exit::Exit;
use crate::output::format;
use crate::watch::{Run, watch};

#[derive(Serialize)]
struct ReportRecord<'a> {
    clean: bool,
    read_data: bool,
    #[serde(flatten)]
    report: &'a CheckReport,
}

pub(super) async fn run(app: &App<'_>, arguments: CheckArguments) -> Result<Exit> {
    let repository = app.open_to_read(&arguments.repository).await?;
    let engine = app.engine_with(&arguments.resources)?;
    let location = format::one_line(&repository.location());
    let read_data = arguments.read_data.unwrap_or_default();
    let request = CheckRequest::new(repository).with_options(CheckOptions { read_data });
    let report = watch(app, Run::Check, || engine.check(request)).await?;
    for note in &report.notes {
        app.output.note(format::one_line(note));
    }
    app.output.summary_line(format!(
        "checked {}, {}, {} and {}",
        format::counted(report.snapshots, "snapshot", "snapshots"),
        format::counted(report.trees, "tree", "trees"),
        format::counted(report.blobs, "blob", "blobs"),
        format::counted(report.packs, "pack", "packs"),
    ));
    if arguments.read_data.is_some() {
        app.output.summary_line(format!(
            "read {} of {}",
            format::bytes(report.read_bytes),
            format::counted(report.read_packs, "pack", "packs")
        ));
    }
    let clean = report.is_clean();
    if clean {
        let what = match arguments.read_data {
            Some(ReadData::All) => "",
            Some(_) => ", as far as it was read",
            None => "; --read-data reads every byte, too",
        };
        app.output.summary_line(format!("{location} is whole{what}"));
    } else {
        let findings = format::counted(report.finding_count, "finding", "findings");
        app.output.line(format!("{location} is DAMAGED: {findings}, named above"));
        app.output.note("keep a copy of the repository before you repair it");
    }
    app.output.document(
        "summary",
        &ReportRecord { clean, read_data: arguments.read_data.is_some(), report: &report },
    );
    Ok(if clean { Exit::Success } else { Exit::Damaged })
}
