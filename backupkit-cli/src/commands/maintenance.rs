//! `maintenance`, but for running it.

use backupkit_core::Result;
use backupkit_core::model::{MaintenanceRecord, MaintenanceSettings, MaintenanceWork};

use crate::app::App;
use crate::cli::{MaintenanceChanges, Switch};
use crate::exit::Exit;

pub(super) async fn settings(app: &App<'_>) -> Result<Exit> {
    print(app, &app.workspace().await?.maintenance_settings().await?);
    Ok(Exit::Success)
}

pub(super) async fn set(app: &App<'_>, changes: &MaintenanceChanges) -> Result<Exit> {
    let MaintenanceChanges { logs, runs, temporary_files, checkpoints, caches, automatic } =
        *changes;
    let change = |settings: &mut MaintenanceSettings| {
        for (days, change) in [
            (&mut settings.logs_days, logs),
            (&mut settings.runs_days, runs),
            (&mut settings.temporary_files_days, temporary_files),
            (&mut settings.checkpoints_days, checkpoints),
            (&mut settings.caches_days, caches),
        ] {
            *days = change.unwrap_or(*days);
        }
        if let Some(switch) = automatic {
            settings.automatic = switch == Switch::On;
        }
    };
    print(app, &app.workspace().await?.change_maintenance_settings(change).await?);
    Ok(Exit::Success)
}

/// What maintenance did, or would do, each with the name of its line.
pub(super) fn summary(record: &MaintenanceRecord) -> Vec<(&'static str, String)> {
    let name = |work| match (work, record.dry_run) {
        (MaintenanceWork::Retention, false) => "extended",
        (MaintenanceWork::Retention, true) => "extends",
        (_, false) => "removed",
        (_, true) => "would go",
    };
    if record.steps.is_empty() {
        return vec![(name(MaintenanceWork::Logs), "nothing".to_owned())];
    }
    record.steps.iter().map(|step| (name(step.work), step.to_string())).collect()
}

fn print(app: &App<'_>, settings: &MaintenanceSettings) {
    for (name, days) in [
        ("logs", settings.logs_days),
        ("runs", settings.runs_days),
        ("temporary files", settings.temporary_files_days),
        ("checkpoints", settings.checkpoints_days),
        ("caches", settings.caches_days),
    ] {
        app.output
            .line(format_args!("{name:<15} {days} {}", if days == 1 { "day" } else { "days" }));
    }
    let automatic = if settings.automatic { "on, once a day in a worker" } else { "off" };
    app.output.line(format_args!("{:<15} {automatic}", "automatic"));
    app.output.document("maintenance_settings", settings);
}
