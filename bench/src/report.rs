//! What was measured, told: the table of targets, and RESULTS.md with everything. Files keep what a person has written
//! in them: only what stands between two markers is replaced.

use std::{fs, io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    charts,
    config::Config,
    machine::Machine,
    rows::{Bound, Row, Sample, Side, Target, Unit, Verdict, milliseconds},
    say,
};

/// Between these stands what was measured, in RESULTS.md and SCALE.md.
pub const MEASURED: [&str; 2] = ["<!-- begin measured -->", "<!-- end measured -->"];
/// Between these stands the table, in a page such as README.
const TABLE: [&str; 2] = ["<!-- bench -->", "<!-- /bench -->"];
/// A new RESULTS.md.
const EMPTY: &str = "\
# Results

`nix run .#bench` writes what stands between the two marks, and the charts; the rest is written by hand.

<!-- begin measured -->
<!-- end measured -->

## What was tried
";

/// All that was measured in a run.
#[derive(Debug)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Who, in which version.
    pub versions: Vec<(String, String)>,
    /// How.
    pub settings: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// The table of targets, as Markdown.
    pub fn targets(&self) -> String {
        let head = "| what | target | measured | ratio | |\n|---|---|---|---|---|\n";
        let lines =
            self.rows.iter().flat_map(|row| row.targets.iter().map(|target| line(row, target)));
        head.to_owned() + &lines.collect::<String>()
    }

    /// Everything, as Markdown.
    pub fn render(&self) -> String {
        let Machine { day, cpu, cores, is_virtual, memory, kernel } = &self.machine;
        let kind = if *is_virtual { " of a virtual machine" } else { "" };
        let mut text = format!(
            "Measured on {day} (UTC): {cores} cores{kind}, {cpu}, {memory} MB of memory, Linux {kernel}.\n\n"
        );
        for (name, version) in &self.versions {
            text += &format!("- {name}: {version}\n");
        }
        text += "\n## Targets\n\nA ratio is of medians, to the other side's or to the limit.\n\n";
        text += &self.targets();
        text += "\n## Figures\n\nSpread is (largest - smallest) / median. The last columns are medians too.\n";
        text += &self.rows.iter().map(figures).collect::<String>();
        text += "\n## Settings\n\n";
        text += &self.settings.iter().map(|setting| format!("- {setting}.\n")).collect::<String>();
        text += "\n## Every sample\n\n| row | side | round | figure | requests/s | core used | p50 | p99 | stolen |\n|---|---|---|---|---|---|---|---|---|\n";
        text + &self.rows.iter().map(samples).collect::<String>()
    }

    /// Writes results, charts and the page's table where the settings want them.
    pub fn write(&self, config: &Config) -> Result<()> {
        if let Some(folder) = config.results() {
            write_between(&folder.join("RESULTS.md"), MEASURED, &self.render(), Some(EMPTY))?;
            for (name, chart) in charts::all(&self.rows)? {
                let file = folder.join(name);
                fs::write(&file, chart)
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
            say(&format!("written: RESULTS.md and charts in {}", folder.display()));
        } else {
            say(
                "RESULTS.md and charts are not written: that needs --out, or a whole run in a checkout's root",
            );
        }
        if let Some(page) = &config.readme {
            write_between(page, TABLE, &self.targets(), None)?;
            say(&format!("the table in {} is renewed", page.display()));
        }
        Ok(())
    }
}

/// Fails when the results cannot be written where the settings want them: who measures for minutes should hear it before.
pub fn check(config: &Config) -> Result<()> {
    if let Some(folder) = config.results() {
        ensure!(folder.is_dir(), "--out: there is no folder {}", folder.display());
        renewed(&folder.join("RESULTS.md"), MEASURED, "", Some(EMPTY))?;
    }
    if let Some(page) = &config.readme {
        renewed(page, TABLE, "", None)?;
    }
    Ok(())
}

/// A target's line.
fn line(row: &Row, target: &Target) -> String {
    let Target { side, bound } = target;
    let median = |name: &str| row.side(name).and_then(Side::median);
    let measured = match bound {
        Bound::AtLeastTimes(_, other) | Bound::AtMostTimes(_, other) => {
            let [ours, other] = [median(side), median(other)].map(|figure| shown(row.unit, figure));
            format!("{ours} against {other} {}", row.unit.name())
        }
        Bound::AtMost(_) => format!("{} {}", shown(row.unit, median(side)), row.unit.name()),
    };
    let (ratio, held) = match row.verdict(target) {
        Verdict::Met(ratio) => (format!("{ratio:.2}"), "met".to_owned()),
        Verdict::Missed(ratio) => (format!("{ratio:.2}"), "**missed**".to_owned()),
        Verdict::Unknown(reason) => (String::new(), format!("not known: {reason}")),
    };
    format!(
        "| {}: {side} | {} | {measured} | {ratio} | {held} |\n",
        row.title,
        bound.show(row.unit)
    )
}

