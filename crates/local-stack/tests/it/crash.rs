//! Services killed under load.

use local_stack::{crash, state::temporary_folder};

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
