//! R11: a page is asked for in one spelling, and a token goes back as it was given, to the list that gave it.

use super::Row;

pub(super) fn rows() -> Vec<Row> {
    let row = |target: &str, status| {
        let target = format!("/api/v1/{target}");
        Row::read("R11", "GET", &target, &[], status)
    };
    let mut rows = Vec::new();
    for target in [
        "items?page_size=5",
        "items?page_size=4294967295",
        "items?page_token={items-token}",
        "items?page_token={items-token}&page_size=1",
        "orders?page_size=1&page_token={orders-token}",
        "items?",
    ] {
        rows.push(row(target, 200));
    }
    for query in [
        "page_size=%2B5",
        "page_size=+5",
        "page_size=%35",
        "page_size=5+",
        "page_size=5.0",
        "page_size=\u{ff15}",
        "page_size=",
        "page_size",
        "page_size=0",
        "page_size=1&page_size=3",
        "page_size=1&page_size=1",
        "page_token=1+f",
        "page_token=142&page_token=142",
        "page_token=",
        "PAGE_SIZE=1",
        "page%5Fsize=1",
        "page_token={list-token}&page_token={list-token}",
        "page_token={list-token}0",
        "page_token={list-token}00",
        "page_token={other-token}",
        "other=1",
    ] {
        for (list, other) in [("items", "orders"), ("orders", "items")] {
            let query = query.replace("{list-token}", &format!("{{{list}-token}}"));
            let query = query.replace("{other-token}", &format!("{{{other}-token}}"));
            rows.push(row(&format!("{list}?{query}"), 400));
        }
    }
    // Made up, and spelled otherwise than they are given: BOLT-M8 with capital digits, with a sign, of another version.
    for token in ["i424F4C542D4D38", "1424f4c542d4d38", "i+2", "i00", "iff", "i", "i2f", "o"] {
        rows.push(row(&format!("items?page_token={token}"), 400));
        rows.push(row(&format!("orders?page_token={}", token.replace('i', "o")), 400));
    }
    rows
}
