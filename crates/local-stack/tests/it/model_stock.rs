//! inventory against a model: random commands, the same answers and the same stock after each.

use std::collections::BTreeMap;

use hyper::Method;
use local_stack::{Service, http, laws::Databases, state::temporary_folder};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::{start_with, until};

const SKUS: usize = 3;
const ORDERS: usize = 4;
const KEYS: usize = 5;

#[derive(Debug, Clone)]
enum Command {
    Receive {
        key: usize,
        sku: usize,
        quantity: i64,
    },
    /// A quantity for each SKU; 0 leaves it out.
    Reserve {
        order: usize,
        quantities: [i64; SKUS],
    },
    Confirm(usize),
    Release(usize),
    Return(usize),
    /// The reservation's time is over.
    Expire(usize),
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let quantities = [0..6_i64, 0..6_i64, 0..6_i64]
        .prop_filter("a reservation has lines", |quantities| {
            quantities.iter().any(|quantity| *quantity > 0)
        });
    let command = prop_oneof![
        2 => (0..KEYS, 0..SKUS, 1..20_i64).prop_map(|(key, sku, quantity)| Command::Receive { key, sku, quantity }),
        4 => (0..ORDERS, quantities).prop_map(|(order, quantities)| Command::Reserve { order, quantities }),
        3 => (0..ORDERS).prop_map(Command::Confirm),
        2 => (0..ORDERS).prop_map(Command::Release),
        2 => (0..ORDERS).prop_map(Command::Return),
        1 => (0..ORDERS).prop_map(Command::Expire),
    ];
    vec(command, 1..30)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Reserved,
    Confirmed,
    Released,
    Returned,
    Expired,
}

/// What inventory should be.
#[derive(Debug, Default)]
struct Model {
    on_hand: [i64; SKUS],
    reserved: [i64; SKUS],
    receipts: BTreeMap<usize, (usize, i64)>,
    reservations: BTreeMap<usize, (Status, [i64; SKUS])>,
}

impl Model {
    /// Carries the command out, and says the status of its answer.
    fn apply(&mut self, command: &Command) -> u16 {
        match *command {
            Command::Receive { key, sku, quantity } => match self.receipts.get(&key) {
                Some(same) if *same == (sku, quantity) => 200,
                Some(_) => 422,
                None => {
                    self.receipts.insert(key, (sku, quantity));
                    self.on_hand[sku] += quantity;
                    200
                }
            },
            Command::Reserve { order, quantities } => self.reserve(order, quantities),
            Command::Confirm(order) => match self.reservations.get(&order) {
                None => 404,
                Some((Status::Reserved, _)) => self.close(order, Status::Confirmed, -1, -1),
                Some((status, _)) => {
                    if *status == Status::Confirmed {
                        200
                    } else {
                        409
                    }
                }
            },
            Command::Release(order) => match self.reservations.get(&order) {
                None | Some((Status::Expired | Status::Released, _)) => {
                    self.close(order, Status::Released, 0, 0)
                }
                Some((Status::Reserved, _)) => self.close(order, Status::Released, 0, -1),
                Some(_) => 409,
            },
            Command::Return(order) => match self.reservations.get(&order) {
                None => 404,
                Some((Status::Confirmed, _)) => self.close(order, Status::Returned, 1, 0),
                Some((status, _)) => {
                    if *status == Status::Returned {
                        200
                    } else {
                        409
                    }
                }
            },
            Command::Expire(order) => {
                if matches!(self.reservations.get(&order), Some((Status::Reserved, _))) {
                    self.close(order, Status::Expired, 0, -1);
                }
                0
            }
        }
    }

    fn reserve(&mut self, order: usize, quantities: [i64; SKUS]) -> u16 {
        let held_before = match self.reservations.get(&order) {
            Some((Status::Reserved | Status::Confirmed, same)) => {
                return if *same == quantities { 200 } else { 409 };
            }
            Some((Status::Released | Status::Returned, _)) => return 409,
            Some((Status::Expired, _)) => true,
            None => false,
        };
        if (0..SKUS).any(|sku| self.on_hand[sku] - self.reserved[sku] < quantities[sku]) {
            return 409;
        }
        for (reserved, quantity) in self.reserved.iter_mut().zip(quantities) {
            *reserved += quantity;
        }
        self.reservations.insert(order, (Status::Reserved, quantities));
        if held_before { 200 } else { 201 }
    }

    fn close(&mut self, order: usize, to: Status, on_hand: i64, reserved: i64) -> u16 {
        let reservation = self.reservations.entry(order).or_insert((to, [0; SKUS]));
        reservation.0 = to;
        for sku in 0..SKUS {
            self.on_hand[sku] += on_hand * reservation.1[sku];
            self.reserved[sku] += reserved * reservation.1[sku];
        }
        200
    }
}

