//! Completion and hints at the prompt: the interpreter of each part of a line, and the names that only QEMU knows.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::complete::{candidates, candidates_for_action, hint, hint_for_action};
use crate::live::Live;
use crate::mode::Mode;
use crate::split::joined;
use crate::transaction::OPEN;

/// The time that QEMU may take to report names. The user has pressed TAB and waits; a busy QEMU has no names to offer.
const WITHIN: Duration = Duration::from_secs(1);

/// The interpreter of the end of a line, and the text for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Qmp(&'a str),
    /// The text after `transaction(`.
    Action(&'a str),
    Human(&'a str),
    Agent(&'a str),
}

impl<'a> Part<'a> {
    fn of(before: &'a str, mode: Mode) -> Self {
        let line = before.trim_start();
        let after = |word: &str| line.strip_prefix(word).filter(|rest| rest.starts_with(char::is_whitespace));
        match mode {
            Mode::Human => Self::Human(before),
            Mode::Agent => Self::Agent(before),
            Mode::Qmp => after("hmp")
                .map(Self::Human)
                .or_else(|| after("agent").map(Self::Agent))
                .or_else(|| line.strip_prefix(OPEN).map(Self::Action))
                .unwrap_or(Self::Qmp(before)),
        }
    }
}

impl Client {
    /// Returns where the last word begins, and the candidates to replace it. It takes a second at the most.
    pub(crate) fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let nothing = (before.len(), Vec::new());
        let Ok(lines) = joined(before) else { return nothing };
        let within = Instant::now() + WITHIN;
        let live = |names: Live<'_>| names.ask(&self.queries, &self.vm, within);
        let (text, found) = match Part::of(&lines, self.mode) {
            Part::Human(text) => (text, self.human_commands(within).map(|known| known.candidates(text, live))),
            Part::Agent(text) => (text, self.guest_info(within).map(|info| info.candidates(text))),
            Part::Qmp(text) => (text, self.schema.as_ref().map(|schema| candidates(text, schema, live))),
            Part::Action(text) => (text, self.schema.as_ref().map(|schema| candidates_for_action(text, schema, live))),
        };
        let Some((start, found)) = found else { return nothing };
        match same_end(before, &lines, text.len() - start) {
            Some(start) => (start, found),
            None => nothing,
        }
    }

    /// Returns the hint after a line. `None` means that there is none.
    pub(crate) fn hint(&self, line: &str) -> Option<String> {
        let schema = self.schema.as_ref()?;
        match Part::of(&joined(line).ok()?, self.mode) {
            Part::Qmp(text) => hint(text, schema),
            Part::Action(text) => hint_for_action(text, schema),
            Part::Human(_) | Part::Agent(_) => None,
        }
    }
}

/// Returns where the last `length` bytes of joined lines begin in the lines. `None` means that they are in several lines.
fn same_end(lines: &str, joined: &str, length: usize) -> Option<usize> {
    let start = lines.len().checked_sub(length)?;
    (lines.get(start..) == joined.get(joined.len() - length..)).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_selects_the_interpreter() {
        assert_eq!(Part::of("query-", Mode::Qmp), Part::Qmp("query-"));
        assert_eq!(Part::of(" hmp info", Mode::Qmp), Part::Human(" info"));
        assert_eq!(Part::of("hmp", Mode::Qmp), Part::Qmp("hmp"));
        assert_eq!(Part::of("agent guest-", Mode::Qmp), Part::Agent(" guest-"));
        assert_eq!(Part::of("transaction(\nabort\nx", Mode::Qmp), Part::Action("\nabort\nx"));
        assert_eq!(Part::of("hmp info", Mode::Human), Part::Human("hmp info"));
        assert_eq!(Part::of("agent x", Mode::Agent), Part::Agent("agent x"));
    }

    #[test]
    fn a_word_begins_at_the_same_text_in_the_lines() {
        assert_eq!(same_end("set \\\nco", "set co", 2), Some(6));
        assert_eq!(same_end("set co\\\nun", "set coun", 4), None);
        assert_eq!(same_end("", "", 0), Some(0));
    }
}
