//! Orders that all want the same item: they wait for one row.

use std::time::Instant;

use local_stack::Result;

use super::{
    page::Table,
    system::{self, System, body, body_of},
};
use crate::{config::Config, progress, statements::stock};

/// Orders whose rate is measured.
const ORDERS: u32 = 3_000;
/// Orders before the first of them.
const WARM_UP: u32 = 200;
/// How many place orders at a time.
const CLIENTS: [u32; 3] = [1, 8, 32];

/// The table.
pub(crate) async fn measure(config: &Config) -> Result<Table> {
    let mut system = System::start(config, system::folder()?, true, &[]).await?;
    let title = "One item that all want: orders per second";
    let mut table = Table::new(title, &["at a time", "of any of 1000 items", "of one item"]);
    system.place(WARM_UP, 1).await?;
    for clients in CLIENTS {
        progress(&format!("{clients} orders of one item at a time ..."));
        let any = rate(&mut system, clients, || body(1)).await?;
        let one = rate(&mut system, clients, || body_of([stock::sku(stock::FIRST)])).await?;
        table.row([clients.to_string(), any, one]);
    }
    system.stop().await?;
    Ok(table)
}

async fn rate(system: &mut System, clients: u32, body: fn() -> String) -> Result<String> {
    let clients = system.clients(clients).await?;
    let start = Instant::now();
    system.load(clients, ORDERS, body).await?;
    Ok(format!("{:.0}", f64::from(ORDERS) / start.elapsed().as_secs_f64()))
}
