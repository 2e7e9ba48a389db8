//! Table and drawing of the states in the docs, generated from the explored graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use qemu_machine_core::lifecycle::Intent;

use crate::Graph;
use crate::diagram::{Ways, draw};
use crate::world::World;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/");

/// The name of a state: the intent, the process, the monitor, and whether events can come, with the facts that are
/// true.
pub(crate) type Name = (String, String, String, String);

/// The transitions of each state, and the inputs that cause them.
type Leads = BTreeMap<Name, BTreeMap<Name, BTreeSet<String>>>;

/// Asserts that the table and the drawing in the docs agree with these graphs.
///
/// # Panics
///
/// When they do not agree. With `UPDATE_DOCS=1` in the environment, the files are written first.
pub(crate) fn assert_current(graphs: &[Graph]) {
    let leads = leads(graphs);
    for (file, made) in [("states.md", table(&leads)), ("states.svg", draw(&ways(&leads)))] {
        let path = format!("{DOCS}{file}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &made).expect("the docs can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == made, "docs/{file} is stale: run this test with UPDATE_DOCS=1, and review the difference");
    }
}

/// Returns the name of a state for the docs.
pub(crate) fn name(world: &World) -> Name {
    let run = world.machine.lifecycle();
    let first = |text: String| text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
    let intent = match run.intent() {
        Intent::Stop(ladder) => match ladder.deadline() {
            Some((_, why)) => format!("{why:?}").replace("Rung(", "Stop("),
            None => "Stop".into(),
        },
        Intent::Clean { step, .. } => format!("Clean({step:?})"),
        other => first(format!("{other:?}")),
    };
    let outputs = [(run.is_quit_issued(), "quit accepted"), (run.failure().is_some(), "launch failed")];
    let outputs = outputs.iter().filter(|(is_true, _)| *is_true).map(|(_, name)| format!(", {name}"));
    let events = first(format!("{:?}", run.events())) + &outputs.collect::<String>();
    (intent, first(format!("{:?}", run.process())), first(format!("{:?}", run.link())), events)
}

fn leads(graphs: &[Graph]) -> Leads {
    let mut leads = Leads::new();
    for graph in graphs {
        for (found, out) in graph.found.iter().zip(&graph.edges) {
            let here = &found.name;
            let row = leads.entry(here.clone()).or_default();
            for (step, target) in out {
                let there = &graph.found[*target].name;
                if there != here {
                    row.entry(there.clone()).or_default().insert(step.name());
                }
            }
        }
    }
    leads
}

/// Returns the transitions between intents alone.
fn ways(leads: &Leads) -> Ways {
    let mut ways = Ways::new();
    for ((from, ..), row) in leads {
        for ((to, ..), by) in row.iter().filter(|((to, ..), _)| to != from) {
            ways.entry((from.clone(), to.clone())).or_default().extend(by.iter().cloned());
        }
    }
    ways
}

fn table(leads: &Leads) -> String {
    let mut text = String::from(
        "# The states of a machine\n\n\
         A test explores all states that a machine can reach, generates this table and compares it with this file.\n\
         A state is the intent, the process, the monitor, and whether events can still come, with two facts if they\n\
         are true: QEMU accepted a `quit`, and the launch failed. Transitions are sorted by name. Inputs that\n\
         change none of these are left out.\n\n",
    );
    let _ = writeln!(
        text,
        "{} states.\n\n| intent | process | monitor | events | goes to | by |\n|---|---|---|---|---|---|",
        leads.len()
    );
    for ((intent, process, link, events), row) in leads {
        for ((to_intent, to_process, to_link, to_events), by) in row {
            let by = by.iter().cloned().collect::<Vec<_>>().join(", ");
            let to = format!("{to_intent}; {to_process}; {to_link}; {to_events}");
            let _ = writeln!(text, "| {intent} | {process} | {link} | {events} | {to} | {by} |");
        }
        if row.is_empty() {
            let _ = writeln!(text, "| {intent} | {process} | {link} | {events} | | |");
        }
    }
    text
}
