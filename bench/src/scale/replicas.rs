//! One to five replicas of each service over one PostgreSQL: does an order cost more when they share the work?

use local_stack::Result;

use super::{
    page::Table,
    system::{self, Cost, System},
};
use crate::{config::Config, progress};

/// The most replicas.
const MOST: u32 = 5;
/// Orders whose cost is measured with each number of replicas.
const ORDERS: u32 = 1_500;
/// Orders before that, which open connections and fill caches.
const WARM_UP: u32 = 200;

/// The table, and the cost of an order by replicas.
pub(crate) async fn measure(config: &Config) -> Result<(Table, Vec<(f64, f64)>)> {
    let mut system = System::start(config, system::folder()?, true, &[]).await?;
    let title = "Replicas of each service: CPU milliseconds of an order";
    let mut table = Table::new(title, &["replicas"]);
    table.head.extend(Cost::HEAD.map(str::to_owned));
    let mut points = Vec::new();
    for replicas in 1..=MOST {
        progress(&format!("{replicas} replicas ..."));
        if replicas > 1 {
            system.add_replicas().await?;
        }
        system.place(WARM_UP, 1).await?;
        let cost = system.place(ORDERS, 1).await?;
        table.row([replicas.to_string()].into_iter().chain(cost.cells()));
        points.push((f64::from(replicas), cost.sum()));
    }
    system.stop().await?;
    Ok((table, points))
}
