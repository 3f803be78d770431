//! Tables of the documentation, read as data.

use std::fs;

use anyhow::{Context, Result};

use crate::render::repository;

/// The rows of all tables of a page below docs/ that have these columns, without backticks.
pub fn rows(page: &str, columns: &[&str]) -> Result<Vec<Vec<String>>> {
    let path = repository().join("docs").join(page);
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    Ok(rows_of(&text, columns))
}

/// The same of a page that was read.
pub fn rows_of(text: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let Some(inner) = line.strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else {
            within = false;
            continue;
        };
        if inner.starts_with('-') {
            continue; // the line below the columns
        }
        let cells: Vec<_> = inner.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        if within {
            rows.push(cells);
        } else {
            within = cells == columns;
        }
    }
    rows
}

/// Does a pattern, in which `*` stands for any text, take the whole of a text?
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(tail) = text.strip_prefix(start) else { return false };
    (0..=tail.len())
        .filter(|index| tail.is_char_boundary(*index))
        .any(|index| matches(rest, &tail[index..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_may_have_empty_cells() {
        let page = "| a | b | c |\n|---|---|---|\n| 1 | | `3` |\n\n| other |\n|---|\n| 4 |\n";
        assert_eq!(rows_of(page, &["a", "b", "c"]), [["1", "", "3"]]);
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("a*c*", "abbcd") && matches("*", "") && matches("ab", "ab"));
        assert!(!matches("a*c", "abcd") && !matches("ab", "abc"));
    }
}
