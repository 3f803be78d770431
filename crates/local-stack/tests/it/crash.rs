//! Services killed under load, and services under load for a while.

use std::time::Duration;

use local_stack::{crash, soak, state::temporary_folder};

use crate::support::settings;

#[tokio::test(flavor = "multi_thread")]
async fn two_crash_rounds_lose_and_double_nothing() {
    let rounds = [0, 1].map(|_| async {
        let state = temporary_folder().unwrap();
        crash::round(settings(state.path())).await.unwrap()
    });
    for round in futures_util::future::join_all(rounds).await {
        assert!(round.killed >= 8, "{round}");
        assert!(round.orders["confirmed"] > 10, "the round shows little: {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_counts_its_orders_and_reads_each_services_memory() {
    let state = temporary_folder().unwrap();
    let soaked = soak::soak(settings(state.path()), Duration::from_secs(5)).await.unwrap();
    assert!(soaked.orders["confirmed"] > 10, "{soaked}");
    assert_eq!(soaked.memory.len(), 3, "{soaked}");
    assert!(soaked.memory.iter().all(|(_, warm, end)| *warm > 0 && *end > 0), "{soaked}");
}
