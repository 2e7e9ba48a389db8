//! Plot of how the clients scale, in four charts.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::clients::other;
use crate::meter::Taken;
use crate::plan::{Reading, Workload};
use crate::rounds::Found;

/// A chart: its title, and the coordinates of a result.
struct Chart {
    title: &'static str,
    x: fn(Workload) -> Option<usize>,
    y: fn(Workload, Taken) -> f64,
}

const CHARTS: [Chart; 4] = [
    Chart {
        title: "thousand commands per second, by number in flight",
        x: |workload| if let Workload::InFlight(depth, _) = workload { Some(depth) } else { None },
        y: |workload, taken| workload.units() as f64 / taken.wall / 1e3,
    },
    Chart {
        title: "CPU ms for a reply decoded as a value, by size in MB",
        x: |workload| match workload {
            Workload::Large(bytes, _, Reading::Value) if bytes >= 1 << 20 => Some(bytes >> 20),
            _ => None,
        },
        y: |workload, taken| taken.cpu * 1e3 / workload.units() as f64,
    },
    Chart {
        title: "CPU µs for a command, by connections in use",
        x: |workload| if let Workload::Connections(connections, _) = workload { Some(connections) } else { None },
        y: |workload, taken| taken.cpu * 1e6 / workload.units() as f64,
    },
    Chart {
        title: "CPU ms for a reply in pieces of 64 bytes, by size in MB",
        x: |workload| if let Workload::Dribble(bytes) = workload { Some(bytes >> 20) } else { None },
        y: |_, taken| taken.cpu * 1e3,
    },
];

/// Draws the charts into a file.
///
/// # Errors
///
/// If the file cannot be written.
pub fn draw(found: &Found, file: &Path) -> io::Result<()> {
    let area = SVGBackend::new(file, (1200, 900)).into_drawing_area();
    area.fill(&WHITE).map_err(other)?;
    for (area, chart) in area.split_evenly((2, 2)).iter().zip(&CHARTS) {
        one(found, chart, area)?;
    }
    area.present().map_err(other)
}

/// Returns the points of each client, in order.
fn curves(found: &Found, chart: &Chart) -> Vec<(&'static str, Vec<(f64, f64)>)> {
    let mut curves: Vec<(&'static str, Vec<(f64, f64)>)> = Vec::new();
    for ((workload, client), taken) in found {
        let Some(x) = (chart.x)(*workload) else { continue };
        let point = (x as f64, (chart.y)(*workload, *taken));
        match curves.iter_mut().find(|(other, _)| other == client) {
            Some((_, points)) => points.push(point),
            None => curves.push((client, vec![point])),
        }
    }
    curves
}

fn one(found: &Found, chart: &Chart, area: &DrawingArea<SVGBackend<'_>, Shift>) -> io::Result<()> {
    let curves = curves(found, chart);
    let points = || curves.iter().flat_map(|(_, points)| points);
    if curves.is_empty() {
        return Ok(());
    }
    // Above the highest point there is room for the legend.
    let (x, y) = (axis(points().map(|(x, _)| *x), 1.1), axis(points().map(|(_, y)| *y), 2.5));
    let measured: BTreeSet<usize> = points().map(|(x, _)| *x as usize).collect();
    let x = x.log_scale().with_key_points(measured.iter().map(|x| *x as f64).collect());
    let round = round_numbers(&y);
    let y = y.log_scale().with_key_points(round);
    let mut drawn = ChartBuilder::on(area)
        .caption(chart.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(x, y)
        .map_err(other)?;
    let label = |value: &f64| value.to_string();
    drawn.configure_mesh().x_label_formatter(&label).y_label_formatter(&label).draw().map_err(other)?;
    for (client, points) in curves {
        // A thin line of the same color is the batch of a runtime.
        let style =
            color(client.trim_end_matches(" batch")).stroke_width(if client.ends_with(" batch") { 1 } else { 2 });
        let series = LineSeries::new(points, style).point_size(3);
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style);
        drawn.draw_series(series).map_err(other)?.label(client).legend(legend);
    }
    let mut labels = drawn.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).draw().map_err(other)
}

/// Returns the range from a little below the least value to `room` times the greatest.
fn axis(values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    (least * 0.9)..(most * room)
}

/// Returns the numbers 0.001, 0.002, 0.005, 0.01, 0.02, … that are on the axis.
fn round_numbers(axis: &Range<f64>) -> Vec<f64> {
    let decades = (-3..9).map(|decade| 10_f64.powi(decade));
    decades.flat_map(|decade| [decade, 2.0 * decade, 5.0 * decade]).filter(|number| axis.contains(number)).collect()
}

/// Returns the color of a client: grey for limits, blue and green for the runtimes here, red for other clients.
fn color(client: &str) -> RGBColor {
    match client {
        "raw" => RGBColor(60, 60, 60),
        "raw+serde" => RGBColor(150, 150, 150),
        "blocking" => RGBColor(20, 80, 200),
        "mio" => RGBColor(0, 150, 120),
        "smol" => RGBColor(60, 170, 230),
        "tokio current" => RGBColor(100, 90, 220),
        "tokio multi" => RGBColor(90, 190, 90),
        "qapi" => RGBColor(200, 60, 40),
        "qapi tokio" => RGBColor(235, 130, 40),
        _ => RGBColor(190, 40, 140),
    }
}
