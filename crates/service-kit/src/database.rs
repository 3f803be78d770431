//! PostgreSQL: a pool with a bounded wait, and migrations that several replicas may start at once.

mod connect;
mod lent;
mod shared;

use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use prometheus::{
    IntCounter, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::time::sleep;
use tokio_postgres::{Row, error::SqlState, types::ToSql};

use self::{
    connect::Connector,
    lent::Lent,
    shared::{Reader, Shared},
};
use crate::{BoxError, Kit, Problem, config::DatabaseConfig, health::Latch, metrics::register};

/// The lock that one replica holds while it migrates; any constant, the same in all.
const MIGRATION_LOCK: i64 = 0x0053_746f_636b;
/// Between two tries to reach a database that is away.
const RETRY: Duration = Duration::from_millis(250);

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
    shared: Shared,
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
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        let away = match &error {
            DatabaseError::Pool(_) => true,
            DatabaseError::Query(error) => error.is_closed() || error.code().is_none_or(is_away),
        };
        if away {
            Self::unavailable("the database is not reached").source(error)
        } else {
            Self::internal(error)
        }
    }
}

/// The states that a server's end or start brings.
fn is_away(state: &SqlState) -> bool {
    let away = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    away.contains(state) || state.code().starts_with("08")
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
        postgres.connect_timeout(config.wait);
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
        let database = Self { pool, shared: Shared::default(), timeouts };
        let migrated =
            database.clone().migrate_until_done(migrations, kit.readiness.latch("database"));
        let stopped = kit.shutdown.clone().cancelled_owned();
        kit.tasks.spawn(async move {
            tokio::select! {
                () = migrated => {}
                () = stopped => {}
            }
        });
        Ok(database)
    }

    /// A connection from the pool.
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
        let client = Lent::new(self.get().await?);
        let statement = client.prepare_cached(sql).await?;
        let rows = client.query(&statement, parameters).await;
        client.give_back();
        Ok(rows?)
    }

    /// The one row that a statement gives.
    pub async fn one(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Row, DatabaseError> {
        let client = Lent::new(self.get().await?);
        let statement = client.prepare_cached(sql).await?;
        let row = client.query_one(&statement, parameters).await;
        client.give_back();
        Ok(row?)
    }

    /// The row that a statement gives, if any; more than one is an error.
    pub async fn row(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, DatabaseError> {
        let client = Lent::new(self.get().await?);
        let statement = client.prepare_cached(sql).await?;
        let row = client.query_opt(&statement, parameters).await;
        client.give_back();
        Ok(row?)
    }

    /// The row that a plain read gives, if any: it locks and changes nothing and ends soon, so others may read on the
    /// same connection at the same time.
    pub async fn read(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, DatabaseError> {
        let reader = self.reader().await?;
        let statement = reader.prepare_cached(sql).await?;
        let row = reader.query_opt(&statement, parameters).await;
        reader.give_back();
        Ok(row?)
    }

    async fn reader(&self) -> Result<Reader, DatabaseError> {
        match self.shared.join() {
            Some(reader) => Ok(reader),
            None => Ok(self.shared.open(self.get().await?)),
        }
    }

    /// How many rows a statement changed.
    pub async fn execute(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<u64, DatabaseError> {
        let client = Lent::new(self.get().await?);
        let statement = client.prepare_cached(sql).await?;
        let changed = client.execute(&statement, parameters).await;
        client.give_back();
        Ok(changed?)
    }

    async fn migrate_until_done(self, migrations: &'static [Migration], latch: Latch) {
        while let Err(error) = self.migrate(migrations).await {
            let error = chain(&error);
            tracing::warn!(error, "the database is not ready; trying again");
            latch.blocked(error);
            sleep(RETRY).await;
        }
        drop(latch);
    }

    /// All missing steps in one transaction, under a lock that ends with it.
    async fn migrate(&self, migrations: &'static [Migration]) -> Result<(), DatabaseError> {
        let mut client = self.get().await?;
        let transaction = client.transaction().await?;
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
