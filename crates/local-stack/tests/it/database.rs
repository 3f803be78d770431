//! A database on the network, as a managed one is: over TLS, with a certificate that is verified and a password that
//! changes.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    time::{Duration, Instant},
};

use local_stack::{
    Service,
    child::{Child, Output},
    http,
    ports::{self, Port},
    service::Running,
    state,
};
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};
use tokio_postgres::{Client, NoTls};

use crate::{certificates::certificates, support::settings};

const WITHIN: Duration = Duration::from_secs(60);

/// A PostgreSQL on a port of its own, which lets roles in over TLS by their password alone.
struct Server {
    folder: TempDir,
    port: u16,
    admin: Client,
    _child: Child,
}

/// One of PostgreSQL's programs, which refuse root.
fn program(name: &str) -> Command {
    let mut command = Command::new(settings(Path::new("/")).postgres.join(name));
    command.env("LC_ALL", "C").current_dir("/");
    if state::runs_as_root() {
        command.uid(state::NOBODY).gid(state::NOBODY);
    }
    command
}

impl Server {
    async fn start() -> Self {
        let folder = state::temporary_folder().unwrap();
        let (data, socket) = (folder.path().join("data"), folder.path().join("socket"));
        for folder in [&data, &socket] {
            state::own(folder).unwrap();
        }
        let mut initdb = program("initdb");
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "--no-sync"]);
        assert!(initdb.output().await.unwrap().status.success());
        let [authority, certificate, key] = certificates();
        fs::write(folder.path().join("ca.crt"), authority).unwrap();
        let access = "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        for (name, text) in
            [("pg_hba.conf", access), ("server.crt", &certificate), ("server.key", &key)]
        {
            let file = data.join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if state::runs_as_root() {
                chown(&file, Some(state::NOBODY), Some(state::NOBODY)).unwrap();
            }
        }
        let port = ports::free().unwrap();
        let mut command = program("postgres");
        command.arg("-D").arg(&data).args(["-c", "ssl=on", "-c", "fsync=off"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", socket.display()));
        command.args(["-c", "listen_addresses=127.0.0.1", "-p", &port.to_string()]);
        let child = Child::spawn("postgresql", command, &Output::Kept).unwrap();
        let admin = connect(&socket, port).await;
        for statement in [
            "CREATE ROLE inventory LOGIN PASSWORD 'first'",
            "CREATE DATABASE inventory OWNER inventory",
        ] {
            admin.batch_execute(statement).await.unwrap();
        }
        let server = Self { folder, port, admin, _child: child };
        server.write("password", "first\n");
        server
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// inventory, told of the server by this host name, and of the authority in this file.
    async fn inventory(&self, host: &str, authority: &str) -> Running {
        let port = self.port;
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let url = format!("host={host} port={port} user=inventory dbname=inventory");
        let environment = [
            ("IDENTITY", "off".to_owned()),
            ("DATABASE_URL", url),
            ("DATABASE_PASSWORD_FILE", file("password")),
            ("DATABASE_CA_FILE", file(authority)),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let any = Port { variable: "", number: 0 };
        let programs = settings(Path::new("/")).programs;
        Running::start(Service::Inventory, &programs, [any, any], &environment, &Output::Kept)
            .await
            .unwrap()
    }
}

async fn connect(socket: &Path, port: u16) -> Client {
    let url = format!("host={} port={port} user=postgres dbname=postgres", socket.display());
    let start = Instant::now();
    loop {
        match tokio_postgres::connect(&url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(start.elapsed() < WITHIN, "PostgreSQL does not answer: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until what is answered holds a text.
async fn answered(url: &str, expected: &str) {
    let start = Instant::now();
    loop {
        let text = http::get(url).await.unwrap().text();
        if text.contains(expected) {
            return;
        }
        assert!(start.elapsed() < WITHIN, "{url} answers {text}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_reached_over_tls_and_a_new_password_needs_no_restart() {
    let server = Server::start().await;
    let inventory = server.inventory("localhost", "ca.crt").await;
    let items = format!("{}/v1/items", inventory.url);
    answered(&items, "\"items\"").await;
    let query = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'inventory'";
    assert!(server.admin.query_one(query, &[]).await.unwrap().get::<_, bool>(0));

    server.admin.batch_execute("ALTER ROLE inventory PASSWORD 'second'").await.unwrap();
    server.write("password", "second\n");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'inventory'";
    assert!(!server.admin.query(end, &[]).await.unwrap().is_empty());
    answered(&items, "\"items\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_or_for_another_name_is_refused() {
    let server = Server::start().await;
    let [other, _, _] = certificates();
    server.write("other.crt", &other);
    for (host, authority) in [("localhost", "other.crt"), ("127.0.0.1", "ca.crt")] {
        let inventory = server.inventory(host, authority).await;
        answered(&format!("{}/ready", inventory.admin_url), "invalid peer certificate").await;
    }
}
