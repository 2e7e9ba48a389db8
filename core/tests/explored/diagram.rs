//! Drawing of the transitions between intents: a box for each intent, and a track to each intent that several lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The transitions from one intent to another, with the inputs that cause them.
pub(crate) type Ways = BTreeMap<(String, String), BTreeSet<String>>;

/// The row that a transition comes from, and the inputs that cause it.
type Source<'a> = (usize, &'a BTreeSet<String>);

/// In pixels: the height of a row, the distance of two tracks, the margin, and the size of a box.
const ROW: usize = 34;
const TRACK: usize = 26;
const MARGIN: usize = 10;
const WIDTH: usize = 130;
const HEIGHT: usize = 24;

/// The distance in pixels from the middle of a box at which transitions leave above it, and arrive below it.
const ASIDE: usize = 5;

/// The intents in the order in which a run passes them: no transition leads upwards.
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

/// Returns the drawing. It uses the colour of the text around it, so that it fits a light and a dark theme.
///
/// # Panics
///
/// When an intent is missing in [`ORDER`], or a transition leads upwards.
pub(crate) fn draw(ways: &Ways) -> String {
    let mut into: BTreeMap<usize, Vec<Source<'_>>> = BTreeMap::new();
    for ((from, to), by) in ways {
        assert!(row(from) < row(to), "the transition from {from} to {to} leads upwards");
        into.entry(row(to)).or_default().push((row(from), by));
    }
    let is_step = |(target, sources): &(usize, Vec<Source<'_>>)| sources.len() == 1 && sources[0].0 + 1 == *target;
    let (steps, lines): (Vec<_>, Vec<_>) = into.into_iter().partition(is_step);

    let (width, height) = (MARGIN + WIDTH + (lines.len() + 1) * TRACK, ORDER.len() * ROW + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\"\n \
         style=\"max-width:100%\" role=\"img\" aria-label=\"Transitions between the intents\"\n \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"none\" stroke=\"currentColor\">\n"
    );
    ORDER.iter().enumerate().for_each(|(row, name)| station(&mut svg, row, name));
    steps.iter().for_each(|(target, sources)| step(&mut svg, *target, sources[0].1));
    lines.iter().enumerate().for_each(|(track, (target, sources))| line(&mut svg, track, *target, sources));
    svg + "</svg>\n"
}

fn row(name: &str) -> usize {
    ORDER.iter().position(|other| *other == name).unwrap_or_else(|| panic!("{name} is missing in `ORDER`"))
}

/// Returns the middle of a row.
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

/// Returns the tooltip of a transition.
fn title(source: usize, target: usize, by: &BTreeSet<String>) -> String {
    let by = by.iter().cloned().collect::<Vec<_>>().join(", ");
    format!("<title>{} to {}: {by}</title>", ORDER[source], ORDER[target])
}

/// Draws a transition from the row above, to an intent that no other transition leads to.
fn step(svg: &mut String, target: usize, by: &BTreeSet<String>) {
    let (x, from, to) = (MARGIN + WIDTH / 2, middle(target - 1) + HEIGHT / 2, middle(target) - HEIGHT / 2);
    let (left, right, tip) = (x - 4, x + 4, to - 5);
    let title = title(target - 1, target, by);
    let _ = writeln!(svg, "<g>{title}<path d=\"M{x} {from}V{to}M{left} {tip}L{x} {to}L{right} {tip}\"/></g>");
}

/// Draws a track to an intent, with a dot for each transition that joins it.
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
