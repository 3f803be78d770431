//! Tables, and the page that holds what was measured between two marks.

use std::fmt::Write as _;

use anyhow::Context;
use local_stack::Result;

const BEGIN: &str = "<!-- begin measured -->\n";
const END: &str = "<!-- end measured -->";

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

/// A whole number with a comma before every three digits.
pub(crate) fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let comma = |(index, digit): (usize, char)| {
        let comma = index > 0 && (digits.len() - index) % 3 == 0;
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(comma).collect()
}

/// A page with something new between its marks.
pub(crate) fn renewed(page: &str, measured: &str) -> Result<String> {
    let (before, rest) =
        page.split_once(BEGIN).context("the page has no <!-- begin measured -->")?;
    let (_, after) = rest.split_once(END).context("the page has no <!-- end measured -->")?;
    Ok(format!("{before}{BEGIN}\n{}\n\n{END}{after}", measured.trim()))
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

    #[test]
    fn what_stands_between_the_marks_is_renewed_and_the_rest_stays() {
        let page = "before\n<!-- begin measured -->\nold\n<!-- end measured -->\nafter\n";
        let new = renewed(page, "new\n").unwrap();
        let expected = "before\n<!-- begin measured -->\n\nnew\n\n<!-- end measured -->\nafter\n";
        assert_eq!(new, expected);
        assert_eq!(renewed(&new, "new").unwrap(), new);
        assert!(renewed("before", "new").is_err());
    }

    #[test]
    fn large_numbers_have_commas() {
        let shown = [7, 1_000, 12_345, 1_000_000].map(thousands);
        assert_eq!(shown, ["7", "1,000", "12,345", "1,000,000"]);
    }
}
