//! What PostgreSQL is asked for one request, as pgbench's scripts: what the rows of the database are held against.
//!
//! An order's script is written from PostgreSQL's own log, so it always has what the services really send: each statement,
//! in the same transactions, in the same order. What a run would ask for anew each time (the order's id, its key, the
//! item) is an expression of pgbench's variables. Statements that the services send together are sent one after the other
//! by pgbench. An item's is the plain SELECT, written by hand: it is the measure for what inventory does in its place.

mod log;
mod script;
pub mod stock;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use local_stack::{Settings, Stack, postgres::connect, state};
use serde_json::json;
use tokio::time::sleep;
use tokio_postgres::Client;

use self::script::Typed;
use crate::{config::Config, say, server_log};

/// What begins a script.
const HEAD: &str = "\
-- What PostgreSQL is asked for, as its own log shows it. Written by `bench statements`: do not edit.
";
/// The number of an order, which no other run of any client has: twelve digits, the later the larger.
const NUMBER: &str = "\\set turn :turn + 1\n\\set order 100000000000 + :turn * 1000 + :client_id\n";
/// As [`order`] makes it.
const KEY: &str = "'order-' || :order::text";
/// The later the larger, as those of the services (version 7) are.
const ID: &str = "'00000000-0000-7000-8000-' || :order::text";
/// As [`stock::sku`] makes it.
const SKU: &str = "'SKU-' || :item::text";

/// What ends the part of the log that is looked at.
const END: &str = "SELECT 'the watched requests are over'";
/// How long the log may take to be written so far.
const LOGGED_WITHIN: Duration = Duration::from_secs(20);

/// Reads one item; written by hand.
const ITEM: &str = include_str!("../statements/item.sql");
/// Places one order, as it was seen when it was committed.
const ORDER: &str = include_str!("../statements/order.sql");

/// The scripts, with the order's as it was seen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripts {
    order: String,
}

impl Scripts {
    /// Each with its file's name.
    pub fn files(&self) -> [(&'static str, &str); 2] {
        [("item.sql", ITEM), ("order.sql", &self.order)]
    }

    /// Does it ask for what the committed one does?
    pub fn is_as_committed(&self) -> bool {
        script::normal(&self.order) == script::normal(ORDER)
    }

    /// Writes them into a folder, and makes it where it is missing.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for (name, script) in self.files() {
            let file = folder.join(name);
            fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

/// `bench statements`: writes them into `statements` below `--out`, or prints them.
pub fn main(flags: lexopt::Parser) -> Result<()> {
    let Some(config) = Config::read(flags)? else {
        say(crate::config::HELP);
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let scripts = runtime.block_on(watch(&config.programs, &config.postgres))?;
    match &config.out {
        Some(folder) => scripts.write(&folder.join("statements"))?,
        None => scripts
            .files()
            .into_iter()
            .for_each(|(name, script)| say(&format!("-- {name}\n{script}"))),
    }
    Ok(())
}

/// An order's key and body: one line, one piece.
pub fn order(number: u64, sku: &str) -> (String, String) {
    let body = json!({"customer": "bench", "lines": [{"sku": sku, "quantity": 1}]});
    (format!("order-{number:012}"), body.to_string())
}

/// Places an order on a stack of its own, and sees what PostgreSQL is asked for.
pub async fn watch(programs: &Path, postgres: &Path) -> Result<Scripts> {
    let folder = state::temporary_folder()?;
    let all = [("log_statement", "all")];
    let log = server_log::prepare(postgres, folder.path(), None, &all).await?;
    let stack = Stack::start(Settings::new(programs, postgres, folder.path())).await?;
    let scripts = ask(&stack, &log).await;
    stack.stop().await?;
    scripts
}

async fn ask(stack: &Stack, log: &Path) -> Result<Scripts> {
    let databases: BTreeMap<_, _> = BTreeMap::from([
        ("inventory", connect(&stack.database_url("inventory")).await?),
        ("orders", connect(&stack.database_url("orders")).await?),
    ]);
    stock::fill(&databases["inventory"]).await?;
    place(stack, 0, "SKU-1000").await?; // the first one may find connections and statements that are not there yet
    let (key, id) = place(stack, 1, "SKU-1234").await?;
    databases["orders"].batch_execute(END).await?;
    let statements = log::statements(&logged(log).await?)?;
    let variables = [("SKU-1234", SKU), (key.as_str(), KEY), (&id, ID)];
    let statements = log::of_request(&statements, &variables.map(|(value, _)| value))?;
    ensure!(!statements.is_empty(), "PostgreSQL's log has no statement of the request");
    let mut all = Vec::new();
    for statement in statements {
        all.push(typed(&databases, statement).await?);
    }
    let item = format!("\\set item random({}, {})\n", stock::FIRST, stock::LAST);
    Ok(Scripts { order: script::write(&format!("{HEAD}{NUMBER}{item}"), &all, &variables) })
}

/// Places an order through the gateway; its key and its id.
async fn place(stack: &Stack, number: u64, sku: &str) -> Result<(String, String)> {
    let (key, body) = order(number, sku);
    let reply = stack.api_client().place(&key, body).await?;
    let status = reply.json()["status"].as_str().map(str::to_owned);
    ensure!(status.as_deref() == Some("confirmed"), "an order is not confirmed: {}", reply.text());
    let id = reply.header("location").rsplit('/').next().map(str::to_owned);
    Ok((key, id.context("an order has no place")?))
}

/// The log until [`END`].
async fn logged(file: &Path) -> Result<String> {
    let mut waited = Duration::ZERO;
    loop {
        let log =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        if let Some((until, _)) = log.split_once(END) {
            return Ok(until
                .rsplit_once('\n')
                .map_or(String::new(), |(lines, _)| lines.to_owned()));
        }
        ensure!(waited < LOGGED_WITHIN, "PostgreSQL's log does not come to an end");
        let pause = Duration::from_millis(50);
        sleep(pause).await;
        waited += pause;
    }
}

/// A statement, with the types that PostgreSQL takes its parameters for.
async fn typed(databases: &BTreeMap<&str, Client>, statement: log::Statement) -> Result<Typed> {
    if statement.parameters.is_empty() {
        return Ok(Typed { statement, types: Vec::new() });
    }
    let name = statement.database.as_str();
    let client = databases.get(name).with_context(|| format!("a request uses database {name}"))?;
    let prepared = client.prepare(&statement.sql).await?;
    let types = prepared.params().iter().map(|kind| kind.name().to_owned()).collect();
    Ok(Typed { statement, types })
}

#[cfg(test)]
mod tests {
    use std::{env, path::PathBuf};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_committed_script_is_what_the_services_ask_for() {
        let folder = |variable: &str| {
            PathBuf::from(env::var(variable).unwrap_or_else(|_| {
                panic!("set {variable}: CONTRIBUTING.md says how the tests are run")
            }))
        };
        let (programs, postgres) = (folder("STOCKYARD_BIN_DIR"), folder("STOCKYARD_POSTGRES_DIR"));
        let scripts = watch(&programs, &postgres).await.unwrap();
        assert!(
            scripts.is_as_committed(),
            "renew it by `nix run .#bench -- statements --out bench`; now it is:\n{}",
            scripts.order
        );
    }
}
