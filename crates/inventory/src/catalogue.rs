//! A few items to try the system with: loaded once, into an empty store.

use std::{sync::Arc, time::Duration};

use service_kit::{database::chain, health::Latch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{ItemInput, Money},
    error::Error,
    store::Store,
};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(250);

/// SKU, name, price in cents, how many arrive.
const ITEMS: [(&str, &str, i64, i64); 8] = [
    ("BOLT-M8", "Hex bolt M8 x 40, zinc", 35, 5000),
    ("BRACKET-90", "Angle bracket 90 mm", 420, 600),
    ("CHAIN-6", "Chain 6 mm, per metre", 390, 800),
    ("HINGE-3", "Butt hinge 3 in", 275, 900),
    ("LATCH-GATE", "Gate latch, galvanised", 1290, 120),
    ("NUT-M8", "Hex nut M8", 12, 8000),
    ("PADLOCK-40", "Padlock 40 mm", 1650, 75),
    ("ROPE-10", "Rope 10 mm, per metre", 180, 2000),
];

/// Loads the items; the service is ready only afterwards.
pub async fn load(store: Store, latch: Arc<Latch>, shutdown: CancellationToken) {
    while let Some(Err(error)) = shutdown.run_until_cancelled(fill(&store)).await {
        latch.blocked(chain(&error));
        if shutdown.run_until_cancelled(sleep(RETRY)).await.is_none() {
            return;
        }
    }
    latch.release();
}

/// One transaction: all of it or nothing, whoever comes first.
async fn fill(store: &Store) -> Result<(), Error> {
    let items: Vec<_> = ITEMS
        .map(|(sku, name, minor, quantity)| {
            let unit_price = Money { minor, currency: "EUR".to_owned() };
            (sku, ItemInput { name: name.to_owned(), unit_price }, quantity)
        })
        .into();
    store.fill_if_empty(&items).await
}
