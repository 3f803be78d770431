//! A Prometheus that scrapes the services and itself.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use rustix::process::Signal;
use tokio::process::Command;

use crate::{
    child::{Child, Output},
    ports,
    state::State,
};

/// How long it may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
}

impl Prometheus {
    /// Starts `program` on `port`, scraping the admin listeners (service name, `http://ADDRESS`), with the rules of a
    /// folder.
    pub fn start(
        program: &Path,
        port: u16,
        state: &State,
        targets: &[(&str, &str)],
        rules: Option<&Path>,
    ) -> Result<Self> {
        let folder = state.path().join("prometheus");
        fs::create_dir_all(&folder)?;
        let file = folder.join("prometheus.yml");
        fs::write(&file, configuration(port, targets, rules))?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={}", ports::loopback(port)));
        command.arg("--storage.tsdb.retention.time=7d");
        Ok(Self { child: Child::spawn("prometheus", command, &Output::Kept)? })
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Stops it.
    pub async fn stop(&mut self) -> Result<()> {
        self.child.stop(Signal::TERM, STOP_WITHIN).await?;
        Ok(())
    }
}

/// The configuration: one job for each service, named after it.
fn configuration(port: u16, targets: &[(&str, &str)], rules: Option<&Path>) -> String {
    let own = format!("http://{}", ports::loopback(port));
    let jobs = targets.iter().copied().chain([("prometheus", own.as_str())]).map(|(job, url)| {
        let address = url.trim_start_matches("http://");
        format!("- {{job_name: {job}, static_configs: [{{targets: ['{address}']}}]}}")
    });
    let rules = rules.map_or(String::new(), |folder| format!("'{}/*.yml'", folder.display()));
    format!(
        "global: {{scrape_interval: 2s, evaluation_interval: 5s}}\nrule_files: [{rules}]\nscrape_configs:\n{}\n",
        jobs.collect::<Vec<_>>().join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_a_job_of_its_name() {
        let text = configuration(9099, &[("orders", "http://127.0.0.1:9091")], None);
        assert!(
            text.contains("{job_name: orders, static_configs: [{targets: ['127.0.0.1:9091']}]}"),
            "{text}"
        );
        assert!(
            text.contains(
                "{job_name: prometheus, static_configs: [{targets: ['127.0.0.1:9099']}]}"
            ),
            "{text}"
        );
    }
}
