//! Decides how the states are shown to people: as a table that is made of the explored graph, and kept in the docs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::Graph;
use crate::world::World;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md");

/// The table in the docs is the one that these graphs give.
///
/// # Panics
///
/// When it is not. With `UPDATE_DOCS=1` in the environment it is written instead.
pub(crate) fn assert_current(graphs: &[Graph]) {
    let table = table(graphs);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, &table).expect("the docs can be written");
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(kept == table, "docs/states.md is stale: run this test with UPDATE_DOCS=1, and look at what has changed");
}

/// The name of a state as far as people care.
fn name(world: &World) -> (String, String, String) {
    let life = world.machine.lifecycle();
    let first = |text: String| text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
    let intent = match format!("{:?}", life.intent()) {
        ladder if ladder.starts_with("Stop") => match life.deadline() {
            Some((_, why)) => format!("{why:?}").replace("Rung(", "Stop("),
            None => "Stop".into(),
        },
        cleaning if cleaning.starts_with("Clean") => cleaning,
        other => first(other),
    };
    (intent, first(format!("{:?}", life.process())), first(format!("{:?}", life.link())))
}

fn table(graphs: &[Graph]) -> String {
    let mut leads: BTreeMap<_, BTreeMap<_, BTreeSet<String>>> = BTreeMap::new();
    for graph in graphs {
        for (world, out) in graph.worlds.iter().zip(&graph.edges) {
            let here = name(world);
            let row = leads.entry(here.clone()).or_default();
            for (step, target) in out {
                let there = name(&graph.worlds[*target]);
                if there != here {
                    row.entry(there).or_default().insert(step.name());
                }
            }
        }
    }
    let mut text = String::from(
        "# The states of a machine\n\n\
         Made by a test from all states that it can reach, and compared with them by the same test: a state is what is\n\
         wanted of the machine (the intent), what is known of its process, and what is known of its monitor. What leads\n\
         from one to another is listed in the order of the names; what changes nothing is left out.\n\n",
    );
    let _ = writeln!(
        text,
        "{} states.\n\n| intent | process | monitor | goes to | by |\n|---|---|---|---|---|",
        leads.len()
    );
    for ((intent, process, link), row) in &leads {
        for ((to_intent, to_process, to_link), by) in row {
            let by = by.iter().cloned().collect::<Vec<_>>().join(", ");
            let to = format!("{to_intent}, {to_process}, {to_link}");
            let _ = writeln!(text, "| {intent} | {process} | {link} | {to} | {by} |");
        }
        if row.is_empty() {
            let _ = writeln!(text, "| {intent} | {process} | {link} | | |");
        }
    }
    text
}
