//! A client of the gateway's API, with an API key.

use bytes::Bytes;
use hyper::Method;

use crate::{
    Result,
    http::{self, Reply},
};

/// A client of a gateway.
#[derive(Debug, Clone)]
pub struct ApiClient {
    gateway: String,
    authorization: String,
}

impl ApiClient {
    /// One of the gateway at a URL, whose host must be an address, with the text of a key.
    pub fn new(gateway: impl Into<String>, key: &str) -> Self {
        Self { gateway: gateway.into(), authorization: format!("Bearer {key}") }
    }

    /// Sends one request with the key, further headers and a body.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply> {
        let headers = [&[("authorization", self.authorization.as_str())][..], headers].concat();
        http::send(method, &format!("{}{path}", self.gateway), &headers, body).await
    }

    /// Sends a GET, with the key: reads may need it too.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, &[], "").await
    }

    /// Places an order, by JSON.
    pub async fn place(&self, idempotency_key: &str, body: impl Into<Bytes>) -> Result<Reply> {
        let headers = [("idempotency-key", idempotency_key), ("content-type", "application/json")];
        self.send(Method::POST, "/api/v1/orders", &headers, body).await
    }

    /// Cancels the order at a path, which the answer to its placing named as its location.
    pub async fn cancel(&self, location: &str) -> Result<Reply> {
        self.send(Method::POST, &format!("{location}/cancel"), &[], "").await
    }
}
