//! The three services: what each is told, and what it answers about itself.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::{process::Command, time::sleep};

use crate::{
    Result,
    child::{Child, Output},
    http,
    ports::{Port, loopback},
};

/// How long a service may take to listen.
const LISTEN_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at whether a service is ready.
const LOOK: Duration = Duration::from_millis(20);
/// What each service is told where there is no cluster.
pub const LOCAL: [(&str, &str); 3] =
    [("ENVIRONMENT", "local"), ("IDENTITY", "off"), ("SHUTDOWN_DELAY", "0")];

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The only way in.
    Gateway,
    /// Orders.
    Orders,
    /// Items and stock.
    Inventory,
}

impl Service {
    /// In the order of their start: each needs those before it.
    pub const ALL: [Self; 3] = [Self::Inventory, Self::Orders, Self::Gateway];

    /// The program's and the service's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "api-gateway",
            Self::Orders => "orders",
            Self::Inventory => "inventory",
        }
    }
}

/// A running service and where it listens.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub child: Child,
    /// The public listener, `http://ADDRESS`.
    pub url: String,
    /// The admin listener, `http://ADDRESS`.
    pub admin_url: String,
}

impl Running {
    /// Starts a service's program from `programs` and waits until it listens.
    pub async fn start(
        service: Service,
        programs: &Path,
        [public, admin]: [Port; 2],
        settings: &[(String, String)],
        output: &Output,
    ) -> Result<Self> {
        let mut command = Command::new(programs.join(service.name()));
        command.env("LISTEN", loopback(public.number).to_string());
        command.env("ADMIN_LISTEN", loopback(admin.number).to_string());
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let child = Child::spawn(service.name(), command, output)?;
        Self::listening(child, LISTEN_WITHIN).await
    }

    /// A service that was started otherwise, once it listens.
    pub async fn listening(mut child: Child, within: Duration) -> Result<Self> {
        let line = child.listening(within).await?;
        let line: Value =
            serde_json::from_str(&line).context("the log line `listening` is no JSON")?;
        let url = |field: &str| -> Result<String> {
            let address = line[field]
                .as_str()
                .with_context(|| format!("the log line `listening` has no {field}"))?;
            Ok(format!("http://{address}"))
        };
        Ok(Self { child, url: url("public")?, admin_url: url("admin")? })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// After that time, with what it says and its last lines.
    pub async fn await_ready(&self, within: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let reason = match http::get(&format!("{}/ready", self.admin_url)).await {
                Ok(reply) if reply.status.is_success() => return Ok(()),
                Ok(reply) => reply.text(),
                Err(error) => format!("{error:#}"),
            };
            if start.elapsed() > within {
                let (name, lines) = (self.child.name(), self.child.tail());
                bail!("{name} is not ready: {reason}; it printed:\n{lines}");
            }
            sleep(LOOK).await;
        }
    }
}
