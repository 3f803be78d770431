//! Passing a request on to a service, and its answer back, as streams.

use std::time::Duration;

use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    body::Body as _,
    header::{self, HeaderName, HeaderValue},
    http::{request::Parts, uri::PathAndQuery},
};
use serde_json::Value;
use service_kit::{
    Body, Problem, Request, Response,
    client::{Client, json_body},
    idempotency::CALLER,
    server,
};

use crate::inbound::{Inbound, fault};

/// How the next one is told what the client asked for.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// Headers that a request gets on its way at most, here and by the client; its host is replaced.
const MORE_HEADERS: usize = 6;

/// What is not passed on: what lets somebody in here is nobody else's to see, and the client tells who we are; where the
/// request goes it tells too.
const OURS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::HOST];

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
        let (head, body) = request.into_parts();
        let uri = outward_uri(&head.uri, &self.base)?;
        let peer = server::peer();
        let copy = |body| outward(&head, uri.clone(), peer.clone(), body);
        let answer = if is_read(&head.method) {
            self.client.forward_again(|| copy(Body::default())).await
        } else if body.is_end_stream() {
            self.client.forward(copy(Body::default())).await
        } else {
            let body = Body::stream(Inbound::new(body, self.body_within)?);
            self.client.forward(copy(body)).await
        };
        let mut response = answer.map_err(|error| match fault(&error) {
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

    /// Sends a request of the gateway's own for a caller; it must be safe to repeat. The status of the answer, and a
    /// problem's type.
    pub async fn post(
        &self,
        path: &str,
        caller: Option<HeaderValue>,
        key: &str,
        body: &Value,
    ) -> Result<(StatusCode, String), Problem> {
        let mut request = hyper::Request::post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(json_body(body))
            .map_err(Problem::internal)?;
        request.headers_mut().extend(caller.map(|caller| (CALLER, caller)));
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| error.into_problem(self.name))?;
        self.check_let_in(answer.status())?;
        let members: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let problem = members["type"].as_str().and_then(|kind| kind.strip_prefix("/problems/"));
        Ok((answer.status(), problem.unwrap_or_default().to_owned()))
    }

    /// A GET whose JSON the dashboard shows; none unless it succeeds.
    pub async fn json(&self, path: &str) -> Option<Value> {
        let request =
            hyper::Request::get(format!("{}{path}", self.base)).body(bytes::Bytes::new()).ok()?;
        let response = self.probe.send(request).await.ok()?;
        response.status().is_success().then(|| serde_json::from_slice(response.body()).ok())?
    }
}

/// The service's URI for one of ours.
fn outward_uri(uri: &Uri, base: &Uri) -> Result<Uri, Problem> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = path.strip_prefix("/api").unwrap_or(path).parse();
    let mut uri = base.clone().into_parts();
    uri.path_and_query =
        Some(path.map_err(|_| Problem::bad_request("the path or query is malformed"))?);
    Uri::from_parts(uri).map_err(Problem::internal)
}

