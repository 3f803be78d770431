//! R3: a request that does not say unambiguously which host it is for is refused by every listener (RFC 9112, 3.2).

use local_stack::Service;

use super::{GATEWAY, Listener, Row};

pub(super) fn rows() -> Vec<Row> {
    let listeners =
        Service::ALL.iter().flat_map(|one| [Listener::Public(*one), Listener::Admin(*one)]);
    let mut rows: Vec<_> = listeners.flat_map(everywhere).collect();
    rows.extend(values());
    rows.extend(targets());
    rows
}

/// What holds for probes on every listener.
fn everywhere(listener: Listener) -> Vec<Row> {
    let row = |name, head: &str, status| {
        let head = format!("{head}connection: close\r\n\r\n");
        Row::raw("R3", name, head, status).to(listener)
    };
    vec![
        row("one", "GET /health HTTP/1.1\r\nHost: x\r\n", 200),
        row("none", "GET /health HTTP/1.1\r\n", 400),
        row("two", "GET /health HTTP/1.1\r\nHost: x\r\nHost: x\r\n", 400),
        row("malformed", "GET /health HTTP/1.1\r\nHost: a b/c@d\r\n", 400),
        row("none in HTTP/1.0", "GET /health HTTP/1.0\r\n", 200),
        row("two in HTTP/1.0", "GET /health HTTP/1.0\r\nHost: x\r\nHost: y\r\n", 400),
        row("malformed in HTTP/1.0", "GET /health HTTP/1.0\r\nHost: a@b\r\n", 400),
    ]
}

/// The field's grammar.
fn values() -> Vec<Row> {
    let row = |host: &[u8], status| {
        let head = [b"GET /api/v1/items HTTP/1.1\r\nhost:", host, b"\r\nconnection: close\r\n\r\n"];
        Row::raw("R3", &String::from_utf8_lossy(host), head.concat(), status).to(GATEWAY)
    };
    let valid = [
        "x",
        " x \t",
        "LOCALHOST:8080",
        "127.0.0.1:1",
        "[::1]",
        "[2001:DB8::7]:443",
        "[::ffff:192.0.2.1]",
        "[v1.a:b]",
        "x:",
        "gateway_1.default.svc.",
        "a%20b",
        "!$&'()*+,;=~",
    ];
    let invalid = [
        "",
        " ",
        ":80",
        "a b",
        "a/b",
        "a@b",
        "a?b",
        "a#b",
        "x:8o",
        "x:-1",
        "x:80:80",
        "::1",
        "[::1",
        "[::1]x",
        "[x]",
        "[]",
        "[::1%25eth0]",
        "[v1]",
        "[v.a]",
        "a%2",
        "a%zz",
        "\"x\"",
        "<x>",
        "x, x",
    ];
    let mut rows: Vec<_> = valid.map(|host| row(host.as_bytes(), 200)).into();
    rows.extend(invalid.map(|host| row(host.as_bytes(), 400)));
    rows.push(row("gr\u{fc}n".as_bytes(), 400));
    rows.push(row(b"gr\xfcn", 400));
    rows
}

/// A target that names a host: the field must be there all the same, and counts for nothing (RFC 9112, 3.2.2).
fn targets() -> Vec<Row> {
    let row = |target: &str, host: &str, status| {
        let request = format!("GET {target} HTTP/1.1\r\n{host}connection: close\r\n\r\n");
        Row::raw("R3", &format!("{target} {host}"), request, status)
    };
    let form = |target: &str, host: &str, status| {
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: {host}\r\norigin: http://own:1\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: 7\r\n\r\nkey=abc"
        );
        Row::raw("R3", &format!("form {target} {host}"), request, status)
    };
    vec![
        row("http://x/api/v1/items", "host: x\r\n", 200),
        row("HTTPS://x:8080/api/v1/items?page_size=1", "host: other\r\n", 200),
        row("http://[::1]:80/api/v1/items", "host: x\r\n", 200),
        row("http://x/api/v1/items", "", 400),
        row("http://x/api/v1/items", "host: a b\r\n", 400),
        row("http://x/api/v1/items", "host: x\r\nhost: x\r\n", 400),
        row("http://user@x/api/v1/items", "host: x\r\n", 400),
        row("http://x:8o/api/v1/items", "host: x\r\n", 400),
        row("ftp://x/api/v1/items", "host: x\r\n", 400),
        row("x:80", "host: x\r\n", 400),
        // What the gateway goes by is the target's host: a page of its own is one of that.
        form("/session", "own:1", 303),
        form("http://own:1/session", "other", 303),
        form("http://other/session", "own:1", 403),
    ]
}
