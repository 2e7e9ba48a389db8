//! Properties of record texts: each is parsed or refused, and a parsed one can be written, replayed, printed, displayed,
//! redacted and used by a mock.

use qemu_machine_core::record::{Mock, Record};

use super::Tape;

/// A run with a line of every kind.
const LIFECYCLE: &str = include_str!("../run.jsonl");

/// The most steps of a record, and the most changes of a whole text, which copy it.
const MOST: (usize, usize) = (3_000, 100);

pub(super) fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let steps = steps();
    let mut text = steps[0].clone();
    let mut at = 1;
    let (mut added, mut changes) = (0, 0);
    while !tape.is_empty() && added < MOST.0 && changes < MOST.1 {
        added += 1;
        let mut step = steps[at % steps.len()].clone();
        at += 1;
        match tape.below(8) {
            0 => at += tape.below(steps.len()),
            1 => at = tape.below(steps.len()),
            2 => step = change(&step, &mut tape),
            3 => {
                text = change(&text, &mut tape);
                changes += 1;
            }
            // An input without its outputs.
            7 => step.truncate(step.find('\n').unwrap_or(step.len())),
            _ => {}
        }
        text.push('\n');
        text.push_str(&step);
    }
    check(&text);
}

/// Returns the first line, and each input with its outputs.
fn steps() -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for line in LIFECYCLE.lines() {
        match steps.last_mut() {
            Some(step) if line.contains("\"output\"") => step.extend(["\n", line]),
            _ => steps.push(line.into()),
        }
    }
    steps
}

/// Returns the text with some bytes replaced by others.
fn change(text: &str, tape: &mut Tape<'_>) -> String {
    let from = tape.below(256) * text.len() / 256;
    let to = (from + tape.below(8)).min(text.len());
    String::from_utf8_lossy(&[&text.as_bytes()[..from], tape.bytes(), &text.as_bytes()[to..]].concat()).into_owned()
}

fn check(text: &str) {
    let Ok(mut record) = text.parse::<Record>() else { return };
    let written = record.to_string();
    let again: Record = written.parse().expect("we wrote it");
    assert_eq!(again.to_string(), written);
    assert_eq!((again.len(), again.dropped()), (record.len(), record.dropped()));
    if let Ok(machine) = record.replay() {
        // The replayed machine writes the same lines; the record may end before the last of them.
        let lived = machine.record().expect("a replay is recorded").to_string();
        let told = |text: &str| text.lines().skip(1).map(str::to_string).collect::<Vec<_>>();
        assert!(told(&lived).starts_with(&told(&written)));
    }
    let lines = record.timeline().to_string().lines().count();
    assert!(lines <= record.len(), "the timeline has more lines than the record");
    let page = record.report().to_string();
    assert_eq!(page.matches("<script").count(), 2, "no text of a record becomes an element");
    let mut mock = Mock::new(&record);
    let answers = mock.receive(br#"{"execute": "query-status", "id": 5}"#);
    assert!(mock.is_over() || answers.contains("\"id\":5"), "{answers}");
    let replays = record.replay().is_ok();
    record.redact("geheim").expect("it is long enough");
    record.redact_member("password");
    assert!(!record.to_string().contains("geheim"));
    assert!(!replays || record.replay().is_ok(), "{:?}", record.replay());
}
