//! What a probe pod runs: which of some addresses take a connection. `e2e reach HOST:PORT...`

use std::{env, time::Duration};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::Result;

/// Before that a new pod may be cut off, or not yet be, until all that enforces policies knows it.
const SETTLED: Duration = Duration::from_secs(6);
/// After this the way is shut. A first packet that is lost is sent again after one second.
const WITHIN: Duration = Duration::from_secs(4);

/// Tries all addresses of the command line at once, and prints those that are open as JSON.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let open = runtime.block_on(open(env::args().skip(2)));
    #[expect(clippy::print_stdout, reason = "the pod's log is how the answer comes out")]
    {
        println!("{}", serde_json::to_string(&open)?);
    }
    Ok(())
}

async fn open(addresses: impl Iterator<Item = String>) -> Vec<String> {
    sleep(SETTLED).await;
    let mut tries = JoinSet::new();
    for address in addresses {
        tries.spawn(async move {
            let connected = timeout(WITHIN, TcpStream::connect(&address)).await;
            matches!(connected, Ok(Ok(_))).then_some(address)
        });
    }
    let mut open: Vec<_> = tries.join_all().await.into_iter().flatten().collect();
    open.sort();
    open
}
