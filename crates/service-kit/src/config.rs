//! Configuration from the environment: read once, through a lookup, with every fault in one message.

use std::{fmt, net::SocketAddr, time::Duration};

use hyper::Uri;

/// Reads settings and collects what is wrong with them. Only what the process was given is looked at.
pub struct Env<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
}

impl fmt::Debug for Env<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Env").field("faults", &self.faults).finish_non_exhaustive()
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} fault(s):\n  {}", faults.len(), faults.join("\n  "))]
pub struct ConfigError {
    /// One sentence a fault, beginning with the setting's name.
    pub faults: Vec<String>,
}

impl<'a> Env<'a> {
    /// Reads through `lookup`, the process' environment or a test's map.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, faults: Vec::new() }
    }

    /// An optional text. Empty is a fault: it is nearly always a variable that was not filled in.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        if value.is_empty() {
            self.faults.push(format!("{name} is empty: set it or leave it out"));
            return None;
        }
        Some(value)
    }

    /// A text with a default.
    pub fn string(&mut self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// A text that must be there.
    pub fn required(&mut self, name: &str, meaning: &str) -> String {
        let missing = (self.lookup)(name).is_none();
        if missing {
            self.faults.push(format!("{name} is missing: {meaning}"));
        }
        self.optional(name).unwrap_or_default()
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.optional(name) else { return default };
        parse(&text).unwrap_or_else(|| {
            self.faults.push(format!("{name}={text} is not {expected}"));
            default
        })
    }

    /// A duration with its unit: `500ms`, `10s`, `5m`, `24h`; the bare number only when it is 0.
    pub fn duration(&mut self, name: &str, default: Duration) -> Duration {
        self.parsed(name, default, "a duration with a unit, e.g. 500ms, 10s, 5m, 24h", duration)
    }

    /// A duration above 0, for what would spin without a pause.
    pub fn interval(&mut self, name: &str, default: Duration) -> Duration {
        let expected = "a duration above 0 with a unit, e.g. 500ms, 10s, 5m, 24h";
        self.parsed(name, default, expected, |text| duration(text).filter(|pause| !pause.is_zero()))
    }

    /// A whole number of at least 1.
    pub fn number(&mut self, name: &str, default: usize) -> usize {
        self.parsed(name, default, "a whole number of at least 1", |text| {
            text.parse().ok().filter(|number| *number > 0)
        })
    }

    /// A share from 0 to 1.
    pub fn ratio(&mut self, name: &str, default: f64) -> f64 {
        self.parsed(name, default, "a number from 0 to 1", |text| {
            text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
        })
    }

    /// An address and port to listen on.
    pub fn address(&mut self, name: &str, default: SocketAddr) -> SocketAddr {
        self.parsed(name, default, "an address with a port, e.g. 0.0.0.0:8080", |text| {
            text.parse().ok()
        })
    }

    /// An `http://` URL without a path; none when the setting is missing.
    pub fn uri(&mut self, name: &str) -> Option<Uri> {
        self.parsed(name, None, "a URL like http://HOST or http://HOST:PORT", |text| {
            let uri: Uri = text.parse().ok()?;
            let plain =
                uri.scheme_str() == Some("http") && uri.authority().is_some() && uri.path() == "/";
            plain.then_some(Some(uri))
        })
    }

    /// `on` or `off`.
    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        self.parsed(name, default, "on or off", |text| match text {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        })
    }

    /// Tells of a fault that only shows when several settings are seen together.
    pub fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// All faults, if there are any.
    pub fn finish(self) -> Result<(), ConfigError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ConfigError { faults: self.faults }) }
    }
}

fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

/// The settings that all services have.
#[derive(Debug, Clone)]
pub struct KitConfig {
    /// `LISTEN`: the public listener.
    pub listen: SocketAddr,
    /// `ADMIN_LISTEN`: the admin listener.
    pub admin_listen: SocketAddr,
    /// `LOG`: which log lines are written, as tracing's `EnvFilter` takes it.
    pub log: String,
    /// `ENVIRONMENT`: where this runs, e.g. local, staging, production.
    pub environment: String,
    /// `HEALTH_STALL`: without progress of the public runtime for so long, /health answers 503.
    pub health_stall: Duration,
    /// `SHUTDOWN_DELAY`: from not ready to no more connections, while endpoints are taken away.
    pub shutdown_delay: Duration,
    /// `SHUTDOWN_GRACE`: how long requests in flight may take after that.
    pub shutdown_grace: Duration,
    /// `MAX_CONNECTIONS`: open connections; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// `MAX_IN_FLIGHT`: requests at work; further ones are answered 503.
    pub max_in_flight: usize,
    /// `HEADER_TIMEOUT`: to read a request's head, and for an idle connection.
    pub header_timeout: Duration,
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
    /// `FAULTS`: can faults be set on the admin listener? Never in production.
    pub faults: bool,
}

