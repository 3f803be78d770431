//! Orders of one line to a hundred, which is the most that an order may have.

use local_stack::Result;

use super::{
    page::Table,
    system::{self, Cost, System},
};
use crate::{config::Config, progress};

/// How many lines an order has.
const LINES: [u32; 7] = [1, 2, 5, 10, 20, 50, 100];
/// Orders whose cost is measured with each number of lines.
const ORDERS: u32 = 500;
/// Orders before the first of them.
const WARM_UP: u32 = 200;

/// The table, and the cost of an order by its lines.
pub(crate) async fn measure(config: &Config) -> Result<(Table, Vec<(f64, f64)>)> {
    let mut system = System::start(config, system::folder()?, true, &[]).await?;
    let mut table = Table::new("Lines of an order: CPU milliseconds of an order", &["lines"]);
    table.head.extend(Cost::HEAD.map(str::to_owned));
    table.head.push("sum of a line".to_owned());
    let mut points = Vec::new();
    system.place(WARM_UP, 1).await?;
    for lines in LINES {
        progress(&format!("{lines} lines ..."));
        let cost = system.place(ORDERS, lines).await?;
        let of_a_line = format!("{:.2}", cost.sum() / f64::from(lines));
        table.row([lines.to_string()].into_iter().chain(cost.cells()).chain([of_a_line]));
        points.push((f64::from(lines), cost.sum()));
    }
    system.stop().await?;
    Ok((table, points))
}
