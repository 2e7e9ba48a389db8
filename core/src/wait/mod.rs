//! Waits: the things that a caller can wait for.

mod found;
mod id;
mod index;
mod item;
mod mark;
mod pending;
mod running;
mod search;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde_json::Value;

use crate::config::Service;
use crate::event::{Filter, SubscriptionId};
use crate::fault::Misuse;
use crate::log_line::LogLevel;
#[cfg(feature = "regex")]
use crate::regex::{PatternError, Regex};
use crate::text::{Printable, UntrustedText};

pub use found::{Found, Hit, Missed};
pub use id::WaitId;
pub(crate) use item::Item;
pub use mark::Mark;
pub(crate) use running::Waits;
pub(crate) use search::Search;

/// A thing to wait for: an event, a text on a console, a line of the log, or the end of the machine.
///
/// [`Machine::wait`](crate::Machine::wait) waits for the first of several things, from a [`Mark`] on. Wait for failure
/// as well as success, and a kernel panic is found at once instead of after the timeout.
///
/// - A wait begins at its mark, not at the call: it also finds what arrived between the two. Events that a command
///   causes usually arrive before its reply (measured with QEMU 7.2.22), so get the mark before the command is sent.
/// - A wait only looks. It takes no event from the history, so that several waits can find the same event, and a wait
///   that times out or is [disowned](crate::Machine::disown_wait) loses nothing: wait again from the same mark.
/// - The call first searches what arrived since the mark: the events in their order, then each console, in the order of
///   the configuration. The first match is found: the earliest event wins, even if a text was printed before it. On one
///   console the match that ends first wins. If one event matches several things, the first of them in the list wins.
///   Queues of subscriptions are looked at last. After that search, whatever arrives first is found.
/// - When the machine ends, or is disconnected or detached from, every wait is over: with [`Found::End`], or with
///   [`WaitError::Ended`](crate::WaitError::Ended) if the end was not in its list. When the monitor closes and the
///   process runs on, a wait for events alone fails with [`WaitError::Disconnected`](crate::WaitError::Disconnected).
///
/// To receive every event of a kind, [subscribe](crate::Machine::subscribe); each subscription has its own filter and
/// queue.
///
/// ```
/// use qemu_machine_core::{Wait, json};
///
/// let panicked = Wait::event("GUEST_PANICKED");
/// let unplugged = Wait::event("DEVICE_DELETED").with(json!({"device": "disk1"}));
/// let login = Wait::text("tty", "login: ");
/// let end = Wait::end();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait(pub(crate) Target);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Event(Filter),
    Queued(SubscriptionId),
    Text {
        console: String,
        text: Vec<u8>,
        line: bool,
        plain: bool,
    },
    AnyLine {
        console: String,
        plain: bool,
    },
    #[cfg(feature = "regex")]
    Regex {
        console: String,
        regex: Regex,
        line: bool,
        plain: bool,
    },
    Output {
        console: String,
    },
    Log(LogLevel),
    Companion(String),
    End,
}

impl Wait {
    /// Waits for an event of this name, for example `SHUTDOWN`. Names are compared exactly.
    #[must_use]
    pub fn event(name: impl Into<String>) -> Self {
        Self(Target::Event(Filter { name: Some(name.into()), pattern: Value::Null }))
    }

    /// Waits for any event.
    #[must_use]
    pub fn any_event() -> Self {
        Self(Target::Event(Filter { name: None, pattern: Value::Null }))
    }

    /// Requires that the data of the event [match](crate::matches) a pattern. Changes nothing when this does not wait
    /// for an event. The pattern describes the `data` member. (In QEMU's Python class it describes the whole event;
    /// QEMU, `python/qemu/machine/machine.py`, `event_match`.)
    #[must_use]
    pub fn with(mut self, wanted: Value) -> Self {
        if let Target::Event(filter) = &mut self.0 {
            filter.pattern = wanted;
        }
        self
    }

    /// Waits until the queue of this subscription holds an event. It finds an event that is queued already. The event
    /// stays in the queue: [`Machine::next_event`](crate::Machine::next_event) removes it.
    #[must_use]
    pub fn queued(subscription: SubscriptionId) -> Self {
        Self(Target::Queued(subscription))
    }

