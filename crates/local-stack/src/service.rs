//! The three services: what each is told, and what it answers about itself.

use std::{path::Path, time::Duration};

use anyhow::Context;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    Result,
    child::{Child, Output},
    ports::{Port, loopback},
};

/// How long a service may take to listen.
const LISTEN_WITHIN: Duration = Duration::from_secs(30);

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
        let mut child = Child::spawn(service.name(), command, output)?;
        let line = child.listening(LISTEN_WITHIN).await?;
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
}
