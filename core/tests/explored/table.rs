//! Table and drawing of the states in the docs, generated from the explored graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use qemu_machine_core::lifecycle::Intent;

use super::diagram::{Ways, draw};
use super::world::{Step, World};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/");

/// The name of a state: the intent, the process, the monitor, and whether events can come, with the facts that are
/// true.
pub(crate) type Name = (String, String, String, String);

/// The transitions of each state, and the inputs that cause them.
#[derive(Default)]
pub(crate) struct Leads(BTreeMap<Name, BTreeMap<Name, BTreeSet<String>>>);

impl Leads {
    /// Adds a state, and the transition to another one. Returns whether either is new.
    pub(crate) fn add(&mut self, from: &Name, step: &Step, to: &Name) -> bool {
        let is_new = !self.0.contains_key(to);
        [from, to].into_iter().for_each(|name| _ = self.0.entry(name.clone()).or_default());
        let row = self.0.get_mut(from).expect("it was added");
        from != to && row.entry(to.clone()).or_default().insert(step.name()) || is_new
    }

    fn join(&mut self, other: Self) {
        for (from, row) in other.0 {
            let ways = self.0.entry(from).or_default();
            row.into_iter().for_each(|(to, by)| ways.entry(to).or_default().extend(by));
        }
    }
}

/// Asserts that the table and the drawing in the docs agree with the transitions of all graphs.
///
/// # Panics
///
/// When they do not agree. With `UPDATE_DOCS=1` in the environment, the files are written first.
pub(crate) fn assert_current(graphs: impl Iterator<Item = Leads>) {
    let mut leads = Leads::default();
    graphs.for_each(|graph| leads.join(graph));
    for (file, made) in [("states.md", table(&leads)), ("states.svg", draw(&ways(&leads)))] {
        let path = format!("{DOCS}{file}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &made).expect("the docs can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == made, "docs/{file} is stale: run this test with UPDATE_DOCS=1, and review the difference");
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

/// Returns the transitions between intents alone.
fn ways(leads: &Leads) -> Ways {
    let mut ways = Ways::new();
    for ((from, ..), row) in &leads.0 {
        for ((to, ..), by) in row.iter().filter(|((to, ..), _)| to != from) {
            ways.entry((from.clone(), to.clone())).or_default().extend(by.iter().cloned());
        }
    }
    ways
}

fn table(leads: &Leads) -> String {
    let mut text = String::from(
        "# The states of a machine\n\n\
         A test explores the states that a machine can reach, generates this table and compares it with this file.\n\
         A state is the intent, the process, the monitor, and whether events can still come, with two facts if they\n\
         are true: QEMU accepted a `quit`, and the launch failed. Transitions are sorted by name. Inputs that\n\
         change none of these are left out.\n\n",
    );
    let _ = writeln!(
        text,
        "{} states.\n\n| intent | process | monitor | events | goes to | by |\n|---|---|---|---|---|---|",
        leads.0.len()
    );
    for ((intent, process, link, events), row) in &leads.0 {
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
