//! wrk: as many requests as come through, on connections that are kept.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::{process::Command, time::timeout};

/// Connections of a load.
pub const CONNECTIONS: usize = 32;
/// How much longer than asked for a run may take.
const MORE: Duration = Duration::from_secs(10);

/// What wrk measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Requests that were answered.
    pub requests: u64,
    /// For so long, in seconds.
    pub seconds: f64,
    /// The median latency under this load.
    pub p50: Duration,
    /// What one in a hundred exceeds.
    pub p99: Duration,
}

/// Loads a URL for so long, whole seconds, from one thread. wrk runs on the caller's cores.
///
/// # Errors
/// Also when one request was answered with an error or not at all: then the rate is of something else.
pub async fn run(wrk: &Path, url: &str, time: Duration) -> Result<Figures> {
    let mut command = Command::new(wrk);
    command.args(["--threads=1", "--latency"]).arg(format!("--connections={CONNECTIONS}"));
    command.arg(format!("--duration={}s", time.as_secs().max(1))).arg(url);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(time + MORE, command.output()).await.context("wrk does not end")?;
    let output = output.with_context(|| format!("cannot start {}", wrk.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("wrk ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    parse(&text)
}

/// Reads what wrk prints.
fn parse(output: &str) -> Result<Figures> {
    let with = |part: &str| output.lines().find(|line| line.contains(part)).map(str::trim);
    for fault in ["Socket errors:", "Non-2xx or 3xx responses:"] {
        ensure!(with(fault).is_none(), "{}", with(fault).unwrap_or_default());
    }
    let figures = || {
        let (requests, rest) = with("requests in")?.split_once(" requests in ")?;
        let latency = |percent| {
            duration(output.lines().find_map(|line| line.trim().strip_prefix(percent))?.trim())
        };
        Some(Figures {
            requests: requests.parse().ok()?,
            seconds: duration(rest.split(',').next()?)?.as_secs_f64(),
            p50: latency("50%")?,
            p99: latency("99%")?,
        })
    };
    let figures = figures().with_context(|| format!("wrk printed something else:\n{output}"))?;
    ensure!(figures.requests > 0, "no request was answered");
    Ok(figures)
}

/// A duration as wrk writes it, e.g. `603.00us`.
fn duration(text: &str) -> Option<Duration> {
    let begin = text.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(begin);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wrk 4.1.0 printed it.
    const OUTPUT: &str = "\
Running 2s test @ http://127.0.0.1:46425/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.44ms    2.88ms  23.14ms   85.50%
    Req/Sec    19.39k    13.49k   51.28k    80.00%
  Latency Distribution
     50%    0.95ms
     75%    3.57ms
     90%    6.31ms
     99%   12.54ms
  38815 requests in 2.02s, 9.14MB read
Requests/sec:  19258.12
Transfer/sec:      4.54MB
";

    #[test]
    fn requests_time_and_latencies_are_read() {
        let [p50, p99] = [950, 12_540].map(Duration::from_micros);
        let figures = Figures { requests: 38_815, seconds: 2.02, p50, p99 };
        assert_eq!(parse(OUTPUT).unwrap(), figures);
        assert_eq!(duration("1.50m"), Some(Duration::from_secs(90)));
        assert_eq!(duration("54.00us"), Some(Duration::from_micros(54)));
        assert_eq!([duration("12"), duration("1.00h"), duration("")], [None; 3]);
    }

    #[test]
    fn a_run_with_other_answers_is_no_figure() {
        for fault in [
            "  Non-2xx or 3xx responses: 5434\n",
            "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        ] {
            let output = OUTPUT.replace("Requests/sec", &format!("{fault}Requests/sec"));
            assert_eq!(parse(&output).unwrap_err().to_string(), fault.trim());
        }
        let nothing = OUTPUT.replace("38815", "0");
        assert_eq!(parse(&nothing).unwrap_err().to_string(), "no request was answered");
        let message = parse("").unwrap_err().to_string();
        assert!(message.starts_with("wrk printed something else"), "{message}");
    }

    #[tokio::test]
    async fn a_program_that_there_is_not_is_named() {
        let run = run(Path::new("/nowhere/wrk"), "http://127.0.0.1:9/", Duration::from_secs(1));
        let message = format!("{:#}", run.await.unwrap_err());
        assert!(message.starts_with("cannot start /nowhere/wrk"), "{message}");
    }
}
