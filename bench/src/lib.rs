//! Measures the services side by side with what people would use instead, for the program `bench`.
//!
//! [`run`] measures the table's rows; [`instructions`] and [`scale`] are commands of their own. What all build on:
//! [`rows`] (what was measured, and targets), [`process`] (cores, CPU seconds, memory), [`peers`] (who is compared),
//! [`load`], [`wrk`] and [`pgbench`] (the loads).

use std::io::{self, Write};

pub mod charts;
pub mod config;
pub mod hindrance;
pub mod ideal;
pub mod instructions;
mod kept;
pub mod load;
pub mod machine;
pub mod peers;
pub mod pgbench;
pub mod process;
pub mod report;
pub mod rows;
pub mod run;
pub mod scale;
mod server_log;
pub mod sink;
pub mod statements;
pub mod wrk;

/// Tells the user; one who has closed the output is not told, and that is no failure.
pub fn say(text: &str) {
    let _reader_is_gone = writeln!(io::stdout(), "{text}");
}

/// Tells the user how it goes, beside the output.
pub fn progress(text: &str) {
    let _reader_is_gone = writeln!(io::stderr(), "{text}");
}
