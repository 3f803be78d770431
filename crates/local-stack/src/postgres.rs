//! A private PostgreSQL on a Unix socket, with a database and a role of its own for each service that keeps state.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};
use tokio_postgres::{Client, NoTls};

use crate::{
    Result,
    child::{Child, Output},
    state::{self, NOBODY, State},
};

/// The services that keep state: each is the name of a database and of the role that owns it.
const OWNERS: [&str; 2] = ["inventory", "orders"];
/// The longest folder for the socket: the kernel takes 107 bytes with the socket's own name.
const SOCKET_FOLDER_BYTES: usize = 92;
/// How long the server may take to answer after its start; a crash's recovery is within it.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    server: Server,
    _short_folder: Option<TempDir>,
}

/// What the server is started with.
#[derive(Debug)]
struct Server {
    programs: PathBuf,
    data: PathBuf,
    socket_folder: PathBuf,
    durable: bool,
}

impl Server {
    fn spawn(&self) -> Result<Child> {
        let mut command = program(&self.programs, "postgres");
        command.arg("-D").arg(&self.data);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.socket_folder.display()));
        let mut settings = vec!["listen_addresses=", "timezone=UTC0", "log_timezone=UTC0"];
        if !self.durable {
            settings.extend(["fsync=off", "full_page_writes=off"]);
        }
        command.args(settings.into_iter().flat_map(|setting| ["-c", setting]));
        Child::spawn("postgresql", command, &Output::Kept)
    }
}

impl Postgres {
    /// Starts the server of `programs` (the folder of `initdb` and `postgres`) on the state folder. Without `durable`
    /// nothing is flushed to the disk: for tests, whose state dies with them.
    pub async fn start(programs: &Path, state: &State, durable: bool) -> Result<Self> {
        let data = state.folder("postgresql")?;
        if !data.join("PG_VERSION").exists() {
            initialise(programs, &data).await?;
        }
        let (socket_folder, short_folder) = socket_folder(state)?;
        let server = Server { programs: programs.to_owned(), data, socket_folder, durable };
        let child = server.spawn()?;
        let mut postgres = Self { child, server, _short_folder: short_folder };
        let admin = postgres.await_ready().await?;
        for owner in OWNERS {
            make_database(&admin, owner).await?;
        }
        Ok(postgres)
    }

    /// The connection string of a role and its database.
    pub fn url(&self, role: &str) -> String {
        format!("host={} user={role} dbname={role}", self.server.socket_folder.display())
    }

    /// The server's process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Ends it as a crash does: nothing is written, and the next start recovers.
    pub async fn crash(&mut self) -> Result<()> {
        self.child.stop(Signal::QUIT, STOP_WITHIN).await?;
        Ok(())
    }

    /// Sends all its processes a signal: `STOP` makes it hang, `CONT` go on.
    pub fn signal_all(&self, signal: Signal) {
        self.child.signal_family(signal);
    }

    /// Starts it again after its end.
    pub async fn start_again(&mut self) -> Result<()> {
        self.child = self.server.spawn()?;
        self.await_ready().await.map(drop)
    }

    /// Stops it: open connections are ended, all is written.
    pub async fn stop(&mut self) -> Result<()> {
        self.child.stop(Signal::INT, STOP_WITHIN).await?;
        Ok(())
    }

    async fn await_ready(&mut self) -> Result<Client> {
        let url =
            format!("host={} user=postgres dbname=postgres", self.server.socket_folder.display());
        let start = Instant::now();
        loop {
            match connect(&url).await {
                Ok(client) => return Ok(client),
                Err(error) if start.elapsed() > START_WITHIN => {
                    bail!(
                        "PostgreSQL does not answer ({error}); it printed:\n{}",
                        self.child.tail()
                    );
                }
                Err(_) => {}
            }
            if let Some(status) = self.child.ended() {
                sleep(Duration::from_millis(50)).await;
                bail!(
                    "PostgreSQL ended at its start ({status}); it printed:\n{}",
                    self.child.tail()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One of PostgreSQL's programs; run by root, as nobody, since PostgreSQL refuses root.
fn program(programs: &Path, name: &str) -> Command {
    let mut command = Command::new(programs.join(name));
    // Its own folder first: initdb calls postgres. The rest serves the shell that it is called through.
    command.env("LC_ALL", "C").env_remove("PGDATA");
    if state::runs_as_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}

async fn initialise(programs: &Path, data: &Path) -> Result<()> {
    // A half-made folder of an initdb that was interrupted: it holds no version file, so nothing of worth.
    fs::remove_dir_all(data)?;
    state::own(data)?;
    let mut command = program(programs, "initdb");
    command.arg("-D").arg(data).args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    if major_version(programs).await? >= 17 {
        command.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    }
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot start initdb in {}", programs.display()))?;
    if !output.status.success() {
        bail!("initdb failed in {}:\n{}", data.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

async fn major_version(programs: &Path) -> Result<u32> {
    let output = program(programs, "postgres")
        .arg("--version")
        .output()
        .await
        .with_context(|| format!("there is no postgres in {}", programs.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major =
        text.split(|character: char| !character.is_ascii_digit()).find(|part| !part.is_empty());
    major.context("postgres --version names none")?.parse().context("postgres --version names none")
}

/// The socket's folder: below the state folder where its path is short enough, else a temporary one.
fn socket_folder(state: &State) -> Result<(PathBuf, Option<TempDir>)> {
    let folder = state.path().join("socket");
    if folder.as_os_str().len() <= SOCKET_FOLDER_BYTES {
        return Ok((state.folder("socket")?, None));
    }
    let short = TempDir::with_prefix("stockyard-")?;
    state::own(short.path())?;
    Ok((short.path().to_owned(), Some(short)))
}

/// Makes a role and its database, closed to the other roles.
async fn make_database(admin: &Client, owner: &str) -> Result<()> {
    let exists = |table: &str, column: &str| format!("SELECT 1 FROM {table} WHERE {column} = $1");
    if admin.query_opt(&exists("pg_roles", "rolname"), &[&owner]).await?.is_none() {
        admin.batch_execute(&format!("CREATE ROLE {owner} LOGIN")).await?;
    }
    if admin.query_opt(&exists("pg_database", "datname"), &[&owner]).await?.is_none() {
        admin.batch_execute(&format!("CREATE DATABASE {owner} OWNER {owner}")).await?;
    }
    admin.batch_execute(&format!("REVOKE ALL ON DATABASE {owner} FROM PUBLIC")).await?;
    Ok(())
}

/// Connects to a database by a connection string.
pub async fn connect(url: &str) -> std::result::Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
