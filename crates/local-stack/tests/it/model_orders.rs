//! Orders through the gateway against a model: random commands, the same answers, stock and lists.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use local_stack::{Service, Stack, http, http::Reply, laws::Databases, state::temporary_folder};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::{cancel, get, item, place, start_with};

const KEYS: usize = 6;
const PRICE: i64 = 7;

#[derive(Debug, Clone)]
enum Command {
    /// Places an order, or repeats one where the key was used.
    Place { key: usize, quantity: i64 },
    /// Cancels the order of a key, if it has one.
    Cancel(usize),
    /// So many arrive.
    Receive(i64),
    /// The price changes; orders keep theirs.
    Price(i64),
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let command = prop_oneof![
        6 => (0..KEYS, 1..6_i64).prop_map(|(key, quantity)| Command::Place { key, quantity }),
        3 => (0..KEYS).prop_map(Command::Cancel),
        2 => (1..10_i64).prop_map(Command::Receive),
        1 => (1..50_i64).prop_map(Command::Price),
    ];
    vec(command, 1..25)
}

/// An order as the model has it, and its first answer.
struct Order {
    quantity: i64,
    status: &'static str,
    total: i64,
    reply: Reply,
}

/// One case: the model beside the real thing.
struct Case<'a> {
    stack: &'a Stack,
    name: String,
    available: i64,
    price: i64,
    orders: BTreeMap<usize, Order>,
}

impl Case<'_> {
    async fn inventory(&self, method: Method, path: &str, body: Value) {
        let url = format!("{}/v1/items/{}{path}", self.stack.url(Service::Inventory), self.name);
        let key = Uuid::now_v7().to_string();
        let reply =
            http::send(method, &url, &[("idempotency-key", &key)], body.to_string()).await.unwrap();
        assert!(reply.status.is_success(), "{}", reply.text());
    }

    async fn set_price(&self) {
        let price = json!({"minor": self.price, "currency": "EUR"});
        self.inventory(Method::PUT, "", json!({"name": "model", "unit_price": price})).await;
    }

    async fn apply(&mut self, command: &Command) -> Result<(), TestCaseError> {
        match *command {
            Command::Place { key, quantity } => self.place(key, quantity).await?,
            Command::Cancel(key) => self.cancel(key).await?,
            Command::Receive(quantity) => {
                self.inventory(Method::POST, "/receipts", json!({"quantity": quantity})).await;
                self.available += quantity;
            }
            Command::Price(price) => {
                self.price = price;
                self.set_price().await;
            }
        }
        let item = item(self.stack, &self.name).await;
        prop_assert_eq!((&item["on_hand"], &item["reserved"]), (&json!(self.available), &json!(0)));
        Ok(())
    }

    async fn place(&mut self, key: usize, quantity: i64) -> Result<(), TestCaseError> {
        let lines = [json!({"sku": self.name, "quantity": quantity})];
        let body = json!({"customer": self.name, "lines": lines}).to_string();
        let reply = place(self.stack, &format!("{}-{key}", self.name), body).await;
        if let Some(first) = self.orders.get(&key) {
            if first.quantity == quantity {
                prop_assert_eq!(
                    (reply.status, &reply.body),
                    (first.reply.status, &first.reply.body)
                );
                prop_assert_eq!(reply.header("location"), first.reply.header("location"));
            } else {
                prop_assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
            }
            return Ok(());
        }
        let enough = quantity <= self.available;
        prop_assert_eq!(reply.status.as_u16(), if enough { 201 } else { 409 }, "{}", reply.text());
        let total = quantity * self.price;
        if enough {
            self.available -= quantity;
            prop_assert_eq!(&reply.json()["total"], &json!({"minor": total, "currency": "EUR"}));
        }
        let status = if enough { "confirmed" } else { "rejected" };
        self.orders.insert(key, Order { quantity, status, total, reply });
        Ok(())
    }

    async fn cancel(&mut self, key: usize) -> Result<(), TestCaseError> {
        let Some(order) = self.orders.get_mut(&key).filter(|order| order.status != "rejected")
        else {
            return Ok(());
        };
        let reply = cancel(self.stack, &order.reply).await;
        prop_assert_eq!(
            (reply.status.as_u16(), &reply.json()["status"]),
            (200, &json!("cancelled"))
        );
        if order.status == "confirmed" {
            order.status = "cancelled";
            self.available += order.quantity;
        }
        Ok(())
    }

    /// Every order is listed once, with the model's status and total.
    async fn compare_list(&self) -> Result<(), TestCaseError> {
        let summary =
            |status: &str, total: i64, quantity: i64| format!("{status} {total} {quantity}");
        let mut expected: Vec<_> = self
            .orders
            .values()
            .map(|order| summary(order.status, order.total, order.quantity))
            .collect();
        let list = get(self.stack, "/api/v1/orders?page_size=200").await.json();
        let own = list["orders"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|order| order["customer"] == *self.name);
        let mut listed: Vec<_> = own
            .map(|order| {
                let number = |value: &Value| value.as_i64().unwrap();
                summary(
                    order["status"].as_str().unwrap(),
                    number(&order["total"]["minor"]),
                    number(&order["lines"][0]["quantity"]),
                )
            })
            .collect();
        expected.sort();
        listed.sort();
        prop_assert_eq!(listed, expected);
        Ok(())
    }
}

#[test]
fn orders_do_what_their_model_does() {
    let runtime = Runtime::new().unwrap();
    let state = temporary_folder().unwrap();
    let stack = runtime.block_on(start_with(&state, &[]));
    let config =
        Config { cases: 32, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let result = TestRunner::new(config).run(&commands(), |commands| {
        runtime.block_on(async {
            let name = Uuid::now_v7().to_string();
            let mut case =
                Case { stack: &stack, name, available: 0, price: PRICE, orders: BTreeMap::new() };
            case.set_price().await;
            for command in &commands {
                case.apply(command).await?;
            }
            case.compare_list().await
        })
    });
    runtime.block_on(async {
        let databases = Databases::connect(&stack).await.unwrap();
        assert_eq!(databases.breaches().await.unwrap().0, Vec::<String>::new());
        stack.stop().await.unwrap();
    });
    result.unwrap();
}
