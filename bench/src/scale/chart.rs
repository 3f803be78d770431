//! The chart: a panel for each thing that grows.

use std::path::Path;

use anyhow::anyhow;
use local_stack::Result;
use plotters::prelude::*;

/// The picture's size in pixels.
const SIZE: (u32, u32) = (960, 640);
/// The line's colour.
const BLUE: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
/// The font, whichever the reader has.
const FONT: &str = "sans-serif";

/// One thing that grows, and what it costs.
#[derive(Debug)]
pub(crate) struct Panel<'a> {
    /// What it shows.
    pub(crate) title: &'a str,
    /// What stands below.
    pub(crate) x: &'a str,
    /// What stands at the side.
    pub(crate) y: &'a str,
    /// Does the axis below go by powers of ten?
    pub(crate) logarithmic: bool,
    /// The points, the smallest first.
    pub(crate) points: &'a [(f64, f64)],
}

/// Draws four panels into an SVG file.
pub(crate) fn draw(file: &Path, panels: &[Panel<'_>; 4]) -> Result<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).map_err(|error| anyhow!("{error}")).and_then(|()| {
        let parts = area.split_evenly((2, 2));
        parts.iter().zip(panels).try_for_each(|(part, panel)| panel.draw(part))?;
        area.present().map_err(|error| anyhow!("{error}"))
    });
    drawn.map_err(|error| error.context(format!("cannot draw {}", file.display())))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let (first, last) = self.ends();
        let highest = self.points.iter().map(|point| point.1).fold(0.0, f64::max);
        let heights = 0.0..(highest * 1.2).max(f64::MIN_POSITIVE);
        let mut builder = ChartBuilder::on(area);
        builder.margin(12).margin_right(32).x_label_area_size(40).y_label_area_size(56);
        builder.caption(self.title, (FONT, 16));
        macro_rules! plot {
            ($range:expr) => {{
                let mut chart = builder.build_cartesian_2d($range, heights)?;
                chart
                    .configure_mesh()
                    .x_desc(self.x)
                    .y_desc(self.y)
                    .x_labels(6)
                    .x_label_formatter(&|x| format!("{x:.0}"))
                    .label_style((FONT, 12))
                    .axis_desc_style((FONT, 13))
                    .light_line_style(WHITE)
                    .draw()?;
                let line = LineSeries::new(self.points.iter().copied(), BLUE.stroke_width(2));
                chart.draw_series(line.point_size(4))?;
            }};
        }
        let drawn: std::result::Result<(), DrawingAreaErrorKind<_>> = (|| {
            if self.logarithmic {
                plot!((first..last).log_scale());
            } else {
                plot!(first.min(0.0)..last);
            }
            Ok(())
        })();
        drawn.map_err(|error| anyhow!("{error}"))
    }

    /// The axis' ends: with one point there must be some room too.
    fn ends(&self) -> (f64, f64) {
        let of = |point: Option<&(f64, f64)>| point.map_or(1.0, |point| point.0);
        let (first, last) = (of(self.points.first()), of(self.points.last()));
        (first, last.max(first * 1.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_drawn_with_their_titles() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scale.svg");
        let of =
            |title, logarithmic, points| Panel { title, x: "rows", y: "ms", logarithmic, points };
        let panels = [
            of("a", true, &[(10.0, 1.0), (10_000.0, 1.2)][..]),
            of("b", false, &[(1.0, 2.0), (5.0, 2.0)][..]),
            of("c", false, &[(1.0, 0.0)][..]),
            of("d", true, &[][..]),
        ];
        draw(&file, &panels).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        for text in ["<svg", "rows", "10000"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
