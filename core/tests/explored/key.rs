//! Decides which states count as the same: all that differ in nothing but the time on the clock, and in what is counted
//! or remembered without deciding anything.

use std::time::Duration;

use qemu_machine_core::Moment;

use crate::world::World;

/// What tells one state from another.
pub(crate) fn of(world: &World) -> String {
    let machine = &world.machine;
    let session = session(&format!("{:?}", machine.session()));
    let text = format!(
        "{:?} {session} {:?} {:?} {:?} {:?} {:?} {:?}",
        machine.lifecycle(),
        machine.deadline(),
        machine.rungs(),
        machine.launch_failure(),
        machine.outcome().map(|outcome| (&outcome.cause, outcome.exit, outcome.unanswered)),
        machine.channels(),
        world.outputs(),
    );
    relative(&text, world.now)
}

/// Where the id of a command on the wire stands.
const SENT: &str = "Sent { id: ";

/// The ids on the wire, in the order of sending.
pub(crate) fn in_flight(session: &str) -> Vec<u16> {
    let ids = session.split(SENT).skip(1).map(|sent| sent.split_once(',').expect("more than an id is kept").0);
    ids.map(|id| id.parse().expect("an id is a number")).collect()
}

/// A session without what is counted, and without which ids are used: it matters only which command is the first on the
/// wire, the second and so on.
fn session(text: &str) -> String {
    let ids = in_flight(text);
    let text = without(text.to_owned(), "counters: Counters {", "}");
    let text = without(text, "examined: ", " }");
    let mut text = without(without(text, "free: [", "]"), " ids: ", ",");
    for _ in &ids {
        text = without(text, SENT, ",");
        // It is only for the words of a refusal.
        text = without(text, "name: \"", "\"");
    }
    text
}

/// The text without the first part that begins and ends so.
fn without(text: String, begin: &str, end: &str) -> String {
    let Some((before, rest)) = text.split_once(begin) else { return text };
    let (_, behind) = rest.split_once(end).expect("what begins ends");
    format!("{before}{behind}")
}

/// The text with each moment told by whether it has passed, and which of those to come is the first, the second and so
/// on: how long it is until then decides nothing.
fn relative(text: &str, now: Moment) -> String {
    let mut parts = text.split("Moment(");
    let first = parts.next().unwrap_or_default();
    let parts: Vec<(Duration, &str)> = parts
        .map(|part| part.split_once(')').expect("a moment is in brackets"))
        .map(|(moment, rest)| (Moment::new(duration(moment)).since(now), rest))
        .collect();
    let mut ranks: Vec<_> = parts.iter().map(|(left, _)| *left).chain([Duration::ZERO]).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let rank = |left: &Duration| ranks.binary_search(left).unwrap_or_default();
    parts.iter().fold(first.to_owned(), |whole, (left, rest)| format!("{whole}deadline {}{rest}", rank(left)))
}

/// All durations here are of seconds, or nothing.
fn duration(text: &str) -> Duration {
    let seconds = text.strip_suffix("ns").map_or_else(|| text.strip_suffix('s'), Some);
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or_else(|| panic!("not seconds: {text}")))
}
