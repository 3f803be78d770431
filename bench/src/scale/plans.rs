//! The plans by which PostgreSQL ran the services' statements, as its own `auto_explain` logs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use local_stack::{Result, postgres::connect};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::Client;

use crate::server_log;

/// The databases that are looked at.
const DATABASES: [&str; 2] = ["inventory", "orders"];

/// One statement, run once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// Milliseconds that it took.
    pub(crate) milliseconds: f64,
    /// Pages of tables and indexes that it looked at; for each row where it deletes several.
    pub(crate) pages: u64,
    /// How it came to its rows, e.g. `Index Scan orders_pkey`.
    pub(crate) access: BTreeSet<String>,
}

/// Statements, each with its database and text, and how they were run.
pub(crate) type Runs = BTreeMap<(String, String), Vec<Run>>;

/// PostgreSQL's log of plans.
#[derive(Debug)]
pub(crate) struct Plans {
    admin: Client,
    file: PathBuf,
    read: usize,
}

/// Has the PostgreSQL of a state folder log what `auto_explain` tells, from its next start; the log.
pub(crate) async fn prepare(programs: &Path, folder: &Path) -> Result<PathBuf> {
    let settings = [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_buffers", "on"),
        ("auto_explain.log_nested_statements", "on"),
        ("auto_explain.log_timing", "off"),
        ("auto_explain.log_format", "json"),
    ];
    server_log::prepare(programs, folder, Some("auto_explain"), &settings).await
}

impl Plans {
    /// Those of a running PostgreSQL, by a superuser's connection and its log.
    pub(crate) async fn new(url: &str, log: PathBuf) -> Result<Self> {
        Ok(Self { admin: connect(url).await?, file: log, read: 0 })
    }

    /// Begins or ends to log each statement's plan.
    pub(crate) async fn log(&self, on: bool) -> Result<()> {
        let from = if on { "0" } else { "-1" };
        self.admin.batch_execute("LOAD 'auto_explain'").await?;
        let set = format!("ALTER SYSTEM SET auto_explain.log_min_duration = '{from}'");
        self.admin.batch_execute(&set).await?;
        self.admin.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }

    /// The statements that were run since the last call.
    pub(crate) fn since(&mut self) -> Result<Runs> {
        let log = fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        // A line that is being written is read the next time.
        let end = log.rfind('\n').map_or(0, |end| end + 1);
        let new = log.get(self.read..end).unwrap_or_default();
        self.read = end;
        runs(new)
    }
}