    /// Waits for this text on the console of this name. The text is found as soon as its last byte arrives, also when
    /// it arrives in pieces. It has 1 to [`Limits::console`](crate::Limits::console) bytes.
    #[must_use]
    pub fn text(console: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self(Target::Text { console: console.into(), text: text.into(), line: false, plain: false })
    }

    /// Waits for a complete line that contains this text, on the console of this name. Use it when the rest of the line
    /// matters, as in `Kernel panic - not syncing: …`: [`Hit::line`] returns it. A line is complete when its line feed
    /// arrives.
    #[must_use]
    pub fn line(console: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self(Target::Text { console: console.into(), text: text.into(), line: true, plain: false })
    }

    /// Waits for the next complete line on the console of this name. [`Lines`](crate::procedure::Lines) reads all lines, one
    /// after the other.
    #[must_use]
    pub fn any_line(console: impl Into<String>) -> Self {
        Self(Target::AnyLine { console: console.into(), plain: false })
    }

    /// Waits for a text that matches a regular expression, on the console of this name. It is found where its first match
    /// ends: as soon as no later byte can change that. A match that depends on the next byte, as `\d+$`, is found when that
    /// byte arrives.
    ///
    /// The pattern matches bytes: classes such as `\d` are ASCII, `^` and `$` match at line ends, `.` matches no line end.
    /// The memory of a wait is constant, and its time is linear in the output.
    ///
    /// # Errors
    ///
    /// [`PatternError`], when the pattern is not valid, its automaton is larger than 1 MiB, it matches the empty text, or it
    /// asserts the end of the output (`\z`), which a console does not have.
    ///
    /// ```
    /// use qemu_machine_core::Wait;
    ///
    /// let prompt = Wait::regex("tty", "^[a-z]+@guest:[^ ]*[#$] ")?.plain();
    /// assert_eq!(Wait::regex("tty", "(").unwrap_err().to_string().lines().count(), 1);
    /// # Ok::<(), qemu_machine_core::PatternError>(())
    /// ```
    #[cfg(feature = "regex")]
    pub fn regex(console: impl Into<String>, pattern: &str) -> Result<Self, PatternError> {
        let regex = Regex::new(pattern)?;
        Ok(Self(Target::Regex { console: console.into(), regex, line: false, plain: false }))
    }

    /// Waits for a complete line that contains a text which matches a regular expression, as [`regex`](Self::regex) does
    /// for the text: [`Hit::line`] returns the line.
    ///
    /// # Errors
    ///
    /// As [`regex`](Self::regex).
    #[cfg(feature = "regex")]
    pub fn line_regex(console: impl Into<String>, pattern: &str) -> Result<Self, PatternError> {
        let regex = Regex::new(pattern)?;
        Ok(Self(Target::Regex { console: console.into(), regex, line: true, plain: false }))
    }

    /// Ignores escape sequences, when this waits for a text, a pattern or a line: colours, movements of the cursor, titles.
    /// The result has none either. Any other wait is unchanged.
    ///
    /// ```
    /// use qemu_machine_core::Wait;
    ///
    /// // Finds `[  \x1b[32mOK\x1b[0m  ] Reached target`, as systemd prints it.
    /// let booted = Wait::text("tty", "[  OK  ] Reached target").plain();
    /// ```
    #[must_use]
    pub fn plain(mut self) -> Self {
        match &mut self.0 {
            Target::Text { plain, .. } | Target::AnyLine { plain, .. } => *plain = true,
            #[cfg(feature = "regex")]
            Target::Regex { plain, .. } => *plain = true,
            Target::Event(_)
            | Target::Queued(_)
            | Target::Output { .. }
            | Target::Log(_)
            | Target::Companion(_)
            | Target::End => {}
        }
        self
    }

    /// Waits for any output on the console of this name, and finds everything that was printed from the mark on. To
    /// read a console as it prints, wait again from the mark of the [`Hit`]. An incomplete UTF-8 character at the end
    /// is left to the next wait.
    #[must_use]
    pub fn output(console: impl Into<String>) -> Self {
        Self(Target::Output { console: console.into() })
    }

