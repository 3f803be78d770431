//! The parts: how each is, what it is built from, how it does.

use std::fmt::Write;

use super::charts::charts;
use crate::{
    html::{escape, string},
    measured::{Kind, Measured},
    topology::Part,
};

/// A part as a card, with charts where there are measurements of it.
pub(super) fn part(part: &Part, measured: Option<&Measured>, now: u64) -> String {
    let (class, state) = state(part);
    let latency =
        part.latency_ms.map_or_else(String::new, |latency| format!(", answered in {latency} ms"));
    let reasons: String = part
        .reasons
        .iter()
        .map(|reason| format!("<p class=\"{class}\">{}</p>", escape(reason)))
        .collect();
    let (name, build) = (escape(part.name), escape(&build(part)));
    let (figures, charts) = match measured {
        Some(measured) if part.name != "prometheus" => {
            (figures(measured, part.name), charts(measured, part.name, now))
        }
        _ => Default::default(),
    };
    format!(
        "<article id=\"part-{name}\"><h2>{name}</h2><p><b class=\"{class}\">{state}</b>{latency}; {build}</p>{reasons}{figures}\
         <div class=\"charts\">{charts}</div></article>\n"
    )
}

/// A part and its state in the line at the top, which leads to its card.
pub(super) fn summary(part: &Part) -> String {
    let (class, state) = state(part);
    let name = escape(part.name);
    format!("<li><a href=\"#part-{name}\">{name}</a> <b class=\"{class}\">{state}</b></li>")
}

/// In-flight requests and their limit, replicas, breaker and retries, as far as they are measured.
fn figures(measured: &Measured, service: &str) -> String {
    let whole = |kind| measured.now(kind, service).map(|value| format!("{value:.0}"));
    let mut text = String::new();
    if let (Some(at_work), Some(limit)) = (whole(Kind::InFlight), whole(Kind::InFlightLimit)) {
        let _ = write!(text, "{at_work} of at most {limit} requests at work");
    }
    if let Some(replicas) = whole(Kind::Replicas).filter(|replicas| replicas != "1") {
        let _ = write!(text, "; {replicas} replicas");
    }
    if let Some(state) = measured.now(Kind::Breaker, service) {
        let state = if state > 1.5 {
            "open"
        } else if state > 0.5 {
            "half open"
        } else {
            "closed"
        };
        let (sent, refused) = (whole(Kind::Retries), whole(Kind::RetriesRefused));
        let _ = write!(
            text,
            "; breaker {state}; {} retries in 15 min, {} refused by their budget",
            sent.as_deref().unwrap_or("0"),
            refused.as_deref().unwrap_or("0"),
        );
    }
    if text.is_empty() { text } else { format!("<p>{text}</p>") }
}

/// A part's state: its class in the style sheet, and its name.
pub(super) fn state(part: &Part) -> (&'static str, &'static str) {
    match (part.latency_ms, part.healthy, part.ready) {
        (None, ..) => ("bad", "away"),
        (_, false, _) => ("bad", "not healthy"),
        (_, true, false) => ("pending", "not ready"),
        (_, true, true) => ("good", "ready"),
    }
}

/// What a part says of its build, whether callers are known, and the faults that are set on it.
pub(super) fn build(part: &Part) -> String {
    let Some(build) = &part.build else { return "build not known".to_owned() };
    let mut text =
        format!("version {}, revision {}", string(build, "version"), string(build, "revision"));
    if let Some(digest) = build["image_digest"].as_str() {
        let _ = write!(text, ", image {digest}");
    }
    if build["identity"] == "off" {
        text.push_str("; IDENTITY=off: services do not ask each other who they are");
    }
    match build["faults"].as_array().map_or(0, Vec::len) {
        0 => {}
        1 => text.push_str("; a fault on purpose"),
        count => {
            let _ = write!(text, "; {count} faults on purpose");
        }
    }
    text
}
