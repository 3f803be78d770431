//! R19: which form of the dashboard is sent goes by `Accept` as RFC 9110, 12.5.1 has it.

use super::Row;

const HTML: &str = "content-type: text/html; charset=utf-8";
const TEXT: &str = "content-type: text/plain; charset=utf-8";

pub(super) fn rows() -> Vec<Row> {
    let row = |lines: &[&str], form| {
        let lines: Vec<_> = lines.iter().map(|line| format!("accept: {line}")).collect();
        let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
        Row::read("R19", "GET", "/", &lines, 200).contains(form).contains("vary: accept\r\n")
    };
    let html = [
        &["text/html"][..],
        &["TEXT/HTML"],
        &["Text/Html;Q=0.5"],
        &["text/html;q=0.8, text/plain;q=0.7"],
        &["text/html , text/plain"],
        &["*/*, text/html"],
        &["text/*, text/plain;q=0.5"],
        &["*/*;q=0.5, text/plain; q=0"],
        &["text/plain;q=0.5", "text/html"],
        &[",, text/html,"],
        &["text/html;charset=utf-8"],
        &["text/html; charset=\"UTF-8\"; q=1.000"],
        &["application/x;a=\"\\\",\", text/html"],
        &["text/plain;q=nonsense, text/html;q=0.1"],
        &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"],
    ];
    let text = [
        &[][..],
        &[""],
        &["*/*"],
        &["text/*"],
        &["application/json"],
        &["text/html;q=0, text/plain"],
        &["text/html;q=0"],
        &["text/html;q=0.000, */*"],
        &["text/html;q=0.1, text/plain;q=0.2"],
        &["text/html;q=0.5, */*;q=0.8"],
        &["text/plain", "text/html;q=0.9"],
        &["application/text/html"],
        &["text/htmlx, xtext/html"],
        &["application/x;a=\"text/html, text/html\""],
        &["text/html;level=1"],
        &["text/html;q=2"],
        &["*/html"],
        // The example of the RFC.
        &[
            "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5",
        ],
    ];
    let html = html.into_iter().map(|lines| row(lines, HTML));
    html.chain(text.into_iter().map(|lines| row(lines, TEXT))).collect()
}
