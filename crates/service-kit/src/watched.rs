//! Files that are read again when they change: a Secret's, or a token that the kubelet renews.

use std::{fs, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{BoxError, Kit};

/// Between two looks at a file. The kubelet renews a token long before its end.
const PAUSE: Duration = Duration::from_secs(5);

/// What a file holds now. A change that cannot be used is told in the log, and what was there before goes on.
#[derive(Debug, Clone)]
pub struct Watched<T>(watch::Receiver<Arc<T>>);

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file that the setting names, and again whenever it changes.
    ///
    /// # Errors
    /// When it cannot be read or used at the start; the message names the setting and the file.
    pub fn start(
        setting: &'static str,
        file: &str,
        parse: fn(&str) -> Result<T, BoxError>,
        kit: &Kit,
    ) -> Result<Self, BoxError> {
        let named = |error: BoxError| format!("{setting}={file}: {error}");
        let text = fs::read_to_string(file).map_err(|error| named(error.into()))?;
        let (sender, receiver) = watch::channel(Arc::new(parse(&text).map_err(named)?));
        let (file, shutdown) = (file.to_owned(), kit.shutdown.clone());
        let sender = Arc::new(sender);
        kit.supervise(setting, move || {
            let (file, shutdown) = (file.clone(), shutdown.clone());
            watch(setting, file, parse, text.clone(), Arc::clone(&sender), shutdown)
        });
        Ok(Self(receiver))
    }

    /// What it holds now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }
}

/// Reads a file again whenever it is another than `last`, until the shutdown.
async fn watch<T>(
    setting: &'static str,
    file: String,
    parse: fn(&str) -> Result<T, BoxError>,
    mut last: String,
    sender: Arc<watch::Sender<Arc<T>>>,
    shutdown: CancellationToken,
) {
    while shutdown.run_until_cancelled(sleep(PAUSE)).await.is_some() {
        // A file of a few kilobytes in memory: no thread of its own is worth it.
        let changed = fs::read_to_string(&file).map_err(BoxError::from).and_then(|text| {
            if text != last {
                last = text;
                sender.send_replace(Arc::new(parse(&last)?));
                tracing::info!(setting, file, "read again");
            }
            Ok(())
        });
        if let Err(error) = changed {
            tracing::warn!(setting, file, %error, "a change is not used");
        }
    }
}
