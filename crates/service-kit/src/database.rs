//! PostgreSQL: a pool with a bounded wait, and migrations that several replicas may start at once.

mod connect;
mod lent;
mod lookup;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use prometheus::{
    IntCounter, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::time::sleep;
use tokio_postgres::{Row, Statement, error::SqlState, types::ToSql};

pub use self::lookup::Lookup;
use self::{connect::Connector, lent::Lent};
use crate::{BoxError, Kit, Problem, config::DatabaseConfig, health::Latch, metrics::register};

/// The lock that one replica holds while it migrates; any constant, the same in all.
const MIGRATION_LOCK: i64 = 0x0053_746f_636b;
/// Between two tries to reach a database that is away.
const RETRY: Duration = Duration::from_millis(250);

/// After how long without a sign of life a connection counts as broken.
const GONE: Duration = Duration::from_secs(10);

/// One step of the schema; never changed once released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its number, from 1 without gaps.
    pub version: i32,
    /// What it does.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// A statement's parameters, `$1` and on.
pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A pool of connections.
///
/// Each connection prepares a statement once and keeps it. That is why a statement is a constant: texts made up for each
/// call would be kept without bound. One alone is its own transaction, and one round trip.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
    /// `database_pool_timeouts_total`: requests for a connection that none was free for in time.
    timeouts: IntCounter,
}

