//! Statements of the services: which of them share one, and which must not wait for others.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::Method;
use local_stack::{Service, Stack, http, laws::Databases, state::temporary_folder};
use tokio::time::sleep;

use crate::support::{metric, start, start_with, until};

const INVENTORY: Service = Service::Inventory;

fn an_item(stack: &Stack) -> String {
    format!("{}/v1/items/CHAIN-6", stack.url(INVENTORY))
}

async fn status(url: impl AsRef<str>) -> u16 {
    http::get(url.as_ref()).await.unwrap().status.as_u16()
}

async fn connections(stack: &Stack, state: &str) -> f64 {
    metric(stack, INVENTORY, &format!("database_pool_connections{{state=\"{state}\"}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_at_the_same_time_share_a_statement() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_POOL", "1"), ("DATABASE_WAIT", "10s")]).await;
    let mut databases = Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE items").await.unwrap();
    let read = || {
        let item = an_item(&stack);
        tokio::spawn(status(item))
    };
    let first = read();
    until("it has the only connection", || async { connections(&stack, "in_use").await > 0.5 })
        .await;
    let others: Vec<_> = (0..20).map(|_| read()).collect();
    let in_flight = "http_requests_in_flight ";
    until("all have come", || async { metric(&stack, INVENTORY, in_flight).await > 20.5 }).await;
    until("they ask for a connection", || async { connections(&stack, "waiting").await > 0.5 })
        .await;
    let waiting = connections(&stack, "waiting").await;
    assert!(waiting <= 10.0, "20 reads wait for {waiting} connections");
    lock.rollback().await.unwrap();
    for reader in join_all([first].into_iter().chain(others)).await {
        assert_eq!(reader.unwrap(), 200);
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_share_a_statement_that_fails_are_all_told_and_the_next_is_answered() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let mut databases = Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE items").await.unwrap();
    let reads = join_all((0..20).map(|_| status(an_item(&stack))));
    let broken = async {
        // Until nobody is left: what comes later has a connection of its own.
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = 'inventory' AND wait_event_type = 'Lock'";
        until("the statements are ended", || async {
            lock.query_one(end, &[]).await.unwrap();
            metric(&stack, INVENTORY, "http_requests_in_flight ").await < 0.5
        })
        .await;
    };
    let (statuses, ()) = tokio::join!(reads, broken);
    assert_eq!(statuses, [503; 20]);
    lock.rollback().await.unwrap();
    assert_eq!(status(an_item(&stack)).await, 200);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_read_a_write_gets_its_connection_in_time() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_POOL", "1"), ("DATABASE_WAIT", "300ms")]).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let slow = "ALTER TABLE items RENAME TO all_items;
        CREATE VIEW items AS SELECT all_items.* FROM all_items, pg_sleep(0.005)";
    databases.inventory.batch_execute(slow).await.unwrap();
    let (item, end) = (an_item(&stack), Instant::now() + Duration::from_secs(2));
    let read = async || {
        while Instant::now() < end {
            assert_eq!(status(&item).await, 200);
        }
    };
    let write = async || {
        let order = uuid::Uuid::now_v7();
        let url = format!("{}/v1/reservations/{order}/release", stack.url(INVENTORY));
        while Instant::now() < end {
            assert_eq!(http::send(Method::POST, &url, &[], "").await.unwrap().status, 200);
        }
    };
    tokio::join!(join_all([(); 12].map(|()| read())), write());
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_for_a_lock_too_long_ends_and_its_connection_is_free() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_POOL", "1"), ("DATABASE_WAIT", "300ms")]).await;
    let mut databases = Databases::connect(&stack).await.unwrap();
    // As somebody who has forgotten a transaction.
    let forgotten = databases.inventory.transaction().await.unwrap();
    forgotten.execute("SELECT FROM items WHERE sku = 'CHAIN-6' FOR UPDATE", &[]).await.unwrap();
    let url = format!("{}/receipts", an_item(&stack));
    let key = [("idempotency-key", "k")];
    let start = Instant::now();
    let reply = http::send(Method::POST, &url, &key, r#"{"quantity":1}"#).await.unwrap();
    assert_eq!(reply.status, 503, "{}", reply.text());
    until("the only connection is free", || async { status(an_item(&stack)).await == 200 }).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    forgotten.rollback().await.unwrap();
    let reply = http::send(Method::POST, &url, &key, r#"{"quantity":1}"#).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_was_prepared_for_another_shape_is_prepared_anew() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_POOL", "1")]).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let item = an_item(&stack);
    assert_eq!(status(&item).await, 200);
    let another = "ALTER TABLE items ALTER COLUMN name TYPE varchar(300)";
    databases.inventory.batch_execute(another).await.unwrap();
    until("it is read again", || async { status(&item).await == 200 }).await;
    assert_eq!(status(&item).await, 200);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_gives_up_leaves_the_others_their_rows() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_POOL", "1")]).await;
    let mut databases = Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE items").await.unwrap();
    let item = an_item(&stack);
    let hasty = [("x-request-timeout-ms", "300")];
    let (given_up, statuses, ()) = tokio::join!(
        async { http::send(Method::GET, &item, &hasty, "").await.unwrap().status },
        join_all((0..8).map(|_| status(item.clone()))),
        async {
            sleep(Duration::from_millis(600)).await;
            lock.rollback().await.unwrap();
        }
    );
    assert_eq!((given_up.as_u16(), statuses), (504, vec![200; 8]));
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_ends_on_the_server_and_its_connection_is_free() {
    let state = temporary_folder().unwrap();
    let settings = [("DATABASE_POOL", "1"), ("DATABASE_STATEMENT_TIMEOUT", "700ms")];
    let stack = start_with(&state, &settings).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let inventory = &databases.inventory;
    let slow = "ALTER TABLE items RENAME TO all_items;
        CREATE VIEW items AS SELECT all_items.* FROM all_items, pg_sleep(600)";
    inventory.batch_execute(slow).await.unwrap();
    let start = Instant::now();
    let reply = http::get(&an_item(&stack)).await.unwrap();
    assert_eq!(reply.status, 503, "{}", reply.text());
    let hasty = [("x-request-timeout-ms", "100")];
    let given_up = http::send(Method::GET, &an_item(&stack), &hasty, "").await.unwrap();
    assert!([503, 504].contains(&given_up.status.as_u16()), "{}", given_up.text());
    // No statement of before, however many others have begun since.
    let under_way = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'inventory'
        AND state = 'active' AND wait_event = 'PgSleep' AND now() - query_start > interval '3 s'";
    sleep(Duration::from_secs(3)).await;
    assert_eq!(inventory.query_one(under_way, &[]).await.unwrap().get::<_, i64>(0), 0);
    let fast = "CREATE OR REPLACE VIEW items AS SELECT all_items.* FROM all_items";
    inventory.batch_execute(fast).await.unwrap();
    until("the only connection is free", || async { status(an_item(&stack)).await == 200 }).await;
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_take_the_time_that_they_need() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_STATEMENT_TIMEOUT", "700ms")]).await;
    let mut databases = Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE schema_migrations").await.unwrap();
    let others = Databases::connect(&stack).await.unwrap(); // a transaction sees all of one moment
    let replica = stack.start_replica(INVENTORY).await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'inventory'
        AND wait_event_type = 'Lock' AND now() - query_start > interval '1500 ms'";
    until("its migration waits for longer than a statement may", || async {
        others.inventory.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    lock.rollback().await.unwrap();
    replica.await_ready(Duration::from_secs(20)).await.unwrap();
    let log = replica.child.tail();
    assert!(!log.contains("the database is not ready"), "{log}");
    stack.stop().await.unwrap();
}
