//! Lists of what is on record, and what is removed from it.

use std::fmt::Display;

use backupkit_core::Result;
use backupkit_core::state::RecordKind;
use serde::Serialize;

use crate::app::App;
use crate::exit::Exit;
use crate::output::Form;
use crate::output::table::Table;

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

#[derive(Serialize)]
struct RemovedRecord<'a> {
    kind: &'static str,
    name: &'a str,
    removed: bool,
}

/// Removes what is on record under a name, and says so with `text`.
pub(super) async fn remove(
    app: &App<'_>,
    kind: RecordKind,
    name: &str,
    text: impl Display,
) -> Result<Exit> {
    app.workspace().await?.remove(kind, name).await?;
    app.output.summary_line(text);
    let record = RemovedRecord { kind: kind.as_str(), name, removed: true };
    app.output.document(kind.as_str(), &record);
    Ok(Exit::Success)
}
