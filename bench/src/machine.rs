//! The machine that was measured on, and the versions of what was measured: a figure without them says nothing.

use std::{fs, path::Path};

use anyhow::Result;
use tokio::process::Command;

/// What a figure depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The day, in UTC.
    pub day: String,
    /// The processor's model.
    pub cpu: String,
    /// How many cores this process was given.
    pub cores: usize,
    /// Is it a virtual one?
    pub is_virtual: bool,
    /// Memory in MB.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// Reads it from `/proc`.
    pub async fn read(cores: usize) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let flags = field(&cpuinfo, "flags");
        let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal");
        let memory = memory.trim_end_matches(" kB").parse::<u64>()?;
        Ok(Self {
            day: first_line("date", &["-u", "+%Y-%m-%d"]).await.unwrap_or_default(),
            cpu: field(&cpuinfo, "model name"),
            cores,
            is_virtual: flags.split(' ').any(|flag| flag == "hypervisor"),
            memory: memory * 1024 / 1_000_000,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// The value of the first line `NAME : VALUE`; empty when there is none.
fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_default()
}

/// The first line that a program prints, by which it tells its version; none when it cannot be run.
pub async fn first_line(program: impl AsRef<Path>, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program.as_ref());
    let output = command.args(arguments).kill_on_drop(true).output().await.ok()?;
    // nginx tells on standard error.
    let text = String::from_utf8([output.stdout, output.stderr].concat()).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_a_name_is_taken() {
        let text = "processor\t: 0\nmodel name\t: A: B\nprocessor\t: 1\nmodel name\t: C\n";
        assert_eq!(field(text, "model name"), "A: B");
        assert_eq!(field(text, "flags"), "");
    }

    #[tokio::test]
    async fn this_machine_is_known() {
        let machine = Machine::read(2).await.unwrap();
        assert!(!machine.kernel.is_empty() && machine.memory > 0, "{machine:?}");
        assert_eq!(machine.day.len(), "2026-01-31".len());
        assert_eq!(first_line("/nowhere/at-all", &[]).await, None);
    }
}
