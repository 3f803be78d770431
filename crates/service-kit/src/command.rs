//! The command line that every service has: without an argument it runs; the rest is about its settings.

use std::{env, process::ExitCode};

use crate::{
    App, Env, Identity, Kit, KitConfig, StartError,
    config::{ConfigError, Setting},
    run,
};

/// `EX_USAGE` of sysexits.h: wrong arguments or settings.
const USAGE: u8 = 64;

/// A service's whole `main`: 0 drained, 1 failed, 64 with wrong arguments or settings.
///
/// `read` reads the service's own settings, `start` makes its own part; it may not wait for its upstreams, that is what
/// readiness is for.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]
pub fn main<C, A: App>(
    identity: Identity,
    read: fn(&mut Env<'_>) -> C,
    start: impl FnOnce(C, &Kit) -> Result<A, StartError>,
) -> ExitCode {
    let name = identity.name;
    let words: Vec<_> = env::args().skip(1).collect();
    let lookup = |name: &str| env::var(name).ok();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--help" | "-h"] => {
            print!("{}", help(identity, read));
            return ExitCode::SUCCESS;
        }
        ["--version" | "-V"] => {
            println!("{name} {} ({})", identity.version, identity.revision);
            return ExitCode::SUCCESS;
        }
        ["--check-config"] => {
            return match configuration(&lookup, read) {
                Ok(_) => {
                    println!("{name}: the configuration is valid");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("{name}: {error}");
                    ExitCode::from(USAGE)
                }
            };
        }
        _ => {
            eprintln!(
                "{name}: {} is not understood; there are --help, --version and --check-config",
                words.join(" ")
            );
            return ExitCode::from(USAGE);
        }
    }
    match configuration(&lookup, read) {
        Ok((config, own)) => run::run(identity, config, |kit| start(own, kit)),
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn configuration<C>(
    lookup: &dyn Fn(&str) -> Option<String>,
    read: fn(&mut Env<'_>) -> C,
) -> Result<(KitConfig, C), ConfigError> {
    let mut env = Env::new(lookup);
    let config = (KitConfig::read(&mut env), read(&mut env));
    env.finish().map(|()| config)
}

/// Every setting with its default and meaning, noted while they are read from nothing.
fn help<C>(identity: Identity, read: fn(&mut Env<'_>) -> C) -> String {
    let mut env = Env::new(&|_| None);
    let _defaults = (KitConfig::read(&mut env), read(&mut env));
    let line = |setting: &Setting| {
        let default = if setting.default.is_empty() { "-" } else { &setting.default };
        format!("  {:<28} {default:<24} {}\n", setting.name, setting.meaning)
    };
    format!(
        "{}: {}\n\nUsage: {0} [--help | --version | --check-config]\n\nSettings, from the environment only:\n  {:<28} {:<24} meaning\n{}",
        identity.name,
        identity.about,
        "name",
        "default",
        env.settings().iter().map(line).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_setting_with_default_and_meaning() {
        let identity = Identity { name: "n", about: "a", version: "1", revision: "r" };
        let help = help(identity, |env| env.flag("OWN_SETTING", true, "of the service itself"));
        for expected in
            ["HEALTH_STALL", "2s", "MAX_IN_FLIGHT", "256", "OWN_SETTING", "of the service itself"]
        {
            assert!(help.contains(expected), "{help}");
        }
    }

    #[test]
    fn every_fault_of_both_parts_is_told_at_once() {
        let lookup = |name: &str| matches!(name, "LISTEN" | "OWN").then(|| "wrong".to_owned());
        let faults = configuration(&lookup, |env| env.flag("OWN", true, "")).unwrap_err().faults;
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
