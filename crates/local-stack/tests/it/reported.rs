//! Faults that users of other systems reported in public: what is sent, byte for byte, and what must come back.
//!
//! A row is a request and the right answer to it. To add one, append it to the table of its kind in `reported/`, or add
//! a table for a new kind. All rows run one after the other against one stack, so that a row costs milliseconds; raw
//! sockets send what no client library would.

mod accept;
mod amounts;
mod conditional;
mod connections;
mod cookies;
mod forms;
mod head;
mod host;
mod keys;
mod pages;
mod text;

use local_stack::{Service, Stack, http, state::temporary_folder};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{get, order, place, read_to_end, start};

/// A request, and the right answer to it.
struct Row {
    /// The fault's kind.
    id: &'static str,
    /// What is special about the request.
    name: String,
    to: Listener,
    /// With [`Values`] in it.
    request: Vec<u8>,
    status: u16,
    /// What the answer contains, with [`Values`] in it.
    contains: Vec<String>,
    /// What it does not contain.
    lacks: Vec<&'static str>,
}

/// A listener of a service.
#[derive(Debug, Clone, Copy)]
enum Listener {
    Public(Service),
    Admin(Service),
}

const GATEWAY: Listener = Listener::Public(Service::Gateway);

impl Row {
    /// These bytes to the gateway, and the status of the answer. The connection must end with it.
    fn raw(id: &'static str, name: &str, request: impl Into<Vec<u8>>, status: u16) -> Self {
        let (name, request) = (name.to_owned(), request.into());
        Self { id, name, to: GATEWAY, request, status, contains: Vec::new(), lacks: Vec::new() }
    }

    /// A request without a body, with further header lines.
    fn read(id: &'static str, method: &str, target: &str, headers: &[&[u8]], status: u16) -> Self {
        let shown: Vec<_> =
            headers.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let name = format!("{method} {target} {}", shown.join(", "));
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        head.push_str("authorization: Bearer {key}\r\n");
        let mut request = head.into_bytes();
        for line in headers {
            request.extend_from_slice(line);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        Self::raw(id, &name, request, status)
    }

    /// A request with a body of JSON.
    fn write(id: &'static str, method: &str, target: &str, body: &str, status: u16) -> Self {
        let name = format!("{method} {target} {body}");
        let key = uuid::Uuid::new_v4();
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {{key}}\r\n\
             idempotency-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Self::raw(id, &name, request, status)
    }

    fn to(mut self, to: Listener) -> Self {
        self.to = to;
        self
    }

    /// With a further header line.
    fn header(mut self, line: &str) -> Self {
        let at = self.request.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
        self.request.splice(at..at, format!("\r\n{line}").into_bytes());
        self.name += line;
        self
    }

    fn contains(mut self, text: impl Into<String>) -> Self {
        self.contains.push(text.into());
        self
    }

    fn lacks(mut self, text: &'static str) -> Self {
        self.lacks.push(text);
        self
    }

    /// Sends it; what is wrong with the answer, if something is.
    async fn run(&self, stack: &Stack, values: &Values) -> Option<String> {
        let url = match self.to {
            Listener::Public(service) => stack.url(service),
            Listener::Admin(service) => stack.admin_url(service),
        };
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
        stream.write_all(&values.insert(&self.request)).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let is_problem = head.contains("\r\ncontent-type: application/problem+json");
        let is_head = self.request.starts_with(b"HEAD ");
        let expected = self.contains.iter().map(|text| {
            String::from_utf8(values.insert(text.as_bytes())).expect("the values are text")
        });
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let fault = if status != Some(self.status) {
            format!("not {}", self.status)
        } else if (self.status >= 400) != is_problem {
            "a problem is application/problem+json, and nothing else is".to_owned()
        } else if is_head && !body.is_empty() {
            "a body for HEAD".to_owned()
        } else if let Some(text) = expected.into_iter().find(|text| !answer.contains(text)) {
            format!("without {text:?}")
        } else if let Some(text) = self.lacks.iter().find(|text| answer.contains(**text)) {
            format!("with {text:?}")
        } else {
            return None;
        };
        Some(format!("{} {:?} {}: {fault}: {answer}", self.id, self.to, self.name))
    }
}

/// What only the running stack knows, by the names that rows use for it.
struct Values(Vec<(&'static str, String)>);

impl Values {
    async fn of(stack: &Stack) -> Self {
        let key = stack.api_key();
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
        ];
        let url = format!("{}/session", stack.url(Service::Gateway));
        let signed_in = http::send(hyper::Method::POST, &url, &form, format!("key={key}"));
        let signed_in = signed_in.await.unwrap();
        let session = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
        for number in 0..2 {
            place(stack, &format!("values-{number}"), order("NUT-M8", 1)).await;
        }
        let placed = place(stack, "values", order("NUT-M8", 1)).await;
        assert_eq!(place(stack, "values-rejected", order("NUT-M8", 1_000_000)).await.status, 409);
        let rejected = get(stack, "/api/v1/orders?page_size=1").await.json();
        let tag = async |path: &str| get(stack, path).await.header("etag").to_owned();
        let token = async |path: &str| {
            let page = get(stack, path).await.json();
            page["next_page_token"].as_str().unwrap().to_owned()
        };
        Self(vec![
            ("{key}", key.to_owned()),
            ("{session}", session),
            ("{order-tag}", tag(placed.header("location")).await),
            ("{item-tag}", tag("/api/v1/items/HINGE-3").await),
            ("{order}", placed.json()["id"].as_str().unwrap().to_owned()),
            ("{rejected}", rejected["orders"][0]["id"].as_str().unwrap().to_owned()),
            ("{orders-token}", token("/api/v1/orders?page_size=1").await),
            ("{items-token}", token("/api/v1/items?page_size=1").await),
        ])
    }

    /// The bytes with the values in place of their names.
    fn insert(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for (name, value) in &self.0 {
            while let Some(at) = bytes.windows(name.len()).position(|part| part == name.as_bytes())
            {
                bytes.splice(at..at + name.len(), value.bytes());
            }
        }
        bytes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reported_fault_has_its_right_answer() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let values = Values::of(&stack).await;
    let tables = [
        host::rows(),
        cookies::rows(),
        accept::rows(),
        head::rows(),
        pages::rows(),
        amounts::rows(),
        text::rows(),
        conditional::rows(),
        forms::rows(),
        connections::rows(),
    ];
    let mut wrong = Vec::new();
    for row in tables.iter().flatten() {
        wrong.extend(row.run(&stack, &values).await);
    }
    wrong.extend(conditional::lost_updates(&stack).await);
    wrong.extend(head::burnt_connections(&stack).await);
    wrong.extend(connections::half_closed(&stack).await);
    wrong.extend(connections::early_answers(&stack).await);
    wrong.extend(connections::uncounted(&stack).await);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    stack.stop().await.unwrap();
}