/// The statements of our services in a part of the log.
fn runs(log: &str) -> Result<Runs> {
    #[derive(Deserialize)]
    struct Entry {
        user: Option<String>,
        message: Option<String>,
    }
    let mut runs = Runs::new();
    for line in log.lines() {
        let entry: Entry = serde_json::from_str(line).context("a line of PostgreSQL's log")?;
        let (Some(user), Some(message)) = (entry.user, entry.message) else { continue };
        if !DATABASES.contains(&user.as_str()) {
            continue;
        }
        let Some((duration, plan)) = message.split_once(" ms  plan:\n") else { continue };
        let milliseconds = duration.trim_start_matches("duration: ").parse()?;
        let plan: Value = serde_json::from_str(plan).context("a plan of PostgreSQL's log")?;
        let text = plan["Query Text"].as_str().context("a plan has no statement")?;
        let root = &plan["Plan"];
        let pages = |kind: &str| root[kind].as_u64().unwrap_or_default();
        let run = Run {
            milliseconds,
            pages: (pages("Shared Hit Blocks") + pages("Shared Read Blocks")) / changed(root),
            access: access(root),
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        runs.entry((user, text)).or_default().push(run);
    }
    Ok(runs)
}

/// How many rows a statement changes that may change many; else 1.
fn changed(root: &Value) -> u64 {
    let is_many = root["Node Type"] == "ModifyTable" && root["Operation"] == "Delete";
    root["Plans"][0]["Actual Rows"].as_u64().filter(|_| is_many).unwrap_or_default().max(1)
}

/// The scans of a plan, each with its index, or its table where it reads that whole.
fn access(node: &Value) -> BTreeSet<String> {
    let text = |name: &str| node[name].as_str().unwrap_or_default();
    let kind = text("Node Type");
    let on = if kind.contains("Index") { text("Index Name") } else { text("Relation Name") };
    let own = kind.ends_with("Scan") && !on.is_empty() && kind != "Bitmap Heap Scan";
    let below = node["Plans"].as_array().into_iter().flatten().flat_map(access);
    below.chain(own.then(|| format!("{kind} {on}"))).collect()
}

/// The middle one of several runs, by a measure.
pub(crate) fn median<T: PartialOrd + Copy>(runs: &[Run], measure: impl Fn(&Run) -> T) -> Option<T> {
    let mut all: Vec<_> = runs.iter().map(measure).collect();
    all.sort_by(|left, right| left.partial_cmp(right).unwrap_or(std::cmp::Ordering::Equal));
    all.get(all.len() / 2).copied()
}

/// What is wrong with the plans at the largest number of rows: a table read whole that grows, or more pages than the few
/// levels that its indexes have grown by, in its best run.
pub(crate) fn faults(
    small: &Runs,
    large: &Runs,
    growing: &[&str],
    pages: u64,
) -> Result<Vec<String>> {
    ensure!(!large.is_empty(), "PostgreSQL logged no plan");
    let mut faults = Vec::new();
    for ((database, text), runs) in large {
        let whole = growing.iter().find(|table| {
            let scan = format!("Seq Scan {table}");
            runs.iter().any(|run| run.access.iter().any(|access| access.ends_with(&scan)))
        });
        if let Some(table) = whole {
            faults.push(format!("{database} reads all of {table}: {text}"));
        }
        // The fewest: what dead rows add until they are cleaned away has nothing to do with the table's size.
        let fewest = |runs: &Vec<Run>| runs.iter().map(|run| run.pages).min();
        let before = small.get(&(database.clone(), text.clone())).and_then(fewest);
        let now = fewest(runs);
        if let (Some(before), Some(now)) = (before, now) {
            if now > before + pages {
                faults.push(format!(
                    "{database} looks at {now} pages, with few rows at {before}: {text}"
                ));
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn logged(user: &str, text: &str, plan: &Value) -> String {
        let plan = json!({"Query Text": text, "Plan": plan});
        let message = format!("duration: 0.250 ms  plan:\n{plan:#}");
        json!({"user": user, "dbname": user, "message": message}).to_string() + "\n"
    }

    fn index(pages: u64) -> Value {
        json!({"Node Type": "Limit", "Shared Hit Blocks": pages, "Shared Read Blocks": 1, "Plans": [
            {"Node Type": "Index Scan", "Index Name": "orders_pkey", "Relation Name": "orders"}
        ]})
    }

    fn whole() -> Value {
        json!({"Node Type": "Parallel Seq Scan", "Relation Name": "orders", "Shared Hit Blocks": 3})
    }

    #[test]
    fn the_pages_of_a_deletion_are_those_of_one_row() {
        let plan = json!({"Node Type": "ModifyTable", "Operation": "Delete", "Shared Hit Blocks": 60,
            "Plans": [{"Node Type": "Index Scan", "Index Name": "age", "Actual Rows": 20}]});
        assert_eq!(of(&[("DELETE", &plan)]).into_values().next().unwrap()[0].pages, 3);
    }

    fn of(entries: &[(&str, &Value)]) -> Runs {
        let lines: String =
            entries.iter().map(|(text, plan)| logged("orders", text, plan)).collect();
        runs(&lines).unwrap()
    }

    #[test]
    fn the_services_statements_are_read_from_the_log() {
        let log = logged("orders", "SELECT\n  1", &index(3))
            + &logged("postgres", "SELECT 2", &index(3))
            + &json!({"user": "orders", "message": "statement: SELECT 3"}).to_string();
        let seen = runs(&log).unwrap();
        assert_eq!(seen.len(), 1);
        let runs = &seen[&("orders".to_owned(), "SELECT 1".to_owned())];
        let access = BTreeSet::from(["Index Scan orders_pkey".to_owned()]);
        assert_eq!(*runs, [Run { milliseconds: 0.25, pages: 4, access }]);
    }

    #[test]
    fn a_growing_table_that_is_read_whole_is_a_fault() {
        let large = of(&[("SELECT 1", &whole()), ("SELECT 2", &index(3))]);
        let found = faults(&large, &large, &["orders"], 8).unwrap();
        assert_eq!(found, ["orders reads all of orders: SELECT 1"]);
        assert_eq!(faults(&large, &large, &["keys"], 8).unwrap(), Vec::<String>::new());
        assert!(faults(&large, &Runs::new(), &["orders"], 8).is_err(), "nothing was looked at");
    }

    #[test]
    fn pages_may_grow_by_some_levels_of_an_index_and_no_more() {
        let (small, large) = (of(&[("SELECT 1", &index(3))]), of(&[("SELECT 1", &index(11))]));
        assert_eq!(faults(&small, &large, &[], 8).unwrap(), Vec::<String>::new());
        let found = faults(&small, &large, &[], 7).unwrap();
        assert_eq!(found, ["orders looks at 12 pages, with few rows at 4: SELECT 1"]);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let runs = of(&[("a", &index(9)), ("a", &index(1)), ("a", &index(3))]);
        let runs = runs.values().next().unwrap();
        assert_eq!(median(runs, |run| run.pages), Some(4));
        assert_eq!(median(&[], |run| run.pages), None);
    }
}
