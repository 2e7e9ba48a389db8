//! Keys of states. Two states are the same if they differ only in the time, and in counters and stored values that
//! affect no decision.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use memchr::memmem;
use qemu_machine_core::Moment;

use super::world::World;

/// Room for the text of most states, in bytes.
const LENGTH: usize = 8192;

/// Key of a state: two hashes of its text, since half a million texts would fill the memory of a small machine.
pub(crate) type Key = (u64, u64);

/// Returns the key of a state.
pub(crate) fn of(world: &World) -> Key {
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
    let text = relative(&text, world.now);
    let hash = |seed| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        hasher.write(text.as_bytes());
        hasher.finish()
    };
    (hash(0), hash(1))
}

/// The text before the id of a command in flight, in the `Debug` output of a session.
const SENT: &str = "Sent { id: ";

/// Returns the ids in flight, in the order in which they were sent.
pub(crate) fn in_flight(session: &str) -> Vec<u16> {
    let ids = memmem::find_iter(session.as_bytes(), SENT).map(|at| &session[at + SENT.len()..]);
    ids.map(|id| id.split_once(',').expect("a comma after the id").0.parse().expect("an id is a number")).collect()
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
    const MOMENT: &str = "Moment(";
    let starts = memmem::find_iter(text.as_bytes(), MOMENT);
    let moments: Vec<_> = starts
        .map(|start| {
            let (moment, _) = text[start + MOMENT.len()..].split_once(')').expect("a moment is in brackets");
            (start, start + MOMENT.len() + moment.len() + 1, Moment::new(duration(moment)).since(now))
        })
        .collect();
    let mut ranks: Vec<_> = moments.iter().map(|(.., left)| *left).chain([Duration::ZERO]).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let (mut whole, mut from) = (String::with_capacity(text.len()), 0);
    for (start, end, left) in moments {
        let rank = ranks.binary_search(&left).unwrap_or_default();
        write!(whole, "{}deadline {rank}", &text[from..start]).expect("a string takes any text");
        from = end;
    }
    whole.push_str(&text[from..]);
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
