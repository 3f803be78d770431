//! One to five replicas of each service over one PostgreSQL: does an order cost more when they share the work?
//!
//! With the same clients each replica has fewer orders at a time than one alone would have; what that costs by itself,
//! one replica shows with fewer clients. With clients of its own each replica has as many as before.

use local_stack::Result;

use super::{
    page::Table,
    system::{self, CLIENTS, Cost, System},
};
use crate::{config::Config, progress};

/// The most replicas.
const MOST: u32 = 5;
/// Orders whose cost is measured each time.
const ORDERS: u32 = 1_500;
/// Orders of each replica before that, which open its connections to the database and have each statement planned there.
const WARM_UP: u32 = 500;

/// The table, and the cost of an order by replicas that have [`CLIENTS`] each.
pub(crate) async fn measure(config: &Config) -> Result<(Table, Vec<(f64, f64)>)> {
    let mut system = System::start(config, system::folder()?, true, &[]).await?;
    let title = "Replicas of each service: CPU milliseconds and context switches of an order";
    let mut table = Table::new(title, &["replicas", "clients in all"]);
    table.head.extend(Cost::HEAD.map(str::to_owned));
    table.head.push("context switches".to_owned());
    let mut points = Vec::new();
    for replicas in 1..=MOST {
        if replicas > 1 {
            system.add_replicas().await?;
        }
        system.place_by(CLIENTS * replicas, WARM_UP * replicas, 1).await?;
        for clients in clients(replicas) {
            progress(&format!("{replicas} replicas, {clients} clients ..."));
            let cost = system.place_by(clients, ORDERS, 1).await?;
            let first = [replicas, clients].map(|number| number.to_string());
            table.row(first.into_iter().chain(cost.cells()).chain([cost.switches.to_string()]));
            if clients == CLIENTS * replicas {
                points.push((f64::from(replicas), cost.sum()));
            }
        }
    }
    system.stop().await?;
    Ok((table, points))
}

/// The numbers of clients that so many replicas are measured with.
fn clients(replicas: u32) -> Vec<u32> {
    match replicas {
        1 => vec![1, 2, 4, CLIENTS, 2 * CLIENTS],
        _ => vec![CLIENTS, CLIENTS * replicas],
    }
}
