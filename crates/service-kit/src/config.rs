//! Configuration from the environment: read once, through a lookup, with every fault in one message.

mod env;

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use hyper::Uri;
use ipnet::IpNet;
use tokio_postgres::config::SslMode;
use tracing_subscriber::filter::Targets;

pub use self::env::{ConfigError, Env, Setting};
use crate::workload::Mode;

/// The settings that all services have.
#[derive(Debug, Clone)]
pub struct KitConfig {
    /// `LISTEN`: the public listener.
    pub listen: SocketAddr,
    /// `ADMIN_LISTEN`: the admin listener.
    pub admin_listen: SocketAddr,
    /// `LOG`: which log lines are written, by level and target.
    pub log: Targets,
    /// `ENVIRONMENT`: where this runs, e.g. local, staging, production.
    pub environment: String,
    /// `HEALTH_STALL`: without progress of the public runtime for so long, /health answers 503.
    pub health_stall: Duration,
    /// `SHUTDOWN_DELAY`: from not ready to no more connections, while endpoints are taken away.
    pub shutdown_delay: Duration,
    /// `SHUTDOWN_GRACE`: how long requests in flight, and all other work, may take after that.
    pub shutdown_grace: Duration,
    /// `MAX_CONNECTIONS`: open connections; for a further one the one is closed that has waited for longest.
    pub max_connections: usize,
    /// `MAX_IN_FLIGHT`: requests at work; further ones are answered 503.
    pub max_in_flight: usize,
    /// `FAIR_SHARES`: does one client address hold at most an eighth of both?
    pub fair_shares: bool,
    /// `TRUSTED_PROXIES`: whose word on the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// `HEADER_TIMEOUT`: for a connection's first request, and to read a request's head.
    pub header_timeout: Duration,
    /// `IDLE_TIMEOUT`: for the next request of a connection; longer than the proxies before it keep theirs.
    pub idle_timeout: Duration,
    /// `BODY_TIMEOUT`: to read a request's body.
    pub body_timeout: Duration,
    /// `WRITE_TIMEOUT`: for a client to take what it was sent; then the connection is closed.
    pub write_timeout: Duration,
    /// `REQUEST_TIMEOUT`: for the handler; then 503.
    pub request_timeout: Duration,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: the collector, OTLP over HTTP; without it no span leaves.
    pub otlp_endpoint: Option<Uri>,
    /// `TRACE_RATIO`: the share of traces begun here that are sampled.
    pub trace_ratio: f64,
    /// `IMAGE_DIGEST`: the digest of the image that this runs from, as the deployment knows it.
    pub image_digest: Option<String>,
    /// `FAULTS`: can faults be set on the admin listener? Never in production.
    pub faults: bool,
    /// `IDENTITY`: do services prove to each other who they are? Always, in production.
    pub identity: Mode,
}

/// Every address of the machine, of both families.
fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

