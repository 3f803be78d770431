//! Orders in the tables, from a thousand to a million: what each of the services' statements takes, and how it is planned.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::{Result, Service, postgres::connect};
use tokio::time::sleep;
use tokio_postgres::Client;

use super::{
    page::Table,
    plans::{self, Plans, Run, Runs, faults, median},
    system::{self, Cost, System, body, order, order_again},
};
use crate::{config::Config, kept::Kept, progress, rows::thousands, statements::stock};

/// How many orders there are.
const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Orders whose cost is measured at each size.
const ORDERS: u32 = 500;
/// Orders before the first of them.
const WARM_UP: u32 = 200;
/// How often what a client can ask for is asked while plans are logged.
const TURNS: u32 = 40;
/// How long the services are left to their own statements: each of their workers has had a turn by then.
const WORKERS: Duration = Duration::from_secs(10);
/// How much the pages that a statement looks at may grow: some levels of each index that it goes down.
const PAGES: u64 = 8;
/// Tables that grow with the orders: database, table, the column that tells the order, and what is new in a copy of a row.
const TABLES: [(&str, &str, &str, &str); 4] = [
    ("orders", "orders", "id", "'id', made.id"),
    (
        "orders",
        "idempotency_keys",
        "order_id",
        // Not yet to be forgotten: the worker forgets what is seconds old here, so that its statement is seen.
        "'order_id', made.id, 'key', 'filled-' || number, 'created_at', now() + interval '1 day'",
    ),
    ("inventory", "reservations", "order_id", "'order_id', made.id"),
    ("inventory", "reservation_lines", "order_id", "'order_id', made.id"),
];
/// The services' workers in a hurry.
const HURRY: [(&str, &str); 3] =
    [("SWEEP_INTERVAL", "1s"), ("RESUME_INTERVAL", "1s"), ("IDEMPOTENCY_TTL", "3s")];

/// What was seen at one size.
#[derive(Debug)]
struct Seen {
    orders: u32,
    bytes: f64,
    cost: Cost,
    runs: Runs,
}

/// What was measured, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The cost of an order, and each statement's pages and time.
    pub(crate) tables: [Table; 2],
    /// Orders in the table, and the cost of one more.
    pub(crate) points: Vec<(f64, f64)>,
    /// Plans that do not stay flat.
    pub(crate) faults: Vec<String>,
}

/// Measures.
pub(crate) async fn measure(config: &Config) -> Result<Rows> {
    let folder = system::folder()?;
    let log = plans::prepare(&config.postgres, folder.path()).await?;
    let mut system = System::start(config, folder, false, &HURRY).await?;
    let admin = |database: &str| {
        let url = system.stack.database_url(database);
        url.replace(&format!("user={database}"), "user=postgres")
    };
    let mut plans = Plans::new(&admin("orders"), log).await?;
    let databases = BTreeMap::from([
        ("orders", connect(&admin("orders")).await?),
        ("inventory", connect(&admin("inventory")).await?),
    ]);
    let template = placed(&system, &databases["orders"]).await?;
    system.place(WARM_UP, 1).await?;
    let mut seen = Vec::new();
    let mut filled = 0;
    for size in SIZES {
        progress(&format!("{size} orders ..."));
        fill(&databases, &template, filled + 1..=size).await?;
        filled = size;
        let bytes = bytes(&databases, size).await?;
        let cost = system.place(ORDERS, 1).await?;
        plans.since()?;
        plans.log(true).await?;
        ask(&system, &databases["orders"], filled).await?;
        plans.log(false).await?;
        seen.push(Seen { orders: size, bytes, cost, runs: plans.since()? });
    }
    system.stop().await?;
    conclude(&seen)
}

/// An order to make copies of: its id. Its key must not be forgotten before the copies are made.
async fn placed(system: &System, orders: &Client) -> Result<String> {
    let mut gateway = Kept::open(system.stack.url(Service::Gateway)).await?;
    let answer = order(&mut gateway, system.stack.api_key(), &body(1)).await?;
    let id = answer["id"].as_str().context("an order has no id")?;
    let keep = "UPDATE idempotency_keys SET created_at = now() + interval '1 day' WHERE order_id = $1::text::uuid";
    ensure!(orders.execute(keep, &[&id]).await? == 1, "the order to copy has no key");
    Ok(id.to_owned())
}

