//! The committed figures: instructions of a request by path, in a file that people read too.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use local_stack::Result;

/// The setting beside the figures: by how many percent a measured figure may differ from its committed one.
const TOLERANCE: &str = "tolerance_percent";
/// What renews the file.
const RENEW: &str = "nix run .#bench -- instructions --renew";

/// The file: lines `name = number`, comments and empty lines. It is TOML, of which it needs no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figures {
    lines: Vec<Entry>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// A comment or nothing: kept as it is.
    Text(String),
    /// A name, its number, and what stands behind it.
    Number(String, u64, String),
}

/// A path and the instructions of one request on it.
pub(crate) type Measured = (&'static str, u64);

impl Figures {
    /// Reads a file.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file);
        let figures = text.map_err(anyhow::Error::from).and_then(|text| Self::parse(&text));
        figures.with_context(|| format!("the committed figures, {}", file.display()))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// Names the first line that is neither a comment nor `name = number`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().map(|(index, line)| {
            entry(line)
                .with_context(|| format!("line {}: {line:?} is no `name = number`", index + 1))
        });
        let figures = Self { lines: lines.collect::<Result<_>>()? };
        if figures.of(TOLERANCE).is_none() {
            bail!("{TOLERANCE} is missing");
        }
        Ok(figures)
    }

    /// The figure of a path.
    pub(crate) fn of(&self, name: &str) -> Option<u64> {
        self.numbers().find(|(other, _)| *other == name).map(|(_, number)| number)
    }

    /// By how many percent a measured figure may differ from the committed one.
    pub(crate) fn tolerance(&self) -> u64 {
        self.of(TOLERANCE).expect("it was looked for when the file was read")
    }

    /// What is wrong with a measured figure, or with its lack; nothing when it is within the tolerance.
    pub(crate) fn fault(&self, (name, measured): Measured) -> Option<String> {
        let Some(committed) = self.of(name) else {
            return Some(format!(
                "{name}: {measured} instructions of a request, no figure committed. Renew: {RENEW}"
            ));
        };
        let tolerance = self.tolerance();
        if measured.abs_diff(committed) * 100 <= committed * tolerance {
            return None;
        }
        let percent = difference(committed, measured);
        let figures = format!(
            "{name}: {measured} instructions of a request, {committed} committed: {:.1} % {} (tolerance {tolerance} %)",
            percent.abs(),
            if percent > 0.0 { "more" } else { "less" }
        );
        Some(if percent > 0.0 {
            format!("{figures}. Find what made it slower; where that is meant, renew: {RENEW}")
        } else {
            format!("{figures}. It is faster: renew, so that this is not lost unseen: {RENEW}")
        })
    }

    /// Figures of paths that there are no more.
    pub(crate) fn stale(&self, measured: &[Measured]) -> Vec<String> {
        let names = self.numbers().map(|(name, _)| name).filter(|name| *name != TOLERANCE);
        let gone = names.filter(|name| measured.iter().all(|(known, _)| known != name));
        gone.map(|name| format!("{name}: there is no such path. Renew: {RENEW}")).collect()
    }

    /// The same with other figures: comments, order and tolerance stay, a new path comes last, one that is gone goes.
    pub(crate) fn renewed(&self, measured: &[Measured]) -> Self {
        let renewed = |entry: &Entry| match entry {
            Entry::Number(name, _, rest) if name != TOLERANCE => {
                let (_, number) = measured.iter().find(|(known, _)| known == name)?;
                Some(Entry::Number(name.clone(), *number, rest.clone()))
            }
            other => Some(other.clone()),
        };
        let mut lines: Vec<_> = self.lines.iter().filter_map(renewed).collect();
        let new = measured.iter().filter(|(name, _)| self.of(name).is_none());
        lines.extend(
            new.map(|(name, number)| Entry::Number((*name).to_owned(), *number, String::new())),
        );
        Self { lines }
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        let line = |entry: &Entry| match entry {
            Entry::Text(text) => format!("{text}\n"),
            Entry::Number(name, number, rest) => format!("{name} = {}{rest}\n", grouped(*number)),
        };
        self.lines.iter().map(line).collect()
    }

    fn numbers(&self) -> impl Iterator<Item = (&str, u64)> {
        self.lines.iter().filter_map(|entry| match entry {
            Entry::Number(name, number, _) => Some((name.as_str(), *number)),
            Entry::Text(_) => None,
        })
    }
}

