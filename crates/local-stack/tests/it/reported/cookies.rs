//! R6: what other applications on the same host have in their cookies does not end a session (RFC 6265, 5.4).

use super::Row;

/// What only who has signed in sees.
const SIGNED_IN: &str = "action=\"/session/end\"";

pub(super) fn rows() -> Vec<Row> {
    let row = |cookies: &[&[u8]]| {
        let lines: Vec<_> = cookies.iter().map(|line| [b"cookie:", *line].concat()).collect();
        let mut headers: Vec<_> = lines.iter().map(Vec::as_slice).collect();
        headers.push(b"accept: text/html");
        Row::read("R6", "GET", "/", &headers, 200)
    };
    let mut rows: Vec<_> = [
        &[b" {session}".as_slice()][..],
        &["theme=gr\u{fc}n; {session}".as_bytes()],
        &[b"theme=gr\xfcn; {session}"],
        &[b"{session}; theme=\xff\xfe"],
        &[b"\xe9=1;{session}"],
        &[b"theme; =; ; {session}\t;"],
        &[b"a=\"x=1\"; {session}"],
        &[b"theme=\xfc", b"{session}"],
        &[b"Stockyard_Session=other; {session}"],
        &[b"other_{session}; {session}"],
    ]
    .into_iter()
    .map(|cookies| row(cookies).contains(SIGNED_IN))
    .collect();
    for cookies in [
        &[b"theme=1".as_slice()][..],
        &[b"{session}; {session}"],
        &[b"{session}; stockyard_session=\xfc"],
        &[b"{session}", b"{session}"],
        &[b"{session}\xfc"],
        &[b"other_{session}"],
    ] {
        rows.push(row(cookies).lacks(SIGNED_IN));
    }
    rows
}