/// Copies an order's rows to new ids, whatever columns they have.
async fn fill(
    databases: &BTreeMap<&str, Client>,
    template: &str,
    numbers: RangeInclusive<u32>,
) -> Result<()> {
    let (from, to) = (numbers.start(), numbers.end());
    for (database, table, order, new) in TABLES {
        let client = &databases[database];
        let id = id("number");
        let copy = format!(
            "INSERT INTO {table} SELECT copy.*
                FROM {table} AS row, generate_series({from}, {to}) AS number,
                    LATERAL (SELECT {id}) AS made (id),
                    LATERAL jsonb_populate_record(row, jsonb_build_object({new})) AS copy
                WHERE row.{order} = '{template}'"
        );
        // What a row refers to is filled too, so nothing is looked up for it.
        client.batch_execute("SET session_replication_role = replica").await?;
        let copies = client.execute(&copy, &[]).await;
        let copies = copies.with_context(|| format!("cannot fill {table}"))?;
        ensure!(copies == u64::from(to - from + 1), "{table} got {copies} rows for {from} to {to}");
        client.batch_execute(&format!("VACUUM (ANALYZE) {table}")).await?;
        client.batch_execute("CHECKPOINT").await?; // or its writing would be of the orders that follow
    }
    Ok(())
}

/// The id of a copy by its number, as SQL: version 7, in the order of the numbers, from long ago.
fn id(number: &str) -> String {
    let began: u64 = 1_700_000_000_000;
    format!(
        "(lpad(to_hex({began} + {number}), 12, '0') || '7' || lpad(to_hex({number} % 4096), 3, '0') || '8' || left(md5({number}::text), 15))::uuid"
    )
}

/// Asks for all that a client can ask for, some times, and lets the workers have their turns.
async fn ask(system: &System, admin: &Client, filled: u32) -> Result<()> {
    let mut gateway = Kept::open(system.stack.url(Service::Gateway)).await?;
    let api_key = system.stack.api_key();
    let authorization = format!("Bearer {api_key}");
    let headers = [("authorization", authorization.as_str())];
    for turn in 0..TURNS {
        let (key, body) = (uuid::Uuid::new_v4().to_string(), body(1));
        let placed = order_again(&mut gateway, api_key, &key, &body).await?;
        order_again(&mut gateway, api_key, &key, &body).await?;
        let placed = placed["id"].as_str().context("an order has no id")?;
        let sql = format!("SELECT ({})::text", id(&fastrand::u32(1..=filled).to_string()));
        let any: String = admin.query_one(&sql, &[]).await?.get(0);
        let gets = [
            format!("/api/v1/orders/{any}"),
            "/api/v1/orders".to_owned(),
            format!("/api/v1/orders?page_token={}", page_token(&any)),
            format!("/api/v1/items/{}", stock::any()),
            "/api/v1/items".to_owned(),
        ];
        for path in gets {
            gateway.ask((Method::GET, &path), &headers, "", StatusCode::OK).await?;
        }
        if turn % 2 == 0 {
            let cancel = format!("/api/v1/orders/{placed}/cancel");
            gateway.ask((Method::POST, &cancel), &headers, "", StatusCode::OK).await?;
        }
    }
    sleep(WORKERS).await;
    Ok(())
}

/// The token of the page after an order, as service-kit makes it.
fn page_token(id: &str) -> String {
    id.bytes().fold("1".to_owned(), |token, byte| format!("{token}{byte:02x}"))
}

/// Bytes on the disk of one order's rows with their indexes.
async fn bytes(databases: &BTreeMap<&str, Client>, orders: u32) -> Result<f64> {
    let mut sum = 0;
    for (database, table, ..) in TABLES {
        let sql = "SELECT pg_total_relation_size($1::text::regclass)";
        let size: i64 = databases[database].query_one(sql, &[&table]).await?.get(0);
        sum += size;
    }
    #[expect(clippy::cast_precision_loss, reason = "sizes in bytes are far below 2^52")]
    Ok(sum as f64 / f64::from(orders))
}

