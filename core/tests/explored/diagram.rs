//! Decides how the ways through a run are drawn: a station for each intent, and a track to each that others lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Which intent leads to which, and by what.
pub(crate) type Ways = BTreeMap<(String, String), BTreeSet<String>>;

/// The row that a way comes from, and what leads along it.
type Source<'a> = (usize, &'a BTreeSet<String>);

/// In pixels: the height of a row, the distance of two tracks, the margin, and the size of a station.
const ROW: usize = 34;
const TRACK: usize = 26;
const MARGIN: usize = 10;
const WIDTH: usize = 130;
const HEIGHT: usize = 24;

/// How far from the middle of a station a way leaves above, and arrives below.
const ASIDE: usize = 5;

/// The intents in the order in which a run passes them: none leads to one above it.
const ORDER: [&str; 15] = [
    "Idle",
    "Launch",
    "Run",
    "LastWords",
    "HangUp",
    "Stop",
    "Kill",
    "Stop(PowerDown)",
    "Stop(Quit)",
    "Stop(Terminate)",
    "Killed",
    "Drain",
    "Clean(Log)",
    "Clean(Remove)",
    "Done",
];

/// The drawing. It has no colour of its own, but that of the text around it, whatever the theme is.
///
/// # Panics
///
/// When there is an intent that has no place, or a way that leads back.
pub(crate) fn draw(ways: &Ways) -> String {
    let mut into: BTreeMap<usize, Vec<Source<'_>>> = BTreeMap::new();
    for ((from, to), by) in ways {
        assert!(row(from) < row(to), "{from} leads back to {to}");
        into.entry(row(to)).or_default().push((row(from), by));
    }
    let is_step = |(target, sources): &(usize, Vec<Source<'_>>)| sources.len() == 1 && sources[0].0 + 1 == *target;
    let (steps, lines): (Vec<_>, Vec<_>) = into.into_iter().partition(is_step);

    let (width, height) = (MARGIN + WIDTH + (lines.len() + 1) * TRACK, ORDER.len() * ROW + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\"\n \
         style=\"max-width:100%\" role=\"img\" aria-label=\"Which intent leads to which\"\n \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"none\" stroke=\"currentColor\">\n"
    );
    ORDER.iter().enumerate().for_each(|(row, name)| station(&mut svg, row, name));
    steps.iter().for_each(|(target, sources)| step(&mut svg, *target, sources[0].1));
    lines.iter().enumerate().for_each(|(track, (target, sources))| line(&mut svg, track, *target, sources));
    svg + "</svg>\n"
}

fn row(name: &str) -> usize {
    ORDER.iter().position(|other| *other == name).unwrap_or_else(|| panic!("{name} has no place in the drawing"))
}

/// The middle of a row.
fn middle(row: usize) -> usize {
    MARGIN + row * ROW + HEIGHT / 2
}

fn station(svg: &mut String, row: usize, name: &str) {
    let (top, middle, base) = (middle(row) - HEIGHT / 2, MARGIN + WIDTH / 2, middle(row) + 4);
    let _ = writeln!(svg, "<rect x=\"{MARGIN}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"5\"/>");
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{base}\" text-anchor=\"middle\" stroke=\"none\" fill=\"currentColor\">{name}</text>"
    );
}

/// What is shown of a way to whoever points at it.
fn title(source: usize, target: usize, by: &BTreeSet<String>) -> String {
    let by = by.iter().cloned().collect::<Vec<_>>().join(", ");
    format!("<title>{} to {}: {by}</title>", ORDER[source], ORDER[target])
}

/// The way from the row above, where no other leads to this one.
fn step(svg: &mut String, target: usize, by: &BTreeSet<String>) {
    let (x, from, to) = (MARGIN + WIDTH / 2, middle(target - 1) + HEIGHT / 2, middle(target) - HEIGHT / 2);
    let (left, right, tip) = (x - 4, x + 4, to - 5);
    let title = title(target - 1, target, by);
    let _ = writeln!(svg, "<g>{title}<path d=\"M{x} {from}V{to}M{left} {tip}L{x} {to}L{right} {tip}\"/></g>");
}

/// A track to a station, which is boarded at each dot.
fn line(svg: &mut String, track: usize, target: usize, sources: &[Source<'_>]) {
    let (edge, x, end) = (MARGIN + WIDTH, MARGIN + WIDTH + (track + 1) * TRACK, middle(target) + ASIDE);
    let first = sources.iter().map(|(source, _)| middle(*source) - ASIDE).min().unwrap_or(end);
    let (tip, above, below) = (edge + 5, end - 4, end + 4);
    let _ = writeln!(svg, "<path d=\"M{x} {first}V{end}H{edge}M{tip} {above}L{edge} {end}L{tip} {below}\"/>");
    for (source, by) in sources {
        let (y, title) = (middle(*source) - ASIDE, title(*source, target, by));
        let _ = writeln!(
            svg,
            "<g>{title}<path d=\"M{edge} {y}H{x}\" stroke-opacity=\"0.25\"/>\
             <circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"currentColor\"/></g>"
        );
    }
}
