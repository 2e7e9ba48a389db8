//! Regular expression that matches a stream of bytes in constant memory.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use regex_automata::Anchored;
use regex_automata::dfa::dense;
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::look::Look;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};

use crate::text::UntrustedText;

/// A compiled pattern. Copies share the automaton. Two are equal when their patterns are.
#[derive(Clone)]
pub(crate) struct Regex {
    pattern: Arc<str>,
    automaton: Arc<dense::DFA<Vec<u32>>>,
}

/// Why a pattern cannot be waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The pattern is not a regular expression. Characters outside of ASCII, look-around and references to groups are not
    /// supported; `\xc3\xa4` are the bytes of such a character.
    #[error("the pattern is not valid: {0}")]
    Invalid(UntrustedText),
    /// The automaton of the pattern is larger than the limit: it has large repetitions or many alternatives.
    #[error("the pattern needs more than {limit} bytes: repeat less in it")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The pattern matches the empty text, which is everywhere.
    #[error("the pattern matches the empty text: it would be found at any time")]
    Empty,
    /// The pattern has an assertion of the end, `\z` or `(?-m:$)`, and a console has none: it would never be found.
    #[error("the pattern asserts the end of the output, which has none: `$` is the end of a line")]
    End,
}

/// The most memory of an automaton, and of its construction: 1 MiB, as much as a console keeps. The automaton of a pattern
/// that a person writes takes some kilobytes.
const LIMIT: usize = 1 << 20;

/// Bytes of each kind that an assertion in a pattern tells apart: a letter, a blank, and the parts of a line end.
const KINDS: [u8; 4] = [b'a', b' ', b'\n', b'\r'];

impl Regex {
    /// Compiles a pattern. It matches bytes, `^` and `$` match at line ends (LF and CR LF), `.` matches no line end, and
    /// classes are ASCII.
    pub(crate) fn new(pattern: &str) -> Result<Self, PatternError> {
        let config = syntax::Config::new().unicode(false).utf8(false).multi_line(true).crlf(true);
        let parsed = syntax::parse_with(pattern, &config);
        let parsed = parsed.map_err(|error| {
            // Before its reason are the pattern and a mark below it, on lines of their own.
            let text = error.to_string();
            PatternError::Invalid(text.rsplit("error: ").next().unwrap_or(&text).into())
        })?;
        let nfa = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(LIMIT))
            .which_captures(thompson::WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(nfa).build_from_hir(&parsed);
        // A parsed pattern fails only because of its size.
        let nfa = nfa.map_err(|_| PatternError::TooLarge { limit: LIMIT })?;
        if nfa.look_set_any().contains(Look::End) {
            return Err(PatternError::End);
        }
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(LIMIT))
            .determinize_size_limit(Some(LIMIT));
        let automaton = dense::Builder::new().configure(config).build_from_nfa(&nfa);
        let automaton = automaton.map_err(|_| PatternError::TooLarge { limit: LIMIT })?;
        let regex = Self { pattern: pattern.into(), automaton: Arc::new(automaton) };
        if regex.matches_empty() { Err(PatternError::Empty) } else { Ok(regex) }
    }

    /// Returns the pattern.
    pub(crate) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Returns a matcher of a stream that begins after this byte. `None` means that it begins with a line.
    pub(crate) fn matcher(&self, before: Option<u8>) -> Matcher {
        let start = start::Config::new().anchored(Anchored::No).look_behind(before);
        // Fails only for a byte that the automaton gives up at. There are none without Unicode.
        let state = self.automaton.start_state(&start).ok();
        Matcher { regex: self.clone(), state }
    }

    fn matches_empty(&self) -> bool {
        let begins = KINDS.map(Some).into_iter().chain([None]);
        begins.map(|before| self.matcher(before)).any(|matcher| KINDS.iter().any(|kind| matcher.matches_before(*kind)))
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.pattern).finish()
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Regex {}

/// Matcher of a stream, byte by byte.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matcher {
    regex: Regex,
    /// `None` means that there is no match any more.
    state: Option<StateID>,
}

impl Matcher {
    /// Adds a byte. Returns whether the pattern matches the stream before this byte: a match is known one byte later, when
    /// the assertions at its end are decided.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        let Some(state) = self.state else { return false };
        let next = self.regex.automaton.next_state(state, byte);
        self.state = (!self.regex.automaton.is_dead_state(next)).then_some(next);
        self.regex.automaton.is_match_state(next)
    }

    /// Returns whether the pattern matches the stream so far, whatever byte follows.
    pub(crate) fn is_certain(&self) -> bool {
        KINDS.iter().all(|kind| self.matches_before(*kind))
    }

    /// Returns whether the pattern matches the stream so far, if this byte follows.
    fn matches_before(&self, byte: u8) -> bool {
        let automaton = &self.regex.automaton;
        self.state.is_some_and(|state| automaton.is_match_state(automaton.next_state(state, byte)))
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;

    /// Returns where the first match ends, for output in pieces.
    fn end(pattern: &str, pieces: &[&str]) -> Option<usize> {
        let mut matcher = Regex::new(pattern).unwrap().matcher(None);
        let mut end = 0;
        for piece in pieces {
            for byte in piece.bytes() {
                if matcher.push(byte) {
                    return Some(end);
                }
                end += 1;
            }
            if matcher.is_certain() {
                return Some(end);
            }
        }
        None
    }

    #[test]
    fn the_first_match_ends_at_the_same_place_however_the_output_is_split() {
        for (pattern, printed, expected) in [
            ("panic|oops", "a kernel panic", Some(14)),
            ("[#$] ", "root# ", Some(6)),
            ("^login: ", "a login: \nlogin: x", Some(17)),
            (r"done\r?$", "done?\ndone\r\n", Some(10)),
            (r"\bok\b", "book ok ", Some(7)),
            (r"\bok\b", "ok", None),
            (r"took \d+ ms", "took 12", None),
            (r"took \d+ ms", "took 12 ms", Some(10)),
            (r"(?i)KERNEL PANIC", "Kernel panic", Some(12)),
            ("a.c", "a\ncabc", Some(6)),
            (r"\xff", "\u{ff}", None),
        ] {
            for size in 1..=printed.len() {
                let pieces: Vec<_> = printed.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece)).collect();
                let Ok(pieces) = pieces.into_iter().collect::<Result<Vec<_>, _>>() else { continue };
                assert_eq!(end(pattern, &pieces), expected, "{pattern} in {printed:?} by {size}");
            }
        }
    }

    #[test]
    fn a_pattern_that_is_not_valid_is_refused() {
        for pattern in ["(", r"\p{Greek}", "a{2,1}", r"(a)\1"] {
            assert!(matches!(Regex::new(pattern), Err(PatternError::Invalid(_))), "{pattern}");
        }
        for pattern in ["(a{1000}){1000}", "[ab]*a[ab]{18}", "(.{0,100}x){0,1000}y"] {
            assert_eq!(Regex::new(pattern).unwrap_err(), PatternError::TooLarge { limit: LIMIT }, "{pattern}");
        }
        for pattern in [r"ok\z", r"ok(\z|!)", "(?-m)ok$", "(?-m:ok$)|a", r"\z"] {
            assert_eq!(Regex::new(pattern).unwrap_err(), PatternError::End, "{pattern}");
        }
        assert_eq!(end(r"\Aok", &["ok ok"]), Some(2));
        for pattern in ["", "a*", "^", "$", r"\b", "x|"] {
            assert_eq!(Regex::new(pattern).unwrap_err(), PatternError::Empty, "{pattern}");
        }
    }
}
