//! Prints what was tried, step by step.

use backupkit_core::Probe;

use crate::app::App;
use crate::exit::Exit;
use crate::output::format;

pub(super) fn print(app: &App<'_>, probe: &Probe) -> Exit {
    for step in &probe.steps {
        let reason = step.outcome.reason().map_or(String::new(), |reason| format!(": {reason}"));
        let outcome = format!("{}{reason}", step.outcome.as_str());
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
