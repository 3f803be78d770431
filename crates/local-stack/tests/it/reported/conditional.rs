//! R12: a request with a precondition is carried out on what its sender knows, or not at all (RFC 9110, 13).

use futures_util::future::join_all;
use hyper::Method;
use local_stack::Stack;

use super::Row;
use crate::support::get;

const BODY: &str = r#"{"name":"Hinge","unit_price":{"minor":1,"currency":"EUR"}}"#;
const FAILED: &str = "/problems/precondition-failed";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (target, tag) in
        [("/api/v1/items/HINGE-3", "{item-tag}"), ("/api/v1/orders/{order}", "{order-tag}")]
    {
        let row = |method, header: &str, status| {
            let lines: Vec<_> = header.split('|').map(str::as_bytes).collect();
            let lines = if header.is_empty() { Vec::new() } else { lines };
            Row::read("R12", method, target, &lines, status)
        };
        for method in ["GET", "HEAD"] {
            rows.push(row(method, "", 200).contains(format!("etag: {tag}\r\n")));
            for header in [
                format!("if-none-match: {tag}"),
                format!("if-none-match: W/{tag}"),
                format!("if-none-match: \"a,b\" ,, {tag},"),
                format!("if-none-match: \"x\"|if-none-match: {tag}"),
                format!("if-match: {tag}|if-none-match: {tag}"),
                "if-none-match: *".to_owned(),
            ] {
                let row = row(method, &header, 304).contains(format!("etag: {tag}\r\n"));
                rows.push(row.lacks("content-type"));
            }
            for header in [
                "if-none-match: \"nope\"".to_owned(),
                format!("if-match: {tag}"),
                "if-match: *".to_owned(),
                format!("if-match: \"nope\", {tag}"),
            ] {
                rows.push(row(method, &header, 200));
            }
            for header in [
                "if-match: \"nope\"".to_owned(),
                format!("if-match: W/{tag}"),
                "if-match:".to_owned(),
            ] {
                rows.push(row(method, &header, 412));
            }
            for header in [
                "if-none-match: nope",
                "if-match: nope",
                "if-match: *, \"a\"",
                "if-match: \"nope\"|if-none-match: nope",
                "if-match: nope|if-none-match: *",
            ] {
                rows.push(row(method, header, 400));
            }
        }
    }
    rows.extend(writes());
    rows
}

/// Writes of the item that is there, whose tag the first that succeeds makes an old one, and of one that is not.
fn writes() -> Vec<Row> {
    let put = |sku: &str, header: &str, status| {
        let row = Row::write("R12", "PUT", &format!("/api/v1/items/{sku}"), BODY, status);
        row.header(header)
    };
    let (there, new) = ("HINGE-3", "HINGE-NEW");
    vec![
        put(there, "if-none-match: *", 412).contains(FAILED),
        put(there, "if-match: \"nope\"", 412).contains(FAILED),
        put(there, "if-match: W/{item-tag}", 412),
        put(there, "if-none-match: {item-tag}", 412),
        put(there, "if-none-match: W/{item-tag}", 412),
        put(there, "if-match: nope", 400),
        put(there, "if-match: \"nope\"", 400).header("if-none-match: nope"),
        put(there, "if-match: {item-tag}", 200).contains("Hinge"),
        put(there, "if-match: {item-tag}", 412),
        put(there, "if-none-match: {item-tag}", 200),
        put(there, "if-match: *", 200),
        put(new, "if-match: *", 412),
        put(new, "if-match: {item-tag}", 412),
        put(new, "if-none-match: *", 201),
        put(new, "if-none-match: *", 412),
        // What is wrong with the values is told first (RFC 9110, 13.2.1).
        Row::write("R12", "PUT", "/api/v1/items/HINGE-3", "{}", 400).header("if-none-match: *"),
    ]
}

/// What is wrong when several change the same item at the same time, each on condition that nobody else has: one may.
pub(super) async fn lost_updates(stack: &Stack) -> Vec<String> {
    const WRITERS: usize = 8;
    let path = "/api/v1/items/HINGE-CONTENDED";
    let client = stack.api_client();
    let mut wrong = Vec::new();
    for round in 0..10 {
        let tag = get(stack, path).await.header("etag").to_owned();
        let (header, done) =
            if round == 0 { (("if-none-match", "*"), 201) } else { (("if-match", &*tag), 200) };
        let put = async |writer: usize| {
            let body = BODY.replace("Hinge", &format!("Hinge {round}.{writer}"));
            client.send(Method::PUT, path, &[header], body).await
        };
        let puts = join_all((0..WRITERS).map(put));
        let mut answers: Vec<_> =
            puts.await.into_iter().map(|reply| reply.unwrap().status.as_u16()).collect();
        answers.sort_unstable();
        let mut expected = vec![412; WRITERS];
        expected[0] = done;
        if answers != expected {
            wrong.push(format!("R12: {WRITERS} at a time {header:?}: {answers:?}"));
        }
    }
    wrong
}
