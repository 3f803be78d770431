//! Passing a request on to a service, and its answer back, as streams.

use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderName, HeaderValue},
};
use service_kit::{BoxError, Problem, Request, Response, client::Client};

/// Headers that mean one connection only (RFC 9110, 7.6.1), with `Connection` naming more.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// One of the services behind the gateway.
#[derive(Debug, Clone)]
pub struct Upstream {
    name: &'static str,
    base: Uri,
    client: Client,
}

impl Upstream {
    /// The service `name` at this address.
    pub fn new(name: &'static str, base: Uri, client: Client) -> Self {
        Self { name, base, client }
    }

    /// Passes a request to `/api/v1/...` on as `/v1/...`.
    pub async fn pass(&self, mut request: Request) -> Result<Response, Problem> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = path.strip_prefix("/api").unwrap_or(path);
        let target = format!("{}{path}", self.base.to_string().trim_end_matches('/'));
        *request.uri_mut() =
            target.parse().map_err(|_| Problem::bad_request("the path or query is malformed"))?;
        let host = request.headers_mut().remove(header::HOST);
        strip(request.headers_mut());
        if let Some(host) = host {
            request.headers_mut().insert("x-forwarded-host", host);
        }
        request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static("http"));
        let request = request.map(|body| body.map_err(BoxError::from).boxed());
        let mut response =
            self.client.forward(request).await.map_err(|error| error.into_problem(self.name))?;
        strip(response.headers_mut());
        rewrite_location(response.headers_mut());
        Ok(response)
    }

    /// A GET whose JSON the dashboard shows.
    pub async fn json(&self, path: &str) -> Option<serde_json::Value> {
        let request = hyper::Request::get(format!("{}{path}", self.base))
            .body(http_body_util::Full::default())
            .ok()?;
        let response = self.client.send(request).await.ok()?;
        serde_json::from_slice(response.body()).ok()
    }
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// A service's own path becomes the one that the gateway serves it under.
fn rewrite_location(headers: &mut HeaderMap) {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let outside =
        location.filter(|path| path.starts_with("/v1/")).map(|path| format!("/api{path}"));
    if let Some(value) = outside.and_then(|path| HeaderValue::from_str(&path).ok()) {
        headers.insert(header::LOCATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("idempotency-key", "k"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        strip(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["idempotency-key"]);
    }

    #[test]
    fn a_location_is_the_one_outside() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/v1/orders/1".parse().unwrap());
        rewrite_location(&mut headers);
        assert_eq!(headers[header::LOCATION], "/api/v1/orders/1");
    }
}
