//! `repo extend`.

use backupkit_core::repo::ExtensionReport;
use backupkit_core::{ExtensionRequest, Result};

use crate::app::App;
use crate::cli::RepositoryOption;
use crate::exit::Exit;
use crate::output::format;
use crate::watch::{Run, watch};

pub(in crate::commands) async fn run(
    app: &App<'_>,
    option: &RepositoryOption,
    dry_run: bool,
) -> Result<Exit> {
    let repository = app.open(option).await?;
    let engine = app.engine(|builder| builder)?;
    let location = format::one_line(&repository.location());
    let request = ExtensionRequest::new(repository);
    let request = if dry_run { request.dry_run() } else { request };
    let report = watch(app, Run::Extend, || engine.extend_retention(request)).await?;
    let objects = format::counted(report.objects, "object", "objects");
    app.output.summary_line(format!("{location}: {objects}{}", parts(&report)));
    app.output.document("summary", &report);
    if report.is_complete() {
        return Ok(Exit::Success);
    }
    let failed = format::counted(report.failed, "object is", "objects are");
    app.output.line(format!("{failed} NOT retained for long enough, named above"));
    Ok(Exit::Failure)
}

/// How many of them are what.
fn parts(report: &ExtensionReport) -> String {
    let extended = if report.dry_run { "would be extended" } else { "extended" };
    let parts = [
        (report.extended, extended),
        (report.long_enough, "retained for long enough already"),
        (report.too_new, "left, as they were written just now"),
        (report.failed, "failed"),
    ];
    let mut text = String::new();
    for (count, what) in parts.iter().filter(|(count, _)| *count > 0) {
        text.push_str(", ");
        text.push_str(&format::count(*count));
        text.push(' ');
        text.push_str(what);
    }
    text
}