/// Why a statement gave no result.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection within the wait.
    #[error("no database connection")]
    Pool(#[from] PoolError),
    /// The statement failed.
    #[error("a statement failed")]
    Query(#[from] tokio_postgres::Error),
    /// The statement that would have found what several asked for.
    #[error("a lookup failed")]
    Lookup(#[source] Arc<Self>),
}

impl DatabaseError {
    /// What hinders for now, where trying again may help.
    fn hindrance(&self) -> Option<&'static str> {
        match self {
            Self::Pool(_) => Some("the database is not reached"),
            Self::Query(error) if error.is_closed() || error.code().is_none_or(is_away) => {
                Some("the database is not reached")
            }
            Self::Query(error) if error.code().is_some_and(is_in_the_way) => {
                Some("others are at work on the same rows of the database")
            }
            Self::Query(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Some("a statement took too long")
            }
            Self::Query(_) => None,
            Self::Lookup(error) => error.hindrance(),
        }
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        match error.hindrance() {
            Some(hindrance) => Self::unavailable(hindrance).source(error),
            None => Self::internal(error),
        }
    }
}

/// The states that a server's end or start brings.
fn is_away(state: &SqlState) -> bool {
    let away = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    away.contains(state) || state.code().starts_with("08")
}

/// The states in which a transaction gave way to another: a lock was not to be had in time, or two waited for each other.
fn is_in_the_way(state: &SqlState) -> bool {
    let states = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    states.contains(state)
}

/// Was a statement prepared for tables or functions that have another shape by now, or by a server that is another?
fn is_outdated(error: &tokio_postgres::Error) -> bool {
    let outdated = [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME];
    error.code().is_some_and(|code| outdated.contains(code))
}

impl Database {
    /// A pool; the database is reached and migrated in the background, as long as it takes. Until then the service is
    /// not ready.
    pub fn connect(
        config: &DatabaseConfig,
        migrations: &'static [Migration],
        kit: &Kit,
    ) -> Result<Self, BoxError> {
        let mut postgres: tokio_postgres::Config = config.url.parse()?;
        postgres.connect_timeout(config.wait).tcp_user_timeout(GONE);
        postgres.keepalives_idle(GONE / 2).keepalives_interval(GONE / 4);
        let manager = Manager::from_connect(
            postgres,
            Connector::new(config)?,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(config.pool)
            .wait_timeout(Some(config.wait))
            .create_timeout(Some(config.wait))
            .recycle_timeout(Some(config.wait))
            .runtime(Runtime::Tokio1)
            .build()?;
        let timeouts = IntCounter::new(
            "database_pool_timeouts_total",
            "Requests for a connection that none was free for in time",
        );
        let timeouts = register(&kit.metrics.registry, timeouts.expect("the name is valid"));
        let shown = PoolMetrics::new(pool.clone());
        kit.metrics.registry.register(Box::new(shown)).map_err(BoxError::from)?;
        let database = Self { pool, timeouts };
        let latch = Arc::new(kit.readiness.latch("database"));
        let (migrated, shutdown) = (database.clone(), kit.shutdown.clone());
        kit.supervise("migrations", move || {
            let (database, shutdown) = (migrated.clone(), shutdown.clone());
            let latch = Arc::clone(&latch);
            async move {
                let migrating = database.migrate_until_done(migrations, &latch);
                let _unless_it_stops = shutdown.run_until_cancelled(migrating).await;
            }
        });
        Ok(database)
    }

    /// A connection from the pool, for a transaction of several statements.
    pub async fn get(&self) -> Result<Object, DatabaseError> {
        self.pool.get().await.map_err(|error| {
            if matches!(error, PoolError::Timeout(TimeoutType::Wait)) {
                self.timeouts.inc();
            }
            error.into()
        })
    }

    /// The rows that a statement gives.
    pub async fn rows(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, DatabaseError> {
        self.run(sql, async |client, statement| client.query(statement, parameters).await).await
    }

    /// The one row that a statement gives.
    pub async fn one(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Row, DatabaseError> {
        self.run(sql, async |client, statement| client.query_one(statement, parameters).await).await
    }

    /// The row that a statement gives, if any; more than one is an error.
    pub async fn row(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, DatabaseError> {
        self.run(sql, async |client, statement| client.query_opt(statement, parameters).await).await
    }

    /// How many rows a statement changed.
    pub async fn execute(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<u64, DatabaseError> {
        self.run(sql, async |client, statement| client.execute(statement, parameters).await).await
    }

    async fn run<T>(
        &self,
        sql: &'static str,
        run: impl AsyncFnOnce(&Object, &Statement) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        let client = Lent::new(self.get().await?);
        let statement = client.prepare_cached(sql).await?;
        let result = run(&client, &statement).await;
        if result.as_ref().is_err_and(is_outdated) {
            client.statement_cache.clear();
        }
        client.give_back();
        Ok(result?)
    }

    async fn migrate_until_done(&self, migrations: &'static [Migration], latch: &Latch) {
        while let Err(error) = self.migrate(migrations).await {
            let error = chain(&error);
            tracing::warn!(error, "the database is not ready; trying again");
            latch.blocked(error);
            sleep(RETRY).await;
        }
        latch.release();
    }

    /// All missing steps in one transaction, under a lock that ends with it. They take the time that they need.
    async fn migrate(&self, migrations: &'static [Migration]) -> Result<(), DatabaseError> {
        let mut client = self.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
        let table = "CREATE TABLE IF NOT EXISTS schema_migrations (version int PRIMARY KEY, name text NOT NULL)";
        transaction.batch_execute(table).await?;
        let row = transaction
            .query_one("SELECT coalesce(max(version), 0) FROM schema_migrations", &[])
            .await?;
        let current: i32 = row.get(0);
        for migration in migrations.iter().filter(|migration| migration.version > current) {
            transaction.batch_execute(migration.sql).await?;
            let insert = "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)";
            transaction.execute(insert, &[&migration.version, &migration.name]).await?;
            tracing::info!(
                version = migration.version,
                name = migration.name,
                "migrated the database"
            );
        }
        Ok(transaction.commit().await?)
    }
}

/// `database_pool_connections{state}`: idle, `in_use`, and waiting (requests for one); read when they are scraped.
struct PoolMetrics {
    pool: Pool,
    connections: IntGaugeVec,
}

impl PoolMetrics {
    fn new(pool: Pool) -> Self {
        let opts = Opts::new("database_pool_connections", "Connections, and who waits for one");
        let connections = IntGaugeVec::new(opts, &["state"]).expect("the options are valid");
        Self { pool, connections }
    }
}

impl Collector for PoolMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.connections.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = self.pool.status();
        let set = |state: &str, count: usize| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.connections.with_label_values(&[state]).set(count);
        };
        set("idle", status.available);
        set("in_use", status.size.saturating_sub(status.available));
        set("waiting", status.waiting);
        self.connections.collect()
    }
}

/// An error with its causes, for a message.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
