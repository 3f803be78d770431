//! Tables.

use std::fmt::Write as _;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// What it shows.
    pub(crate) title: String,
    /// The columns' names.
    pub(crate) head: Vec<String>,
    /// The rows' cells.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one with its first columns.
    pub(crate) fn new(title: &str, head: &[&str]) -> Self {
        let head = head.iter().map(ToString::to_string).collect();
        Self { title: title.to_owned(), head, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// It as Markdown, below its title.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("### {}\n\n{}|", self.title, line(&self.head));
        for _ in &self.head {
            text.push_str("---|");
        }
        text.push('\n');
        for row in &self.rows {
            let _strings_take_all = write!(text, "{}", line(row));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_shown_as_markdown() {
        let mut table = Table::new("Title", &["a", "b"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        assert_eq!(table.markdown(), "### Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