/// A row's figures, side by side.
fn figures(row: &Row) -> String {
    let mut text = format!("\n### {}. {}, {}\n\n", row.number, row.title, row.unit.name());
    let lines: Vec<_> = row.sides.iter().map(|side| cells(row, side)).collect();
    let first = row.sides.first().map(|side| side.name.as_str()).unwrap_or_default();
    let ratio = format!("{first} to this");
    let heads =
        ["side", "median", "spread", &ratio, "requests/s", "core used", "p50", "p99", "stolen"];
    // A column of which nothing is known is left out.
    let kept: Vec<_> =
        (0..heads.len()).filter(|at| lines.iter().any(|cells| !cells[*at].is_empty())).collect();
    let line = |cells: &[&str]| {
        format!("| {} |\n", kept.iter().map(|at| cells[*at]).collect::<Vec<_>>().join(" | "))
    };
    text += &line(&heads);
    text += &format!("|{}\n", "---|".repeat(kept.len()));
    for cells in &lines {
        text += &line(&cells.each_ref().map(String::as_str));
    }
    if !row.notes.is_empty() {
        text.push('\n');
    }
    text + &row.notes.iter().map(|note| format!("- {note}.\n")).collect::<String>()
}

/// What is known of a side: its name, median, spread, the ratio to it, and what stands beside.
fn cells(row: &Row, side: &Side) -> [String; 9] {
    let text = |figure: Option<String>| figure.unwrap_or_default();
    let several = side.samples.len() > 1;
    let spread = side.spread().filter(|_| several).map(|spread| format!("{:.0} %", spread * 100.0));
    let is_compared = row.targets.iter().any(|target| !matches!(target.bound, Bound::AtMost(_)));
    let first = row.sides.first().and_then(Side::median).filter(|_| is_compared);
    let ratio = first.zip(side.median()).map(|(first, own)| format!("{:.2}", first / own));
    let median = match &side.missing {
        Some(reason) => format!("missing: {reason}"),
        None => shown(row.unit, side.median()),
    };
    let time = |part: fn(&Sample) -> Option<Duration>| {
        let seconds = side.median_of(|sample| part(sample).map(|time| time.as_secs_f64()));
        seconds.map(Duration::from_secs_f64)
    };
    let beside = Sample {
        value: 0.0,
        rate: side.median_of(|sample| sample.rate),
        utilisation: side.median_of(|sample| sample.utilisation),
        p50: time(|sample| sample.p50),
        p99: time(|sample| sample.p99),
        stolen: time(|sample| sample.stolen),
    };
    let [rate, used, p50, p99, stolen] = beside_figure(&beside);
    [side.name.clone(), median, text(spread), text(ratio), rate, used, p50, p99, stolen]
}

/// A row's samples, a line each.
fn samples(row: &Row) -> String {
    let lines = row.sides.iter().flat_map(|side| {
        side.samples.iter().zip(1..).map(|(sample, round): (&Sample, u32)| {
            let figure = row.unit.show(sample.value);
            let Row { number, title, .. } = row;
            format!(
                "| {number}. {title} | {} | {round} | {figure} | {} |\n",
                side.name,
                beside_figure(sample).join(" | ")
            )
        })
    });
    lines.collect()
}

/// What is known beside the figure: rate, share of a core, latencies, what the host took.
fn beside_figure(sample: &Sample) -> [String; 5] {
    let time = |time: Option<Duration>| {
        let shown = time.map(|time| Unit::Milliseconds.show(milliseconds(time)));
        shown.map_or_else(String::new, |shown| format!("{shown} ms"))
    };
    let rate = sample.rate.map_or_else(String::new, |rate| Unit::Rate.show(rate));
    let used = sample.utilisation.map_or_else(String::new, |used| format!("{used:.2}"));
    [rate, used, time(sample.p50), time(sample.p99), time(sample.stolen)]
}

fn shown(unit: Unit, figure: Option<f64>) -> String {
    figure.map_or_else(|| "?".to_owned(), |figure| unit.show(figure))
}