impl KitConfig {
    /// Reads them.
    pub fn read(env: &mut Env<'_>) -> Self {
        let config = Self {
            listen: env.address("LISTEN", ([0, 0, 0, 0], 8080).into()),
            admin_listen: env.address("ADMIN_LISTEN", ([0, 0, 0, 0], 9090).into()),
            log: env.string("LOG", "info"),
            environment: env.string("ENVIRONMENT", "local"),
            health_stall: env.duration("HEALTH_STALL", Duration::from_secs(2)),
            shutdown_delay: env.duration("SHUTDOWN_DELAY", Duration::from_secs(2)),
            shutdown_grace: env.duration("SHUTDOWN_GRACE", Duration::from_secs(20)),
            max_connections: env.number("MAX_CONNECTIONS", 1024),
            max_in_flight: env.number("MAX_IN_FLIGHT", 256),
            header_timeout: env.duration("HEADER_TIMEOUT", Duration::from_secs(30)),
            body_timeout: env.duration("BODY_TIMEOUT", Duration::from_secs(10)),
            write_timeout: env.interval("WRITE_TIMEOUT", Duration::from_secs(30)),
            request_timeout: env.duration("REQUEST_TIMEOUT", Duration::from_secs(10)),
            otlp_endpoint: env.uri("OTEL_EXPORTER_OTLP_ENDPOINT"),
            trace_ratio: env.ratio("TRACE_RATIO", 0.01),
            faults: env.flag("FAULTS", false),
        };
        if config.faults && config.environment == "production" {
            env.fault("FAULTS=on is refused with ENVIRONMENT=production");
        }
        config
    }
}

/// The settings of a service with a database.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`: libpq's connection string.
    pub url: String,
    /// `DATABASE_PASSWORD_FILE`: a file that holds the password.
    pub password_file: Option<String>,
    /// `DATABASE_POOL`: connections at most.
    pub pool: usize,
    /// `DATABASE_WAIT`: how long a request waits for a connection; then 503.
    pub wait: Duration,
}

impl DatabaseConfig {
    /// Reads them.
    pub fn read(env: &mut Env<'_>) -> Self {
        let config = Self {
            url: env.required(
                "DATABASE_URL",
                "how to reach PostgreSQL, e.g. host=/run/postgresql user=orders dbname=orders",
            ),
            password_file: env.optional("DATABASE_PASSWORD_FILE"),
            pool: env.number("DATABASE_POOL", 10),
            wait: env.duration("DATABASE_WAIT", Duration::from_secs(2)),
        };
        if let Err(error) = config.url.parse::<tokio_postgres::Config>() {
            env.faults.push(format!("DATABASE_URL is no connection string: {error}"));
        }
        config
    }
}

#[cfg(test)]
mod tests {
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
            &"HEALTH_STALL=2 is not a duration with a unit, e.g. 500ms, 10s, 5m, 24h".to_owned()
        ));
    }

    #[test]
    fn production_starts_without_faults_only() {
        let with_faults = |environment| {
            with(&[("FAULTS", "on"), ("ENVIRONMENT", environment)], KitConfig::read).1
        };
        assert_eq!(with_faults("staging"), Vec::<String>::new());
        assert_eq!(with_faults("production"), ["FAULTS=on is refused with ENVIRONMENT=production"]);
    }

    #[test]
    fn durations_carry_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("250ms", Some(250)),
            ("3s", Some(3000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("3", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_missing_database_url_is_a_fault() {
        let (_, faults) = with(&[], DatabaseConfig::read);
        assert!(faults[0].starts_with("DATABASE_URL is missing"), "{faults:?}");
    }
}
