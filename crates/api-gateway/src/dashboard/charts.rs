//! Small charts as SVG: lines over the window, with what they show in text beside them.

use std::fmt::Write;

use crate::measured::{Kind, Measured, Point, STEP_SECONDS, WINDOW_SECONDS};

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 70.0;

/// How a chart's values are written.
#[derive(Debug, Clone, Copy)]
enum Unit {
    PerSecond,
    Seconds,
    Cores,
    Bytes,
}

/// A chart's lines: their names, and what they show.
type Lines = &'static [(&'static str, Kind)];

/// What is drawn for each service: a chart's title, its unit, and its lines.
const CHARTS: [(&str, Unit, Lines); 4] = [
    ("Requests", Unit::PerSecond, &[("all", Kind::Rate), ("5xx", Kind::Errors)]),
    ("Latency", Unit::Seconds, &[("p50", Kind::P50), ("p95", Kind::P95), ("p99", Kind::P99)]),
    ("CPU", Unit::Cores, &[("cores", Kind::Cpu)]),
    ("Memory", Unit::Bytes, &[("resident", Kind::Memory)]),
];

/// The charts of a service that end at `now`, in seconds since the Unix epoch.
pub(super) fn charts(measured: &Measured, service: &str, now: u64) -> String {
    CHARTS
        .iter()
        .map(|(title, unit, lines)| chart(measured, service, now, title, *unit, lines))
        .collect()
}

fn chart(
    measured: &Measured,
    service: &str,
    now: u64,
    title: &str,
    unit: Unit,
    lines: Lines,
) -> String {
    let values = lines.iter().flat_map(|(_, kind)| measured.points(*kind, service));
    let top = values.map(|(_, value)| *value).fold(0.0, f64::max);
    let (mut drawn, mut legend, mut spoken) = (String::new(), String::new(), String::new());
    for (number, (name, kind)) in lines.iter().enumerate() {
        let value = measured
            .now(*kind, service)
            .map_or_else(|| "no value".to_owned(), |now| text(now, unit));
        drawn.push_str(&polylines(measured.points(*kind, service), number, now, top));
        let _ = write!(legend, "<span><i class=\"key line{number}\"></i>{name} {value}</span>");
        let _ = write!(spoken, " {name} {value};");
    }
    format!(
        "<figure><figcaption><b>{title}</b>{legend}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title} of {service} over 15 minutes:{spoken} highest {top}\">\
         <path class=\"axis\" d=\"M0 {HEIGHT}H{WIDTH}\"/>{drawn}</svg>\
         <p class=\"scale\"><span>15 min ago</span><span>highest {top}</span><span>now</span></p></figure>\n",
        top = text(top, unit),
    )
}

/// One line, broken where points are missing.
fn polylines(points: &[Point], number: usize, now: u64, top: f64) -> String {
    let seconds = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let start = seconds(now) - seconds(WINDOW_SECONDS);
    let mut path = String::new();
    let mut last = f64::MIN;
    for (time, value) in points {
        let x = ((time - start) / seconds(WINDOW_SECONDS) * WIDTH).clamp(0.0, WIDTH);
        let share = if top > 0.0 { value / top } else { 0.0 };
        let y = (HEIGHT - 2.0) * (1.0 - share.clamp(0.0, 1.0)) + 1.0;
        // A point of no length is drawn as a dot: one that stands alone is seen.
        let (step, dot) =
            if time - last > 2.5 * seconds(STEP_SECONDS) { ('M', "h0") } else { ('L', "") };
        let _ = write!(path, "{step}{x:.1} {y:.1}{dot}");
        last = *time;
    }
    if path.is_empty() { path } else { format!("<path class=\"line line{number}\" d=\"{path}\"/>") }
}

/// A value with its unit, short.
fn text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => format!("{value:.1}/s"),
        Unit::Seconds if value < 0.001 => format!("{:.0} µs", value * 1e6),
        Unit::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Cores => format!("{value:.3}"),
        Unit::Bytes => format!("{:.1} MB", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_the_right_edge_and_breaks_where_points_are_missing() {
        let now = 1000 + WINDOW_SECONDS;
        let points = [(1000.0, 0.0), (1015.0, 10.0), (1900.0, 5.0)];
        let line = polylines(&points, 0, now, 10.0);
        assert_eq!(line, "<path class=\"line line0\" d=\"M0.0 69.0h0L5.0 1.0M300.0 35.0h0\"/>");
        assert_eq!(polylines(&[], 0, now, 0.0), "");
    }

    #[test]
    fn values_are_short_and_have_their_unit() {
        assert_eq!(text(0.000_42, Unit::Seconds), "420 µs");
        assert_eq!(text(0.0123, Unit::Seconds), "12.3 ms");
        assert_eq!(text(5_400_000.0, Unit::Bytes), "5.4 MB");
    }
}