/// Replaces what stands between two marks in a file, which is made of `new` where there is none.
pub fn write_between(file: &Path, marks: [&str; 2], text: &str, new: Option<&str>) -> Result<()> {
    let text = renewed(file, marks, text, new)?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// What the file becomes.
pub fn renewed(file: &Path, marks: [&str; 2], text: &str, new: Option<&str>) -> Result<String> {
    let old = match (fs::read_to_string(file), new) {
        (Ok(old), _) => old,
        (Err(error), Some(new)) if error.kind() == ErrorKind::NotFound => new.to_owned(),
        (Err(error), _) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    between(&old, marks, text).with_context(|| format!("in {}", file.display()))
}

/// A text with something else between two marks, each of which stands there once.
fn between(old: &str, [begin, end]: [&str; 2], text: &str) -> Result<String> {
    let once = |mark: &str| old.matches(mark).count() == 1;
    ensure!(once(begin) && once(end), "there have to be {begin} and {end}, each once");
    let split = || {
        let (before, rest) = old.split_once(begin)?;
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}\n{}\n{end}{after}", text.trim_end()))
    };
    split().with_context(|| format!("{begin} has to stand before {end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut rate = Row::new("1", "the cheapest route", Unit::PerCore)
            .at_least("ours", 0.75, "bare hyper")
            .at_least("ours", 40.0, "Flask")
            .note("a note");
        for value in [90_000.0, 110_000.0, 100_000.0] {
            let p99 = Some(Duration::from_micros(1500));
            let sample = Sample {
                value,
                rate: Some(value),
                utilisation: Some(1.0),
                p99,
                ..Sample::default()
            };
            rate.add("ours", sample);
            rate.add("bare hyper", Sample::of(value + 25_000.0));
        }
        rate.add_missing("Flask", "python3 is not in PATH");
        let mut ready = Row::new("8", "start to ready", Unit::Milliseconds).at_most("orders", 50.0);
        ready.add("orders", Sample::of(55.0));
        let machine = Machine {
            day: "2026-01-31".to_owned(),
            cpu: "A CPU".to_owned(),
            cores: 2,
            is_virtual: true,
            memory: 8000,
            kernel: "6.1".to_owned(),
        };
        let versions = vec![("nginx".to_owned(), "1.2".to_owned())];
        Report { machine, versions, settings: vec!["3 rounds".to_owned()], rows: vec![rate, ready] }
    }

    #[test]
    fn each_target_is_told_met_missed_or_not_known_and_why() {
        let expected = "\
| what | target | measured | ratio | |
|---|---|---|---|---|
| the cheapest route: ours | at least 0.75 x bare hyper | 100,000 against 125,000 requests/s per core | 0.80 | met |
| the cheapest route: ours | at least 40 x Flask | 100,000 against ? requests/s per core |  | not known: Flask is missing: python3 is not in PATH |
| start to ready: orders | at most 50 ms | 55.0 ms | 1.10 | **missed** |
";
        assert_eq!(report().targets(), expected);
    }

    #[test]
    fn the_results_have_machine_versions_figures_settings_and_every_sample() {
        let text = report().render();
        for part in [
            "Measured on 2026-01-31 (UTC): 2 cores of a virtual machine, A CPU, 8000 MB of memory, Linux 6.1.\n",
            "- nginx: 1.2\n",
            "### 1. the cheapest route, requests/s per core\n",
            "| side | median | spread | ours to this | requests/s | core used | p99 |\n",
            "| ours | 100,000 | 20 % | 1.00 | 100,000 | 1.00 | 1.50 ms |\n",
            "| bare hyper | 125,000 | 16 % | 0.80 |  |  |  |\n",
            "| Flask | missing: python3 is not in PATH |  |",
            "### 8. start to ready, ms\n\n| side | median |\n|---|---|\n| orders | 55.0 |\n",
            "- a note.\n",
            "- 3 rounds.\n",
            "| 1. the cheapest route | ours | 2 | 110,000 | 110,000 | 1.00 |  | 1.50 ms |  |\n",
            "| 8. start to ready | orders | 1 | 55.0 |  |  |  |  |  |\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_the_rest_stays() {
        let old = "before\n<a>\nold\n<b>\nafter\n";
        let new = between(old, ["<a>", "<b>"], "new\n").unwrap();
        assert_eq!(new, "before\n<a>\nnew\n<b>\nafter\n");
        assert_eq!(between(&new, ["<a>", "<b>"], "new\n").unwrap(), new);
    }

    #[test]
    fn a_page_without_its_marks_is_left_alone() {
        for page in ["", "<a>", "<b><a>", "<a><a><b>"] {
            assert!(between(page, ["<a>", "<b>"], "new").is_err(), "{page}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("RESULTS.md");
        assert!(write_between(&file, MEASURED, "x", None).is_err());
        write_between(&file, MEASURED, "figures", Some(EMPTY)).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("<!-- begin measured -->\nfigures\n<!-- end measured -->"), "{text}");
    }
}