impl KitConfig {
    /// Reads them.
    #[expect(clippy::too_many_lines, reason = "one setting after the other")]
    pub fn read(env: &mut Env<'_>) -> Self {
        let config = Self {
            listen: env.address("LISTEN", any(8080), "the public listener: [::] is IPv6 and IPv4"),
            admin_listen: env.address(
                "ADMIN_LISTEN",
                any(9090),
                "the admin listener",
            ),
            log: env.filter(
                "LOG",
                "info",
                "which log lines are written: a level, and others for targets, e.g. warn,orders=debug",
            ),
            environment: env.string(
                "ENVIRONMENT",
                "local",
                "where this runs, e.g. local, staging, production",
            ),
            health_stall: env.duration(
                "HEALTH_STALL",
                Duration::from_secs(2),
                "without progress of the public runtime for so long, /health answers 503",
            ),
            shutdown_delay: env.duration(
                "SHUTDOWN_DELAY",
                Duration::from_secs(2),
                "from not ready to no more connections, while endpoints are taken away",
            ),
            shutdown_grace: env.duration(
                "SHUTDOWN_GRACE",
                Duration::from_secs(15),
                "how long requests in flight, and all other work, may take after that",
            ),
            max_connections: env.number(
                "MAX_CONNECTIONS",
                1024,
                "open connections; for a further one the one is closed that has waited for longest",
            ),
            max_in_flight: env.number(
                "MAX_IN_FLIGHT",
                256,
                "requests at work; further ones are answered 503",
            ),
            fair_shares: env.flag(
                "FAIR_SHARES",
                false,
                "does one client address hold at most an eighth of both? Not where all clients have one address",
            ),
            trusted_proxies: env.networks(
                "TRUSTED_PROXIES",
                "networks, e.g. 10.0.0.0/8,fd00::/8, whose X-Forwarded-For tells the client's address",
            ),
            header_timeout: env.duration(
                "HEADER_TIMEOUT",
                Duration::from_secs(30),
                "for a connection's first request, and to read a request's head",
            ),
            idle_timeout: env.duration(
                "IDLE_TIMEOUT",
                Duration::from_secs(120),
                "for the next request of a connection; longer than the proxies before it keep theirs",
            ),
            body_timeout: env.duration(
                "BODY_TIMEOUT",
                Duration::from_secs(10),
                "to read a request's body",
            ),
            write_timeout: env.interval(
                "WRITE_TIMEOUT",
                Duration::from_secs(30),
                "for a client to take what it was sent; then the connection is closed",
            ),
            request_timeout: env.duration(
                "REQUEST_TIMEOUT",
                Duration::from_secs(10),
                "for the handler; then 503",
            ),
            otlp_endpoint: env.uri(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "the collector, OTLP over HTTP; without it no span leaves",
            ),
            trace_ratio: env.ratio(
                "TRACE_RATIO",
                0.01,
                "the share of traces begun here that are sampled",
            ),
            image_digest: env.optional(
                "IMAGE_DIGEST",
                "the digest of the image that this runs from, as the deployment knows it",
            ),
            faults: env.flag(
                "FAULTS",
                false,
                "can faults be set on the admin listener? Never in production",
            ),
            identity: env.choice(
                "IDENTITY",
                &[Mode::Kubernetes, Mode::Off].map(|mode| (mode.name(), mode)),
                "do services prove to each other who they are? off is for outside of a cluster, never for production",
            ),
        };
        if config.faults && config.environment == "production" {
            env.fault("FAULTS=on is refused with ENVIRONMENT=production");
        }
        if config.identity == Mode::Off && config.environment == "production" {
            env.fault("IDENTITY=off is refused with ENVIRONMENT=production");
        }
        config
    }
}

/// The settings of a service with a database.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`: libpq's connection string.
    pub url: String,
    /// `DATABASE_PASSWORD_FILE`: a file that holds the password, read for each connection.
    pub password_file: Option<String>,
    /// `DATABASE_CA_FILE`: the authorities that the database's certificate may come from; then TLS is needed.
    pub ca_file: Option<String>,
    /// `DATABASE_POOL`: connections at most.
    pub pool: usize,
    /// `DATABASE_WAIT`: how long a request waits for a connection; then 503.
    pub wait: Duration,
    /// `DATABASE_STATEMENT_TIMEOUT`: how long a statement takes at most; then the database cancels it: 503.
    pub statement_timeout: Duration,
}