/// The request that the service gets for one of ours, which came from `peer`.
fn outward<B>(head: &Parts, uri: Uri, peer: Option<HeaderValue>, body: B) -> hyper::Request<B> {
    let mut request = hyper::Request::new(body);
    *request.uri_mut() = uri;
    *request.method_mut() = head.method.clone();
    let mut headers = HeaderMap::with_capacity(head.headers.len() + MORE_HEADERS);
    for (name, value) in &head.headers {
        if !HOP_BY_HOP.contains(name) && !OURS.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    for name in head.headers.get_all(header::CONNECTION).iter().flat_map(names) {
        headers.remove(name);
    }
    // Who calls we have found out ourselves: no client's `Connection` takes it away.
    if let Some(caller) = head.headers.get(CALLER) {
        headers.insert(CALLER, caller.clone());
    }
    if is_read(&head.method) {
        // A read's content has no meaning (RFC 9110, 9.3.1) and stays here: it could only hold up the service.
        headers.remove(header::CONTENT_LENGTH);
    }
    // An ingress before us knows better; its headers stand.
    if let Some(host) = head.headers.get(header::HOST) {
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    headers.entry(FORWARDED_PROTO).or_insert(HTTP);
    if let Some(peer) = peer {
        headers.append(FORWARDED_FOR, peer);
    }
    *request.headers_mut() = headers;
    request
}

/// May it be repeated, and has its content no meaning?
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The headers that a value of `Connection` names.
fn names(connection: &HeaderValue) -> impl Iterator<Item = &str> {
    connection.to_str().unwrap_or_default().split(',').map(str::trim)
}

/// Takes the headers of one connection away.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<_> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    for name in named.iter().flat_map(names) {
        headers.remove(name);
    }
    let gone: Vec<_> = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned().collect();
    for name in gone {
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
            ("connection", "close, X-Secret"),
            ("connection", "other,not a name"),
            ("x-secret", "1"),
            ("other", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("idempotency-key", "k"),
        ];
        let mut head = head(Method::GET, "/", &headers);
        let outward = outward(&head, Uri::default(), None, ());
        assert_eq!(
            outward.headers().keys().collect::<Vec<_>>(),
            ["idempotency-key", "x-forwarded-proto"]
        );
        strip(&mut head.headers);
        assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["idempotency-key"]);
    }

    #[test]
    fn a_reads_content_stays_here() {
        let headers =
            [("content-length", "5"), ("transfer-encoding", "chunked"), ("accept", "*/*")];
        let names = |method| {
            let outward = outward(&head(method, "/", &headers), Uri::default(), None, ());
            outward.headers().keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(Method::GET), ["accept", "x-forwarded-proto"]);
        assert_eq!(names(Method::POST), ["content-length", "accept", "x-forwarded-proto"]);
    }

    #[test]
    fn a_request_goes_to_the_service_whatever_host_it_named() {
        let base = Uri::from_static("http://orders:81");
        let head = head(Method::HEAD, "http://evil/api/v1/orders?page_size=2", &[]);
        let outward = outward(&head, outward_uri(&head.uri, &base).unwrap(), None, ());
        assert_eq!(*outward.uri(), "http://orders:81/v1/orders?page_size=2");
        assert_eq!(outward.method(), Method::HEAD);
    }

    #[test]
    fn the_peer_joins_those_who_passed_it_on_before() {
        let headers =
            [("host", "gateway"), ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        let head = head(Method::GET, "/api/v1/items", &headers);
        let outward =
            outward(&head, Uri::default(), Some(HeaderValue::from_static("192.0.2.7")), ());
        let of = |name: &str| outward.headers().get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(of("x-forwarded-for"), ["192.0.2.1", "192.0.2.7"]);
        assert_eq!(of("x-forwarded-proto"), ["https"]);
        assert_eq!(of("x-forwarded-host"), ["gateway"]);
        assert!(of("host").is_empty());
    }

    #[test]
    fn no_service_sees_what_lets_somebody_in_here() {
        let headers =
            [("authorization", "Bearer key"), ("cookie", "stockyard_session=x"), ("x", "1")];
        let head = head(Method::GET, "/api/v1/items", &headers);
        let outward = outward(&head, Uri::default(), None, ());
        let names: Vec<_> = outward.headers().keys().collect();
        assert_eq!(names, ["x", "x-forwarded-proto"]);
    }

    #[test]
    fn no_client_takes_away_who_calls() {
        let headers = [("x-caller", "ada"), ("connection", "x-caller, x"), ("x", "1")];
        let head = head(Method::POST, "/api/v1/orders", &headers);
        let outward = outward(&head, Uri::default(), None, ());
        assert_eq!(outward.headers()["x-caller"], "ada");
        assert!(!outward.headers().contains_key("x"));
    }

    #[test]
    fn a_location_is_the_one_outside() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/v1/orders/1".parse().unwrap());
        rewrite_location(&mut headers);
        assert_eq!(headers[header::LOCATION], "/api/v1/orders/1");
    }
}
