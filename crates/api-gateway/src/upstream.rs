//! Passing a request on to a service, and its answer back, as streams.

use std::{net::SocketAddr, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};
use serde_json::Value;
use service_kit::{
    Problem, Request, Response,
    client::{Client, json_body},
};

use crate::inbound::{Inbound, fault};

/// Headers that mean one connection only (RFC 9110, 7.6.1), with `Connection` naming more. `Expect` was answered here.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// One of the services behind the gateway.
#[derive(Debug, Clone)]
pub struct Upstream {
    name: &'static str,
    base: Uri,
    client: Client,
    /// For what the dashboard shows: whoever hangs may not hold it up.
    probe: Client,
    body_within: Duration,
}

impl Upstream {
    /// The service `name` at this address; a request's body may take `body_within`.
    pub fn new(
        name: &'static str,
        base: Uri,
        client: Client,
        probe: Client,
        body_within: Duration,
    ) -> Self {
        Self { name, base, client, probe, body_within }
    }

    /// Passes a request to `/api/v1/...` on as `/v1/...`.
    pub async fn pass(&self, request: Request) -> Result<Response, Problem> {
        let (mut head, body) = request.into_parts();
        let body = Inbound::new(body, self.body_within)?;
        outward(&mut head, &self.base)?;
        let request = hyper::Request::from_parts(head, body.boxed());
        let mut response =
            self.client.forward(request).await.map_err(|error| match fault(&error) {
                Some(problem) => problem,
                None => error.into_problem(self.name),
            })?;
        self.check_let_in(response.status())?;
        strip(response.headers_mut());
        rewrite_location(response.headers_mut());
        Ok(response)
    }

    /// 502 when the service does not take this gateway's token: that is no fault of the client, whose key was good.
    fn check_let_in(&self, status: StatusCode) -> Result<(), Problem> {
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Ok(());
        }
        let title = "A service does not take the gateway's token";
        Err(Problem::new(StatusCode::BAD_GATEWAY, "upstream-refused", title)
            .detail(format!("{} does not let this gateway in", self.name))
            .source(format!("{} answered {status} to this gateway's own token", self.name)))
    }

    /// Sends a request of the gateway's own; it must be safe to repeat. The status of the answer.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Result<StatusCode, Problem> {
        let request = hyper::Request::post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(json_body(body))
            .map_err(Problem::internal)?;
        let answer = self.client.send(request).await;
        let status = answer.map_err(|error| error.into_problem(self.name))?.status();
        self.check_let_in(status)?;
        Ok(status)
    }

    /// A GET whose JSON the dashboard shows; none unless it succeeds.
    pub async fn json(&self, path: &str) -> Option<Value> {
        let request = hyper::Request::get(format!("{}{path}", self.base))
            .body(http_body_util::Full::default())
            .ok()?;
        let response = self.probe.send(request).await.ok()?;
        response.status().is_success().then(|| serde_json::from_slice(response.body()).ok())?
    }
}

/// Turns a request's head into the one that the service gets.
fn outward(head: &mut Parts, base: &Uri) -> Result<(), Problem> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = path.strip_prefix("/api").unwrap_or(path);
    head.uri = format!("{}{path}", base.to_string().trim_end_matches('/'))
        .parse()
        .map_err(|_| Problem::bad_request("the path or query is malformed"))?;
    if head.method == Method::HEAD {
        head.method = Method::GET; // our server leaves the body out
    }
    strip(&mut head.headers);
    // What lets somebody in here is nobody else's to see; the client tells who we are.
    head.headers.remove(header::AUTHORIZATION);
    head.headers.remove(header::COOKIE);
    // An ingress before us knows better; its headers stand.
    if let Some(host) = head.headers.remove(header::HOST) {
        head.headers.entry("x-forwarded-host").or_insert(host);
    }
    head.headers.entry("x-forwarded-proto").or_insert(HeaderValue::from_static("http"));
    if let Some(peer) = head.extensions.get::<SocketAddr>() {
        let peer = HeaderValue::from_str(&peer.ip().to_string()).expect("an address is ASCII");
        head.headers.append("x-forwarded-for", peer);
    }
    Ok(())
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

    fn head(method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut request = hyper::Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request.into_parts().0
    }

    #[test]
    fn headers_of_one_connection_are_not_passed_on() {
        let headers = [
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("idempotency-key", "k"),
        ];
        let mut head = head(Method::GET, "/", &headers);
        strip(&mut head.headers);
        assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["idempotency-key"]);
    }

    #[test]
    fn a_request_goes_to_the_service_whatever_host_it_named() {
        let base = Uri::from_static("http://orders:81");
        let mut head = head(Method::HEAD, "http://evil/api/v1/orders?page_size=2", &[]);
        outward(&mut head, &base).unwrap();
        assert_eq!(head.uri, "http://orders:81/v1/orders?page_size=2");
        assert_eq!(head.method, Method::GET);
    }

    #[test]
    fn the_peer_joins_those_who_passed_it_on_before() {
        let headers =
            [("host", "gateway"), ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        let mut head = head(Method::GET, "/api/v1/items", &headers);
        head.extensions.insert(SocketAddr::from(([192, 0, 2, 7], 5000)));
        outward(&mut head, &Uri::from_static("http://inventory")).unwrap();
        let of = |name: &str| head.headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(of("x-forwarded-for"), ["192.0.2.1", "192.0.2.7"]);
        assert_eq!(of("x-forwarded-proto"), ["https"]);
        assert_eq!(of("x-forwarded-host"), ["gateway"]);
        assert!(of("host").is_empty());
    }

    #[test]
    fn no_service_sees_what_lets_somebody_in_here() {
        let headers =
            [("authorization", "Bearer key"), ("cookie", "stockyard_session=x"), ("x", "1")];
        let mut head = head(Method::GET, "/api/v1/items", &headers);
        outward(&mut head, &Uri::from_static("http://inventory")).unwrap();
        let names: Vec<_> = head.headers.keys().collect();
        assert_eq!(names, ["x", "x-forwarded-proto"]);
    }

    #[test]
    fn a_location_is_the_one_outside() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/v1/orders/1".parse().unwrap());
        rewrite_location(&mut headers);
        assert_eq!(headers[header::LOCATION], "/api/v1/orders/1");
    }
}