    /// Waits for the next complete line of the log that has this level or a more severe one, on a machine whose log is
    /// [followed](crate::Config::follow_log). It finds [`Found::Log`].
    ///
    /// A line that is complete after the mark counts, also if it was begun before: QEMU prints a report in several pieces.
    /// To read all lines, wait again from the mark of the [`Hit`]; [`Hit::missed`] counts the bytes that were evicted
    /// meanwhile.
    ///
    /// ```
    /// use qemu_machine_core::{LogLevel, Wait};
    ///
    /// // let mut at = vm.mark();
    /// // while let Ok(hit) = vm.wait_any(&at, [Wait::log(LogLevel::Warning)], FOREVER) {
    /// //     println!("{}", hit.log_line().expect("only a line was waited for"));
    /// //     at = hit.mark;
    /// // }
    /// # assert_eq!(Wait::log(LogLevel::Warning).to_string(), "a line of the log, of level Warning or above");
    /// ```
    #[must_use]
    pub fn log(level: LogLevel) -> Self {
        Self(Target::Log(level))
    }

    /// Waits until the guest opens the port of [`Config::guest_agent`](crate::Config::guest_agent): its agent is up,
    /// and answers soon. QEMU reports it with `VSERPORT_CHANGE` (QEMU, `hw/char/virtio-console.c`,
    /// `set_guest_connected`), at most once a second for each port (QEMU, `monitor/monitor.c`,
    /// `monitor_qapi_event_conf`). Wait from [`Mark::default`], since the agent may have opened the port before the
    /// call.
    #[must_use]
    pub fn agent_up() -> Self {
        Self::event("VSERPORT_CHANGE").with(serde_json::json!({"id": Service::GuestAgent.id(), "open": true}))
    }

    /// Waits for the end of the [companion](crate::Config::companion) of this name. If it has ended in this run, the wait is
    /// over at once, whatever its mark is. It finds [`Found::Companion`].
    #[must_use]
    pub fn companion(name: impl Into<String>) -> Self {
        Self(Target::Companion(name.into()))
    }

    /// Waits for the end of the run: the process has ended, and everything that was created is removed; or the machine
    /// was disconnected or detached from. The outcome says which.
    #[must_use]
    pub fn end() -> Self {
        Self(Target::End)
    }

    /// Returns whether this is an event.
    pub(crate) fn is_for_events(&self) -> bool {
        matches!(self.0, Target::Event(_))
    }

    /// Converts an event to the filter of a subscription.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotAnEvent`] for any other thing.
    pub(crate) fn into_filter(self) -> Result<Filter, Misuse> {
        match self.0 {
            Target::Event(filter) => Ok(filter),
            _ => Err(Misuse::NotAnEvent),
        }
    }
}

#[cfg(feature = "record")]
impl From<Filter> for Wait {
    fn from(filter: Filter) -> Self {
        Self(Target::Event(filter))
    }
}

/// Names the thing, for messages: `event SHUTDOWN`, `the text "login: " on tty`.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Event(Filter { name, pattern }) => {
                write!(f, "event {}", Printable::line(name.as_deref().unwrap_or("of any name")))?;
                if pattern.is_null() { Ok(()) } else { write!(f, " with {}", Printable::json(&pattern.to_string())) }
            }
            Target::Queued(_) => f.write_str("an event in a queue"),
            Target::Text { console, text, line, plain: _ } => {
                let what = if *line { "a line with" } else { "the text" };
                write!(f, "{what} {:?} on {}", UntrustedText::from_utf8_lossy(text), Printable::line(console))
            }
            Target::AnyLine { console, plain: _ } => write!(f, "a line on {}", Printable::line(console)),
            #[cfg(feature = "regex")]
            Target::Regex { console, regex, line, plain: _ } => {
                let what = if *line { "a line with a match of" } else { "a match of" };
                write!(f, "{what} {} on {}", Printable::line(regex.pattern()), Printable::line(console))
            }
            Target::Output { console } => write!(f, "output of {}", Printable::line(console)),
            Target::Log(level) => write!(f, "a line of the log, of level {level:?} or above"),
            Target::Companion(name) => write!(f, "the end of companion {}", Printable::line(name)),
            Target::End => f.write_str("the end"),
        }
    }
}