/// The real inventory, with names of one case's own.
struct Real<'a> {
    inventory: &'a str,
    databases: &'a Databases,
    case: Uuid,
    orders: [Uuid; ORDERS],
}

impl Real<'_> {
    fn sku(&self, sku: usize) -> String {
        format!("{}-{sku}", self.case)
    }

    async fn send(&self, method: Method, path: &str, key: &str, body: &Value) -> u16 {
        let url = format!("{}/v1/{path}", self.inventory);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = http::send(method, &url, &[("idempotency-key", key)], body).await.unwrap();
        reply.status.as_u16()
    }

    /// Carries the command out; the status of its answer.
    async fn apply(&self, command: &Command) -> u16 {
        let close =
            |order: usize, verb: &str| format!("reservations/{}/{verb}", self.orders[order]);
        let path = match *command {
            Command::Receive { key, sku, quantity } => {
                let path = format!("items/{}/receipts", self.sku(sku));
                let key = format!("{}-{key}", self.case);
                return self.send(Method::POST, &path, &key, &json!({"quantity": quantity})).await;
            }
            Command::Reserve { order, quantities } => {
                let lines = quantities.iter().enumerate().filter(|(_, quantity)| **quantity > 0);
                let lines: Vec<_> = lines
                    .map(|(sku, quantity)| json!({"sku": self.sku(sku), "quantity": quantity}))
                    .collect();
                let path = format!("reservations/{}", self.orders[order]);
                return self
                    .send(Method::PUT, &path, "-", &json!({"lines": lines, "ttl_seconds": 3600}))
                    .await;
            }
            Command::Expire(order) => {
                self.expire(self.orders[order]).await;
                return 0;
            }
            Command::Confirm(order) => close(order, "confirm"),
            Command::Release(order) => close(order, "release"),
            Command::Return(order) => close(order, "return"),
        };
        self.send(Method::POST, &path, "-", &Value::Null).await
    }

    async fn expire(&self, order: Uuid) {
        let database = &self.databases.inventory;
        let update =
            "UPDATE reservations SET expires_at = now() - interval '1 s' WHERE order_id = $1";
        database.execute(update, &[&order]).await.unwrap();
        let held = "SELECT count(*) FROM reservations WHERE order_id = $1 AND status = 'reserved'";
        until("it has expired", || async {
            database.query_one(held, &[&order]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    }

    async fn stock(&self) -> ([i64; SKUS], [i64; SKUS]) {
        let (mut on_hand, mut reserved) = ([0; SKUS], [0; SKUS]);
        for sku in 0..SKUS {
            let url = format!("{}/v1/items/{}", self.inventory, self.sku(sku));
            let item = http::get(&url).await.unwrap().json();
            on_hand[sku] = item["on_hand"].as_i64().unwrap();
            reserved[sku] = item["reserved"].as_i64().unwrap();
            assert_eq!(item["available"], on_hand[sku] - reserved[sku]);
        }
        (on_hand, reserved)
    }
}

#[test]
fn inventory_does_what_its_model_does() {
    let runtime = Runtime::new().unwrap();
    let state = temporary_folder().unwrap();
    let stack = runtime.block_on(start_with(&state, &[("SWEEP_INTERVAL", "5ms")]));
    let databases = runtime.block_on(Databases::connect(&stack)).unwrap();
    let config =
        Config { cases: 48, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let run = |commands: Vec<Command>| {
        runtime.block_on(async {
            let (case, orders) = (Uuid::now_v7(), [(); ORDERS].map(|()| Uuid::now_v7()));
            let real = Real {
                inventory: stack.url(Service::Inventory),
                databases: &databases,
                case,
                orders,
            };
            let item = json!({"name": "model", "unit_price": {"minor": 1, "currency": "EUR"}});
            for sku in 0..SKUS {
                let status =
                    real.send(Method::PUT, &format!("items/{}", real.sku(sku)), "-", &item).await;
                prop_assert_eq!(status, 201);
            }
            let mut model = Model::default();
            for command in &commands {
                prop_assert_eq!(real.apply(command).await, model.apply(command), "{:?}", command);
                prop_assert_eq!(
                    real.stock().await,
                    (model.on_hand, model.reserved),
                    "after {:?}",
                    command
                );
            }
            Ok(())
        })
    };
    let result = TestRunner::new(config).run(&commands(), run);
    runtime.block_on(stack.stop()).unwrap();
    result.unwrap();
}
