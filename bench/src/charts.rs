//! Charts of the medians, as SVG: bars, each with its figure, ours in another colour, limits as lines.

use std::fmt;

use anyhow::{Result, anyhow};
use plotters::{
    backend::SVGBackend,
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    element::{PathElement, Rectangle, Text},
    style::{
        BLACK, Color, IntoFont, RGBColor, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::rows::{Bound, Row, Side, Unit};

const OURS: RGBColor = RGBColor(37, 99, 168);
const THEIRS: RGBColor = RGBColor(150, 160, 172);
const LIMIT: RGBColor = RGBColor(190, 60, 40);

/// Sizes in pixels.
const WIDTH: i32 = 860;
const MARGIN: i32 = 16;
/// Where bars begin, and where the longest ends: figures stand behind it.
const BARS: [i32; 2] = [260, 740];
/// Between a bar or a limit and the figure beside it, and the width of the longest figure.
const GAP: i32 = 8;
const FIGURE: i32 = 72;
const HEADING: i32 = 40;
const BAR: i32 = 26;

/// Each chart and its file's name; those of which nothing was measured are left out.
pub fn all(rows: &[Row]) -> Result<Vec<(&'static str, String)>> {
    let mut drawn = Vec::new();
    for name in ["rates.svg", "latency.svg", "memory.svg"] {
        let shown: Vec<_> = rows.iter().filter(|row| chart_of(row) == Some(name)).collect();
        if !shown.is_empty() {
            drawn.push((name, draw(&shown)?));
        }
    }
    Ok(drawn)
}

/// The chart that a row belongs to.
fn chart_of(row: &Row) -> Option<&'static str> {
    match row.unit {
        Unit::PerCore | Unit::Rate => Some("rates.svg"),
        Unit::Milliseconds if row.number != "8" => Some("latency.svg"),
        Unit::Megabytes => Some("memory.svg"),
        Unit::Milliseconds | Unit::Seconds => None,
    }
}

/// One chart: rows below each other, each on a scale of its own.
fn draw(rows: &[&Row]) -> Result<String> {
    let bars: usize = rows.iter().map(|row| row.sides.len()).sum();
    let height = 2 * MARGIN + HEADING * count(rows.len()) + BAR * count(bars);
    let mut text = String::new();
    {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let canvas = Canvas { area };
        canvas.area.fill(&WHITE).map_err(failed)?;
        let mut top = MARGIN;
        for row in rows {
            top = group(&canvas, row, top)?;
        }
        canvas.area.present().map_err(failed)?;
    }
    Ok(text)
}

/// A row's bars from `top` on; where the next begins.
fn group(canvas: &Canvas<'_>, row: &Row, mut top: i32) -> Result<i32> {
    let title = format!("{}. {}, {}", row.number, row.title, row.unit.name());
    canvas.text(&title, MARGIN, top + HEADING / 2, HPos::Left, 19)?;
    top += HEADING;
    let limits = row.targets.iter().filter_map(|target| match target.bound {
        Bound::AtMost(limit) => Some(limit),
        _ => None,
    });
    let limit = limits.reduce(f64::max);
    let most = row.sides.iter().filter_map(Side::median).chain(limit).fold(0.0, f64::max);
    let limit = limit.map(|limit| BARS[0] + length(limit, most));
    let begin = top;
    for side in &row.sides {
        let middle = top + BAR / 2;
        canvas.text(&side.name, BARS[0] - GAP, middle, HPos::Right, 16)?;
        let end = BARS[0] + length(side.median().unwrap_or_default(), most);
        let ours = row.targets.iter().any(|target| target.side == side.name);
        canvas.bar([BARS[0], top + 4, end, top + BAR - 4], if ours { OURS } else { THEIRS })?;
        let figure = match (&side.missing, side.median()) {
            (Some(_), _) => "missing".to_owned(),
            (None, Some(figure)) => row.unit.show(figure),
            (None, None) => "not measured".to_owned(),
        };
        canvas.text(&figure, beside(end, limit), middle, HPos::Left, 16)?;
        top += BAR;
    }
    if let Some(limit) = limit {
        canvas.line(limit, begin, top)?;
    }
    Ok(top)
}

/// Where a figure begins: right of its bar, and of a limit's line that would go through it.
fn beside(bar: i32, limit: Option<i32>) -> i32 {
    limit.filter(|limit| (bar..bar + GAP + FIGURE).contains(limit)).unwrap_or(bar) + GAP
}

/// A figure's share of the longest bar, in pixels.
fn length(figure: f64, most: f64) -> i32 {
    if most <= 0.0 || !figure.is_finite() {
        return 0;
    }
    let [begin, end] = BARS.map(f64::from);
    #[expect(clippy::cast_possible_truncation, reason = "a share of less than a thousand pixels")]
    let length = (figure / most * (end - begin)).round() as i32;
    length
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// What is drawn on.
struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

impl Canvas<'_> {
    fn bar(&self, [left, top, right, bottom]: [i32; 4], colour: RGBColor) -> Result<()> {
        let bar = Rectangle::new([(left, top), (right, bottom)], colour.filled());
        self.area.draw(&bar).map_err(failed)
    }

    fn line(&self, x: i32, top: i32, bottom: i32) -> Result<()> {
        let line = PathElement::new([(x, top), (x, bottom)], LIMIT.stroke_width(2));
        self.area.draw(&line).map_err(failed)
    }

    /// Text whose middle is at that height.
    fn text(&self, text: &str, x: i32, y: i32, at: HPos, size: i32) -> Result<()> {
        let style = TextStyle::from(("sans-serif", size).into_font()).color(&BLACK);
        let style = style.pos(Pos::new(at, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), (x, y), style)).map_err(failed)
    }
}

fn failed(error: impl fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Sample;

    #[test]
    fn there_are_charts_of_what_was_measured_with_every_side_and_its_figure() {
        let mut rate =
            Row::new("1", "the cheapest route", Unit::PerCore).at_least("ours", 1.0, "nginx");
        rate.add("ours", Sample::of(98_765.0));
        rate.add_missing("nginx", "it is not there");
        let mut memory = Row::new("7", "memory", Unit::Megabytes).at_most("ours", 8.0);
        memory.add("ours", Sample::of(4.0));
        let charts = all(&[rate, memory]).unwrap();
        let names: Vec<_> = charts.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["rates.svg", "memory.svg"]);
        for part in ["the cheapest route", "ours", "98,765", "nginx", "missing"] {
            assert!(charts[0].1.contains(part), "{part}: {}", charts[0].1);
        }
    }

    #[test]
    fn no_limit_goes_through_a_figure() {
        let of = |limit| beside(500, limit);
        assert_eq!([of(None), of(Some(499)), of(Some(580))], [508; 3]);
        assert_eq!([of(Some(500)), of(Some(520)), of(Some(579))], [508, 528, 587]);
    }

    #[test]
    fn the_longest_bar_ends_where_figures_begin() {
        assert_eq!([length(5.0, 5.0), length(2.5, 5.0), length(0.0, 5.0)], [480, 240, 0]);
        assert_eq!([length(1.0, 0.0), length(f64::NAN, 5.0)], [0, 0]);
    }
}
