//! Keys of states. Two states are the same if they differ only in the time, and in counters and stored values that
//! affect no decision.

use std::fmt::Write as _;
use std::time::Duration;

use memchr::memmem;
use qemu_machine_core::Moment;

use crate::world::World;

/// Room for the text of most states, in bytes.
const LENGTH: usize = 8192;

/// Returns the key of a state.
pub(crate) fn of(world: &World) -> String {
    let machine = &world.machine;
    let mut text = String::with_capacity(LENGTH);
    write!(text, "{:?}", machine.session()).expect("a string takes any text");
    let mut text = session(text);
    write!(
        text,
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        machine.lifecycle(),
        machine.deadline(),
        machine.rungs(),
        machine.launch_failure(),
        machine.outcome().map(|outcome| (&outcome.cause, outcome.exit, outcome.unanswered)),
        machine.channels(),
        world.outputs(),
    )
    .expect("a string takes any text");
    relative(&text, world.now)
}

/// The text before the id of a command in flight, in the `Debug` output of a session.
const SENT: &str = "Sent { id: ";

/// Returns the ids in flight, in the order in which they were sent.
pub(crate) fn in_flight(session: &str) -> Vec<u16> {
    let ids = session.split(SENT).skip(1).map(|sent| sent.split_once(',').expect("a comma after the id").0);
    ids.map(|id| id.parse().expect("an id is a number")).collect()
}

/// Returns the text of a session without counters and ids: only the order of the commands in flight matters.
fn session(text: String) -> String {
    let ids = in_flight(&text);
    let text = without(text, "counters: Counters {", "}");
    let text = without(text, "examined: ", " }");
    // The size of an allocation decides where bytes are copied, and nothing else.
    let text = without(text, "allocated: ", ",");
    // Whether there were events before the greeting decides what the greeting reports, and their number nothing but
    // that the 65th is refused, as any message is that precedes a greeting.
    let text =
        if memmem::find(text.as_bytes(), b"early: []").is_some() { text } else { without(text, "early: [", "]") };
    // A `quit` that was sent only affects the cause in the outcome.
    let text = without(text, "has_sent_quit: ", ",");
    let mut text = without(without(text, "free: [", "]"), " ids: ", ",");
    for _ in &ids {
        text = without(text, SENT, ",");
        // The name only appears in the text of a refusal.
        text = without(text, "name: \"", "\"");
    }
    text
}

/// Returns the text without the first part between these two texts, and without them.
fn without(mut text: String, begin: &str, end: &str) -> String {
    if let Some(at) = memmem::find(text.as_bytes(), begin.as_bytes()) {
        let rest = at + begin.len();
        let length = memmem::find(&text.as_bytes()[rest..], end.as_bytes()).expect("the end of the part");
        text.replace_range(at..rest + length + end.len(), "");
    }
    text
}

/// Replaces each moment in the text by its rank: 0 if it has passed, 1 for the next, and so on. The time until then
/// affects no decision.
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
    let mut whole = String::with_capacity(text.len());
    whole.push_str(first);
    for (left, rest) in &parts {
        whole.push_str("deadline ");
        whole.push_str(&rank(left).to_string());
        whole.push_str(rest);
    }
    whole
}

/// Parses a duration. All of them are whole seconds here, but the pause before the monitor is dialled again.
fn duration(text: &str) -> Duration {
    if let Some(milliseconds) = text.strip_suffix("ms") {
        return Duration::from_secs_f64(milliseconds.parse::<f64>().expect("milliseconds") / 1e3);
    }
    let seconds = text.strip_suffix("ns").map_or_else(|| text.strip_suffix('s'), Some);
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or_else(|| panic!("not seconds: {text}")))
}