fn conclude(seen: &[Seen]) -> Result<Rows> {
    let (first, last) = seen.first().zip(seen.last()).context("nothing was measured")?;
    let growing = TABLES.map(|(_, table, ..)| table);
    Ok(Rows {
        tables: [costs(seen), statements(seen)],
        points: seen.iter().map(|seen| (f64::from(seen.orders), seen.cost.sum())).collect(),
        faults: faults(&first.runs, &last.runs, &growing, PAGES)?,
    })
}

fn costs(seen: &[Seen]) -> Table {
    let mut table =
        Table::new("Orders in the table: CPU milliseconds of one more order", &["orders"]);
    table.head.extend(Cost::HEAD.map(str::to_owned));
    table.head.push("bytes on disk of an order".to_owned());
    for seen in seen {
        let bytes = format!("{:.0}", seen.bytes);
        table.row([thousands(seen.orders)].into_iter().chain(seen.cost.cells()).chain([bytes]));
    }
    table
}

/// Every statement that was seen at the largest size.
fn statements(seen: &[Seen]) -> Table {
    let mut table = Table::new(
        "Orders in the table: pages that each statement looks at, microseconds that it takes (medians)",
        &["statement", "by"],
    );
    for unit in ["pages", "us"] {
        table.head.extend(seen.iter().map(|seen| format!("{unit} at {}", thousands(seen.orders))));
    }
    let Some(last) = seen.last() else { return table };
    for (statement, runs) in &last.runs {
        let (database, text) = statement;
        let at = |show: &dyn Fn(&[Run]) -> Option<String>| -> Vec<String> {
            let cell = |seen: &Seen| seen.runs.get(statement).and_then(|runs| show(runs));
            seen.iter().map(|seen| cell(seen).unwrap_or_else(|| "-".to_owned())).collect()
        };
        let pages = at(&|runs| median(runs, |run| run.pages).map(|pages| pages.to_string()));
        let times = at(&|runs| {
            median(runs, |run| run.milliseconds).map(|time| format!("{:.0}", time * 1000.0))
        });
        let by = runs.iter().flat_map(|run| run.access.clone()).collect::<BTreeSet<_>>();
        let by = by.into_iter().collect::<Vec<_>>().join(", ");
        let text = format!("{database}: `{}`", shortened(text));
        table.row([text, by].into_iter().chain(pages).chain(times));
    }
    table
}

/// A statement's begin and end.
fn shortened(text: &str) -> String {
    const KEPT: usize = 44;
    let letters: Vec<char> = text.replace('|', "/").chars().collect();
    if letters.len() <= 2 * KEPT + 5 {
        return letters.iter().collect();
    }
    let begin: String = letters[..KEPT].iter().collect();
    let end: String = letters[letters.len() - KEPT..].iter().collect();
    format!("{begin} ... {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_statement_is_shown_by_its_begin_and_end() {
        assert_eq!(shortened("SELECT 'a' || b"), "SELECT 'a' // b");
        let long = format!("SELECT {} FROM orders", "column, ".repeat(40));
        let shown = shortened(&long);
        assert!(shown.starts_with("SELECT column, ") && shown.ends_with(" FROM orders"), "{shown}");
        assert!(shown.len() < 100, "{shown}");
    }

    #[test]
    fn statements_stand_with_their_pages_and_times_at_each_size() {
        let cost = Cost { gateway: 0.5, orders: 1.0, inventory: 1.5, postgres: 2.0, switches: 9 };
        let run = |pages, milliseconds| Run {
            milliseconds,
            pages,
            access: ["Index Scan orders_pkey".to_owned()].into(),
        };
        let runs =
            |run: Run| Runs::from([(("orders".to_owned(), "SELECT 1".to_owned()), vec![run])]);
        let seen = [
            Seen { orders: 1_000, bytes: 900.0, cost, runs: runs(run(3, 0.02)) },
            Seen { orders: 1_000_000, bytes: 800.0, cost, runs: runs(run(4, 0.03)) },
        ];
        let rows = conclude(&seen).unwrap();
        let expected = ["orders: `SELECT 1`", "Index Scan orders_pkey", "3", "4", "20", "30"];
        assert_eq!(rows.tables[1].rows, [expected.map(str::to_owned).to_vec()]);
        assert_eq!(rows.points, [(1_000.0, 5.0), (1_000_000.0, 5.0)]);
        assert_eq!(rows.faults, Vec::<String>::new());
    }
}