/// By how many percent the second is more than the first.
#[expect(clippy::cast_precision_loss, reason = "instruction counts are far below 2^52")]
pub(crate) fn difference(committed: u64, measured: u64) -> f64 {
    (measured as f64 / committed as f64 - 1.0) * 100.0
}

fn entry(line: &str) -> Option<Entry> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Some(Entry::Text(line.to_owned()));
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim_start();
    let end = value.find(|character: char| !(character.is_ascii_digit() || character == '_'));
    let (number, rest) = value.split_at(end.unwrap_or(value.len()));
    let number = number.replace('_', "").parse().ok()?;
    let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
    let name = name.trim_end();
    let is_whole = !name.is_empty() && name.chars().all(is_name);
    let is_comment = rest.trim().is_empty() || rest.trim_start().starts_with('#');
    (is_whole && is_comment).then(|| Entry::Number(name.to_owned(), number, rest.to_owned()))
}

/// A number with an underscore before every three digits, as TOML lets it be written.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let (first, rest) = digits.split_at((digits.len() - 1) % 3 + 1);
    let groups = rest.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group));
    groups.fold(first.to_owned(), |text, group| format!("{text}_{group}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# What they are.\ntolerance_percent = 5\n\n# api-gateway\nprobe = 10_000 # cheap\nplace = 1_234_567\n";

    fn figures() -> Figures {
        Figures::parse(FILE).unwrap()
    }

    #[test]
    fn a_figure_within_the_tolerance_passes_and_one_beyond_it_fails_both_ways() {
        for measured in [9_500, 10_000, 10_500] {
            assert_eq!(figures().fault(("probe", measured)), None, "{measured}");
        }
        let more = figures().fault(("probe", 10_501)).unwrap();
        let expected = "probe: 10501 instructions of a request, 10000 committed: 5.0 % more (tolerance 5 %). Find what made it slower";
        assert!(more.starts_with(expected), "{more}");
        let less = figures().fault(("probe", 9_000)).unwrap();
        let expected = "probe: 9000 instructions of a request, 10000 committed: 10.0 % less (tolerance 5 %). It is faster: renew";
        assert!(less.starts_with(expected), "{less}");
        assert!([more, less].iter().all(|fault| fault.ends_with(RENEW)));
    }

    #[test]
    fn a_path_without_a_figure_and_a_figure_without_a_path_fail() {
        let fault = figures().fault(("new", 7)).unwrap();
        assert!(
            fault.starts_with("new: 7 instructions of a request, no figure committed"),
            "{fault}"
        );
        let stale = figures().stale(&[("probe", 1)]);
        assert_eq!(stale, [format!("place: there is no such path. Renew: {RENEW}")]);
    }

    #[test]
    fn renewing_changes_the_numbers_alone() {
        assert_eq!(figures().text(), FILE);
        let renewed = figures().renewed(&[("place", 999), ("probe", 12_345)]);
        let expected = FILE.replace("10_000", "12_345").replace("1_234_567", "999");
        assert_eq!(renewed.text(), expected);
        assert_eq!(Figures::parse(&renewed.text()).unwrap(), renewed);
    }

    #[test]
    fn renewing_adds_new_paths_at_the_end_and_drops_those_that_are_gone() {
        let renewed = figures().renewed(&[("new", 1_000), ("probe", 10_000)]);
        assert_eq!(renewed.text(), FILE.replace("place = 1_234_567", "new = 1_000"));
    }

    #[test]
    fn a_line_that_is_no_figure_is_named() {
        for wrong in
            ["[section]", "probe", "probe = ", "probe = -1", "probe = 1.5", "= 1", "a b = 1"]
        {
            let message = format!("{:#}", Figures::parse(&format!("{FILE}{wrong}\n")).unwrap_err());
            assert_eq!(message, format!("line 7: {wrong:?} is no `name = number`"));
        }
        let message = Figures::parse("probe = 1").unwrap_err().to_string();
        assert_eq!(message, "tolerance_percent is missing");
    }
}
