//! Tables for people: aligned columns, two spaces between them.

use std::fmt;

/// The side to which a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a heading.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: impl Into<Vec<(&'static str, Align)>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A column without content says nothing.
        let shown: Vec<bool> = (0..self.columns.len())
            .map(|column| {
                self.rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()))
            })
            .collect();
        let heading: Vec<String> =
            self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows: Vec<&Vec<String>> = std::iter::once(&heading).chain(&self.rows).collect();
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| width_of(cell))
                .max()
                .unwrap_or(0)
        };
        for (index, row) in rows.iter().enumerate() {
            let mut cells = Vec::with_capacity(self.columns.len());
            for (column, (_, align)) in self.columns.iter().enumerate() {
                if shown[column] {
                    let cell = row.get(column).map_or("", String::as_str);
                    let padding = " ".repeat(width(column).saturating_sub(width_of(cell)));
                    cells.push(match align {
                        Align::Left => format!("{cell}{padding}"),
                        Align::Right => format!("{padding}{cell}"),
                    });
                }
            }
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// The columns of a terminal that a text takes, near enough: wide characters are rare here.
fn width_of(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new([
            ("id", Align::Left),
            ("tags", Align::Left),
            ("size", Align::Right),
            ("path", Align::Left),
        ]);
        table.row(["a".into(), String::new(), "1 B".into(), "/x".into()]);
        table.row(["bcd".into(), String::new(), "10 MiB".into(), "/y".into()]);
        let text = "id     size  path\na       1 B  /x\nbcd  10 MiB  /y";
        assert_eq!(table.to_string(), text);
    }
}
