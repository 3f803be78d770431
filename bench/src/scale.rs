//! How cost grows: with replicas, with orders in the tables, with lines of an order, with open connections.
//!
//! On a small machine rates say little about many; what one request costs does: CPU seconds of all processes, pages that
//! a statement looks at, memory of a connection.

mod chart;
mod connections;
mod lines;
mod one_item;
mod page;
mod plans;
mod replicas;
mod rows;
mod system;

use anyhow::{Context, bail};
use lexopt::Parser;
use local_stack::Result;

use self::{chart::Panel, system::CLIENTS};
use crate::{
    config::{self, Config},
    machine::{Machine, first_line},
    report, say,
};

const HELP: &str = "\
bench scale  measures what an order costs with 1 to 5 replicas, 1e3 to 1e6 orders in the table, 1 to 100 lines,
             how many orders of one item there can be, and what up to 10,000 idle connections hold; fails when a statement's plan does not stay flat.
             With --out DIR it renews SCALE.md there, between its marks, and scale.svg

";

/// The page and the chart, in the folder of the results.
const PAGE: &str = "SCALE.md";
const CHART: &str = "scale.svg";

/// `bench scale`.
pub fn main(flags: Parser) -> Result<()> {
    let Some(config) = Config::read(flags)? else {
        say(&format!("{HELP}{}", config::HELP));
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&config))
}

async fn run(config: &Config) -> Result<()> {
    if let Some(folder) = &config.out {
        report::renewed(&folder.join(PAGE), report::MEASURED, "", None)?;
    }
    let rows = rows::measure(config).await.context("orders in the table")?;
    let (connections, of_connections) =
        connections::measure(config).await.context("connections")?;
    let (replicas, of_replicas) = replicas::measure(config).await.context("replicas")?;
    let (lines, of_lines) = lines::measure(config).await.context("lines")?;
    let one_item = one_item::measure(config).await.context("one item")?;
    let [costs, statements] = rows.tables;
    let tables = [replicas, costs, statements, lines, one_item, connections];
    let text = format!(
        "{}\n\n{}",
        surroundings(config).await?,
        tables.map(|table| table.markdown()).join("\n")
    );
    say(&text);
    if let Some(folder) = &config.out {
        let file = folder.join(PAGE);
        report::write_between(&file, report::MEASURED, &text, None)?;
        let panel = |title, x, y, logarithmic, points| Panel { title, x, y, logarithmic, points };
        let order = "CPU ms of an order";
        let of_each = format!("Replicas of each service, {CLIENTS} clients each");
        let panels = [
            panel(&of_each, "replicas", order, false, &of_replicas[..]),
            panel("Orders in the table", "orders", order, true, &rows.points[..]),
            panel("Lines of an order", "lines", order, false, &of_lines[..]),
            panel(
                "Idle connections",
                "connections",
                "kB of a connection",
                true,
                &of_connections[..],
            ),
        ];
        chart::draw(&folder.join(CHART), &panels)?;
    }
    if rows.faults.is_empty() { Ok(()) } else { bail!("\n{}", rows.faults.join("\n")) }
}

/// Where it was measured.
async fn surroundings(config: &Config) -> Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    let Machine { day, cpu, cores, memory, kernel, is_virtual } = Machine::read(cores).await?;
    let kind = if is_virtual { "virtual machine" } else { "machine" };
    let postgres = first_line(config.postgres.join("postgres"), &["--version"]).await;
    let postgres = postgres.unwrap_or_default();
    Ok(format!(
        "Measured on {day}, on a {kind}: {cpu}, {cores} cores, {memory} MB, Linux {kernel}; {postgres}."
    ))
}
