//! Prints what was tried, step by step.

use backupkit_core::{Probe, ProbeOutcome};

use crate::app::App;
use crate::exit::Exit;
use crate::output::format;

pub(super) fn print(app: &App<'_>, probe: &Probe) -> Exit {
    for step in &probe.steps {
        let outcome = match &step.outcome {
            ProbeOutcome::Ok => "ok".to_owned(),
            ProbeOutcome::Failed(why) => format!("failed: {why}"),
            ProbeOutcome::Skipped(why) => format!("skipped: {why}"),
        };
        let name = format::one_line(&step.name);
        let took = format::duration(step.took);
        app.output.line(format_args!("{name}: {} ({took})", format::one_line(&outcome)));
        if let Some(hint) = &step.hint {
            app.output.line(format_args!("  {}", format::one_line(hint)));
        }
    }
    app.output.document("probe", probe);
    if probe.is_healthy() { Exit::Success } else { Exit::Failure }
}
