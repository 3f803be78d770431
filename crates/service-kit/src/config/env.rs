//! Reading settings from the environment.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hyper::Uri;
use ipnet::IpNet;
use tracing_subscriber::filter::Targets;

/// The longest duration that can be set: a time so far ahead can still be told by every clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads settings, notes which there are, and collects what is wrong with them. Only what the process was given is looked
/// at.
pub struct Env<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    settings: Vec<Setting>,
    faults: Vec<String>,
}

/// One setting, as `--help` shows it.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// What holds without it; empty when there is nothing.
    pub default: String,
    /// What it means.
    pub meaning: &'static str,
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
        Self { lookup, settings: Vec::new(), faults: Vec::new() }
    }

    /// An optional text. Empty is a fault: it is nearly always a variable that was not filled in.
    pub fn optional(&mut self, name: &'static str, meaning: &'static str) -> Option<String> {
        self.note(name, String::new(), meaning);
        self.value(name)
    }

    /// A text with a default.
    pub fn string(&mut self, name: &'static str, default: &str, meaning: &'static str) -> String {
        self.note(name, default.to_owned(), meaning);
        self.value(name).unwrap_or_else(|| default.to_owned())
    }

    /// A text that must be there.
    pub fn required(&mut self, name: &'static str, meaning: &'static str) -> String {
        self.note(name, "needed".to_owned(), meaning);
        if (self.lookup)(name).is_none() {
            self.faults.push(format!("{name} is missing: {meaning}"));
        }
        self.value(name).unwrap_or_default()
    }

    /// A duration with its unit: `500ms`, `10s`, `5m`, `24h`; the bare number only when it is 0. At most 365 days.
    pub fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
        meaning: &'static str,
    ) -> Duration {
        self.note(name, shown(default), meaning);
        let expected = "a duration with a unit, at most 8760h, e.g. 500ms, 10s, 5m, 24h";
        self.parsed(name, default, expected, duration)
    }

    /// A duration above 0, for what would spin without a pause.
    pub fn interval(
        &mut self,
        name: &'static str,
        default: Duration,
        meaning: &'static str,
    ) -> Duration {
        self.note(name, shown(default), meaning);
        let expected = "a duration above 0 with a unit, at most 8760h, e.g. 500ms, 10s, 5m, 24h";
        self.parsed(name, default, expected, |text| duration(text).filter(|pause| !pause.is_zero()))
    }

    /// A whole number of at least 1.
    pub fn number(&mut self, name: &'static str, default: usize, meaning: &'static str) -> usize {
        self.note(name, default.to_string(), meaning);
        self.parsed(name, default, "a whole number of at least 1", |text| {
            text.parse().ok().filter(|number| *number > 0)
        })
    }

    /// A share from 0 to 1.
    pub fn ratio(&mut self, name: &'static str, default: f64, meaning: &'static str) -> f64 {
        self.note(name, default.to_string(), meaning);
        self.parsed(name, default, "a number from 0 to 1", |text| {
            text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
        })
    }

    /// An address and port to listen on.
    pub fn address(
        &mut self,
        name: &'static str,
        default: SocketAddr,
        meaning: &'static str,
    ) -> SocketAddr {
        self.note(name, default.to_string(), meaning);
        self.parsed(name, default, "an address with a port, e.g. [::]:8080", |text| {
            text.parse().ok()
        })
    }

    /// An `http://` URL without a path; none when the setting is missing.
    pub fn uri(&mut self, name: &'static str, meaning: &'static str) -> Option<Uri> {
        self.note(name, String::new(), meaning);
        self.parsed(name, None, &like("http"), |text| plain_uri(text, "http").map(Some))
    }

    /// A URL without a path, whose scheme is the default's.
    pub fn uri_or(
        &mut self,
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> Uri {
        self.note(name, default.to_owned(), meaning);
        let default = Uri::from_static(default);
        let scheme = default.scheme_str().unwrap_or("http").to_owned();
        self.parsed(name, default, &like(&scheme), |text| plain_uri(text, &scheme))
    }

    /// Networks and single addresses, with commas between them; none when the setting is missing.
    pub fn networks(&mut self, name: &'static str, meaning: &'static str) -> Vec<IpNet> {
        self.note(name, String::new(), meaning);
        let network = |text: &str| {
            let text = text.trim();
            text.parse().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()))
        };
        let expected = "networks with commas between them, e.g. 10.0.0.0/8,fd00::/8";
        self.parsed(name, Vec::new(), expected, |text| text.split(',').map(network).collect())
    }

    /// One of a few words; the first is the default.
    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
        meaning: &'static str,
    ) -> T {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.note(name, words[0].to_owned(), meaning);
        self.parsed(name, choices[0].1, &words.join(" or "), |text| {
            choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
        })
    }

    /// `on` or `off`.
    pub fn flag(&mut self, name: &'static str, default: bool, meaning: &'static str) -> bool {
        let choices =
            if default { [("on", true), ("off", false)] } else { [("off", false), ("on", true)] };
        self.choice(name, &choices, meaning)
    }

    /// Which log lines are written: a level (error, warn, info, debug, trace, off), and levels of targets.
    pub fn filter(
        &mut self,
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> Targets {
        self.note(name, default.to_owned(), meaning);
        let default = default.parse().expect("the default is a filter");
        self.parsed(name, default, "levels by target, e.g. info or warn,orders=debug", |text| {
            text.parse().ok()
        })
    }

    /// Tells of a fault that only shows when several settings are seen together.
    pub fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// The settings that were asked for, in that order.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// All faults, if there are any.
    pub fn finish(self) -> Result<(), ConfigError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ConfigError { faults: self.faults }) }
    }

    fn note(&mut self, name: &'static str, default: String, meaning: &'static str) {
        self.settings.push(Setting { name, default, meaning });
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        if value.is_empty() {
            self.faults.push(format!("{name} is empty: set it or leave it out"));
            return None;
        }
        Some(value)
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.value(name) else { return default };
        parse(&text).unwrap_or_else(|| {
            self.faults.push(format!("{name}={text} is not {expected}"));
            default
        })
    }
}

/// What a URL without a path looks like.
fn like(scheme: &str) -> String {
    format!("a URL like {scheme}://HOST or {scheme}://HOST:PORT")
}

fn plain_uri(text: &str, scheme: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let plain = uri.scheme_str() == Some(scheme) && uri.authority().is_some() && uri.path() == "/";
    plain.then_some(uri)
}

/// A duration as it would be set.
fn shown(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    match () {
        () if millis == 0 => "0".to_owned(),
        () if millis % 1000 != 0 => format!("{millis}ms"),
        () if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        () => format!("{seconds}s"),
    }
}

fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let duration = match &text[unit..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    };
    (duration <= LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

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
            ("8760h", Some(31_536_000_000)),
            ("31536000001ms", None),
            ("8761h", None),
            ("18446744073709551615s", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_duration_that_no_clock_overflows_at_or_none(text in "[0-9]{0,22}(ms|s|m|h|d)?|\\PC{0,20}") {
            if let Some(duration) = duration(&text) {
                proptest::prop_assert!(Instant::now().checked_add(duration).is_some());
                proptest::prop_assert!(tokio::time::Instant::now().checked_add(duration).is_some());
                proptest::prop_assert!(SystemTime::now().checked_add(duration).is_some());
            }
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_would_be_set() {
        for text in ["0", "250ms", "1500ms", "3s", "90s", "24h"] {
            assert_eq!(shown(duration(text).unwrap()), text);
        }
    }
}
