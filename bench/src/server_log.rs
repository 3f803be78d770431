//! PostgreSQL's own log: what it was asked for and how it went about it, as JSON lines in a file.

use std::path::{Path, PathBuf};

use local_stack::{
    Result,
    postgres::{Postgres, connect},
    state::State,
};

/// Has the PostgreSQL of a state folder write its log into a file, from its next start, with further settings; the file.
/// Those of a library are known once it is loaded.
pub(crate) async fn prepare(
    programs: &Path,
    folder: &Path,
    library: Option<&str>,
    settings: &[(&str, &str)],
) -> Result<PathBuf> {
    let mut postgres = Postgres::start(programs, &State::open(folder)?, false).await?;
    let admin = connect(&postgres.url("postgres")).await?;
    if let Some(library) = library {
        admin.batch_execute(&format!("LOAD '{library}'")).await?;
    }
    let of_log = [
        ("logging_collector", "on"),
        ("log_destination", "jsonlog"),
        ("log_filename", "server.log"), // .json for this destination
        ("log_rotation_size", "0"),
        ("log_rotation_age", "0"),
    ];
    for (name, value) in of_log.iter().chain(settings) {
        admin.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await?;
    }
    postgres.stop().await?;
    Ok(folder.join("postgresql/log/server.json"))
}
