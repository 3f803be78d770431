//! The ports on loopback, and what to do when one is taken.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, anyhow};

use crate::Result;

/// A port and the variable that chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The environment variable.
    pub variable: &'static str,
    /// The port; 0 takes any free one.
    pub number: u16,
}

/// The ports of all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// api-gateway's public and admin port.
    pub gateway: [Port; 2],
    /// orders' public and admin port.
    pub orders: [Port; 2],
    /// inventory's public and admin port.
    pub inventory: [Port; 2],
    /// Prometheus' port.
    pub prometheus: Port,
}

impl Ports {
    /// The documented ports, each changed by its variable.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let port = |variable, default| -> Result<Port> {
            let number = match lookup(variable) {
                Some(text) => text
                    .parse()
                    .with_context(|| format!("{variable}={text} is no port (0 to 65535)"))?,
                None => default,
            };
            Ok(Port { variable, number })
        };
        Ok(Self {
            gateway: [port("GATEWAY_PORT", 8080)?, port("GATEWAY_ADMIN_PORT", 9090)?],
            orders: [port("ORDERS_PORT", 8081)?, port("ORDERS_ADMIN_PORT", 9091)?],
            inventory: [port("INVENTORY_PORT", 8082)?, port("INVENTORY_ADMIN_PORT", 9092)?],
            prometheus: port("PROMETHEUS_PORT", 9099)?,
        })
    }

    /// Any free port for every part, for tests that run side by side.
    pub fn any() -> Self {
        Self::from_lookup(|_| Some("0".to_owned())).expect("0 is a port")
    }

    /// Fails when one is taken, and says which and how to choose another.
    pub fn check_free(&self) -> Result<()> {
        let all = [self.gateway, self.orders, self.inventory].concat();
        for port in all.iter().chain([&self.prometheus]) {
            let address = loopback(port.number);
            TcpListener::bind(address).map_err(|error| {
                anyhow!(
                    "port {} is taken ({error}): choose another by {}=PORT",
                    port.number,
                    port.variable
                )
            })?;
        }
        Ok(())
    }
}

/// That port on loopback.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A port that is free now; for a program that cannot take any and tell.
pub fn free() -> Result<u16> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_variable() {
        let taken = TcpListener::bind(loopback(0)).unwrap();
        let number = taken.local_addr().unwrap().port();
        let mut ports = Ports::any();
        ports.orders[0].number = number;
        let message = ports.check_free().unwrap_err().to_string();
        assert!(message.contains(&format!("port {number} is taken")), "{message}");
        assert!(message.ends_with("choose another by ORDERS_PORT=PORT"), "{message}");
    }

    #[test]
    fn a_value_that_is_no_port_is_refused() {
        let lookup = |name: &str| (name == "GATEWAY_PORT").then(|| "80800".to_owned());
        let message = Ports::from_lookup(lookup).unwrap_err().to_string();
        assert_eq!(message, "GATEWAY_PORT=80800 is no port (0 to 65535)");
    }
}
