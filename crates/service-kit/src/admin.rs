//! The admin listener: on a thread and runtime of its own, so that an overloaded or frozen public one fails no probe.

use std::{io, net::SocketAddr, thread, time::Duration};

use tokio::{runtime, sync::oneshot, task, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    pages::Pages,
    server::{Bound, Connections, Limits},
};

/// Its own bounds: probes and a scraper, no more.
const LIMITS: Limits = Limits {
    connections: 64,
    header: Duration::from_secs(30),
    idle: Duration::from_secs(120),
    write: Duration::from_secs(30),
};
/// For requests in flight once it stops.
const GRACE: Duration = Duration::from_millis(500);

/// A running admin listener.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: thread::JoinHandle<()>,
}

impl Admin {
    /// Binds and starts it.
    pub async fn start(address: SocketAddr, pages: Pages) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let (report, bound) = oneshot::channel();
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let served =
                runtime.map(|runtime| runtime.block_on(serve(address, pages, report, stopped)));
            if let Err(error) = served {
                tracing::error!(%error, "the admin listener has no runtime");
            }
        })?;
        let address =
            bound.await.map_err(|_| io::Error::other("the admin thread ended at its start"))??;
        Ok(Self { address, stop, thread })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops it, last of all: probes are answered through the whole drain.
    pub async fn stop(self) {
        self.stop.cancel();
        let _joined = task::spawn_blocking(|| self.thread.join()).await;
    }
}

async fn serve(
    address: SocketAddr,
    pages: Pages,
    report: oneshot::Sender<io::Result<SocketAddr>>,
    stopped: impl Future<Output = ()>,
) {
    let bound = match Bound::bind(address) {
        Ok(bound) => bound,
        Err(error) => {
            let _starter_is_gone = report.send(Err(error));
            return;
        }
    };
    let _starter_is_gone = report.send(Ok(bound.local_addr()));
    let handler = move |request, _| {
        let pages = pages.clone();
        async move {
            let answer = pages.admin(request).await;
            Ok(answer.unwrap_or_else(|problem| problem.into_response("")))
        }
    };
    let until = async {
        stopped.await;
        Instant::now() + GRACE
    };
    bound.run(Connections::new(LIMITS), handler, until).await;
}
