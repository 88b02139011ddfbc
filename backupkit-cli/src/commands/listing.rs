//! Lists of what is on record.

use serde::Serialize;

use crate::app::App;
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