impl DatabaseConfig {
    /// Reads them.
    pub fn read(env: &mut Env<'_>) -> Self {
        let config = Self {
            url: env.required(
                "DATABASE_URL",
                "how to reach PostgreSQL, e.g. host=/run/postgresql user=orders dbname=orders",
            ),
            password_file: env.optional(
                "DATABASE_PASSWORD_FILE",
                "a file that holds the password, read for each connection",
            ),
            ca_file: env.optional(
                "DATABASE_CA_FILE",
                "the authorities (PEM) that the database's certificate may come from; then TLS is needed",
            ),
            pool: env.number("DATABASE_POOL", 10, "connections at most"),
            wait: env.duration(
                "DATABASE_WAIT",
                Duration::from_secs(2),
                "how long a request waits for a connection; then 503",
            ),
            statement_timeout: env.interval(
                "DATABASE_STATEMENT_TIMEOUT",
                Duration::from_secs(10),
                "how long a statement takes at most; then the database cancels it: 503",
            ),
        };
        match config.url.parse::<tokio_postgres::Config>() {
            Err(error) => env.fault(format!("DATABASE_URL is no connection string: {error}")),
            Ok(url) if url.get_ssl_mode() == SslMode::Require && config.ca_file.is_none() => {
                env.fault("DATABASE_URL asks for TLS: DATABASE_CA_FILE must say whom to trust");
            }
            Ok(_) => {}
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn with<T>(
        settings: &[(&str, &str)],
        read: impl FnOnce(&mut Env<'_>) -> T,
    ) -> (T, Vec<String>) {
        let lookup = |name: &str| {
            settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let mut env = Env::new(&lookup);
        let value = read(&mut env);
        (value, env.finish().err().map_or_else(Vec::new, |error| error.faults))
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let settings = [
            ("LISTEN", "8080"),
            ("MAX_IN_FLIGHT", "0"),
            ("HEALTH_STALL", "2"),
            ("LOG", ""),
            ("TRACE_RATIO", "2"),
        ];
        let (_, faults) = with(&settings, KitConfig::read);
        assert_eq!(faults.len(), 5, "{faults:?}");
        assert!(faults.contains(
            &"HEALTH_STALL=2 is not a duration with a unit, at most 8760h, e.g. 500ms, 10s, 5m, 24h"
                .to_owned()
        ));
    }

    #[test]
    fn production_starts_without_faults_and_with_identity_only() {
        for (name, value) in [("FAULTS", "on"), ("IDENTITY", "off")] {
            let faults = |environment| {
                with(&[(name, value), ("ENVIRONMENT", environment)], KitConfig::read).1
            };
            assert_eq!(faults("staging"), Vec::<String>::new());
            let refused = format!("{name}={value} is refused with ENVIRONMENT=production");
            assert_eq!(faults("production"), [refused]);
        }
    }

    #[test]
    fn identity_is_not_turned_off_by_leaving_something_out_or_by_a_slip() {
        assert_eq!(with(&[], KitConfig::read).0.identity, Mode::Kubernetes);
        let (config, faults) = with(&[("IDENTITY", "Off")], KitConfig::read);
        assert_eq!(faults, ["IDENTITY=Off is not kubernetes or off"]);
        assert_eq!(config.identity, Mode::Kubernetes);
    }

    #[test]
    fn the_log_is_filtered_by_level_and_target() {
        let (config, faults) = with(&[("LOG", "warn,orders=debug")], KitConfig::read);
        assert_eq!(faults, Vec::<String>::new());
        assert!(config.log.would_enable("orders::placing", &Level::DEBUG));
        assert!(!config.log.would_enable("service_kit::run", &Level::INFO));
        let (_, faults) = with(&[("LOG", "orders=loud")], KitConfig::read);
        let expected = "LOG=orders=loud is not levels by target, e.g. info or warn,orders=debug";
        assert_eq!(faults, [expected]);
    }

    #[test]
    fn a_missing_database_url_is_a_fault() {
        let (_, faults) = with(&[], DatabaseConfig::read);
        assert!(faults[0].starts_with("DATABASE_URL is missing"), "{faults:?}");
    }

    #[test]
    fn tls_without_authorities_is_a_fault() {
        let url = ("DATABASE_URL", "host=db user=a sslmode=require");
        let (_, faults) = with(&[url], DatabaseConfig::read);
        assert_eq!(faults, ["DATABASE_URL asks for TLS: DATABASE_CA_FILE must say whom to trust"]);
        let (_, faults) = with(&[url, ("DATABASE_CA_FILE", "ca.crt")], DatabaseConfig::read);
        assert_eq!(faults, Vec::<String>::new());
    }
}
