//! How a connection is made: with the password that the file holds at that moment, and over TLS where authorities are
//! given.

use std::{fs, time::Duration};

use deadpool_postgres::Connect;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};
use tokio_postgres::{Client, Config, Connection, Error, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{BoxError, config::DatabaseConfig, tls};

/// A statement that waits for a lock has a connection meanwhile: somebody's forgotten transaction must not take them all.
/// The same holds for a statement that nobody waits for any more.
fn settings(statement_timeout: Duration) -> String {
    // PostgreSQL counts whole milliseconds up to this bound.
    let millis = i32::try_from(statement_timeout.as_millis()).unwrap_or(i32::MAX);
    format!("SET lock_timeout = '5s'; SET statement_timeout = {millis}")
}

/// Makes the pool's connections.
pub(super) struct Connector {
    /// What a connection begins with.
    settings: String,
    password_file: Option<String>,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// Reads both files once, so that what is missing shows at the start.
    pub(super) fn new(config: &DatabaseConfig) -> Result<Self, BoxError> {
        let connector = Self {
            settings: settings(config.statement_timeout),
            password_file: config.password_file.clone(),
            tls: config.ca_file.as_deref().map(trusting).transpose()?,
        };
        if let Some(file) = &connector.password_file {
            fs::read_to_string(file)
                .map_err(|error| format!("DATABASE_PASSWORD_FILE={file}: {error}"))?;
        }
        Ok(connector)
    }

    fn prepare(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if let Some(file) = &self.password_file {
            match fs::read_to_string(file) {
                Ok(password) => drop(config.password(password.trim_end())),
                Err(error) => tracing::warn!(%error, file, "the database's password is not read"),
            }
        }
        if self.tls.is_some() {
            config.ssl_mode(SslMode::Require); // the default falls back to none
        }
        config
    }
}

impl Connect for Connector {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = self.prepare(config);
        async move {
            let (client, task) = match self.tls.clone() {
                Some(tls) => config.connect(tls).await.map(followed)?,
                None => config.connect(NoTls).await.map(followed)?,
            };
            client.batch_execute(&self.settings).await?;
            Ok((client, task))
        }
        .boxed()
    }
}

/// A connection works as long as its task runs.
fn followed<S, T>((client, connection): (Client, Connection<S, T>)) -> (Client, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a database connection broke");
        }
    });
    (client, task)
}

/// TLS that trusts the authorities in a PEM file, and no others.
fn trusting(file: &str) -> Result<MakeRustlsConnect, BoxError> {
    let config =
        tls::trusting(file).map_err(|error| format!("DATABASE_CA_FILE={file}: {error}"))?;
    Ok(MakeRustlsConnect::new(config))
}
