//! Decides what can be waited for.

mod found;
mod item;
mod mark;
mod pending;
mod running;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde_json::Value;

use crate::config::Service;
use crate::event::{Filter, SubscriptionId};
use crate::fault::Misuse;

pub use found::{Found, Hit, Missed};
pub(crate) use item::Item;
pub use mark::Mark;
pub use pending::WaitId;
pub(crate) use running::Waits;

/// Something to wait for.
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
pub struct Wait(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Event(Filter),
    Queued(SubscriptionId),
    Text { console: String, text: Vec<u8>, line: bool },
    Output { console: String },
    End,
}

impl Wait {
    /// An event of this name.
    #[must_use]
    pub fn event(name: impl Into<String>) -> Self {
        Self(Kind::Event(Filter { name: Some(name.into()), pattern: Value::Null }))
    }

    /// An event of any name.
    #[must_use]
    pub fn any_event() -> Self {
        Self(Kind::Event(Filter { name: None, pattern: Value::Null }))
    }

    /// That event only with data that [match](crate::matches) a pattern. Changes nothing of other waits. In QEMU's Python
    /// class, the pattern is of the whole event: `{"data": …}` there is what stands behind `data` here.
    #[must_use]
    pub fn with(mut self, wanted: Value) -> Self {
        if let Kind::Event(filter) = &mut self.0 {
            filter.pattern = wanted;
        }
        self
    }

    /// An event in the queue of this subscription, whether it is there already or comes. The wait leaves it there: take it
    /// with [`Machine::next_event`](crate::Machine::next_event).
    #[must_use]
    pub fn queued(subscription: SubscriptionId) -> Self {
        Self(Kind::Queued(subscription))
    }

    /// This text on the console of this name.
    #[must_use]
    pub fn text(console: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Text { console: console.into(), text: text.into(), line: false })
    }

    /// A line with this text in it, on the console of this name, when the whole of it was printed: what stands behind
    /// the text is often what one wants to know (`Kernel panic - not syncing: …`).
    #[must_use]
    pub fn line(console: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Text { console: console.into(), text: text.into(), line: true })
    }

    /// Anything on the console of this name: what is found is all that was printed from the mark on. To read a console as
    /// it prints, wait again from the mark of the [`Hit`]. A character in UTF-8 that came in part is left for that next wait.
    #[must_use]
    pub fn output(console: impl Into<String>) -> Self {
        Self(Kind::Output { console: console.into() })
    }

    /// That the guest opens the port of [`Config::guest_agent`](crate::Config::guest_agent): its agent is up, and answers in
    /// a moment. QEMU tells of it with `VSERPORT_CHANGE`.
    #[must_use]
    pub fn agent_up() -> Self {
        Self::event("VSERPORT_CHANGE").with(serde_json::json!({"id": Service::GuestAgent.id(), "open": true}))
    }

    /// The end of the machine.
    #[must_use]
    pub fn end() -> Self {
        Self(Kind::End)
    }

    /// What a subscription wants, of things that are events.
    pub(crate) fn into_filter(self) -> Result<Filter, Misuse> {
        match self.0 {
            Kind::Event(filter) => Ok(filter),
            Kind::Queued(_) | Kind::Text { .. } | Kind::Output { .. } | Kind::End => Err(Misuse::NotAnEvent),
        }
    }
}

/// As people speak of it.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Event(Filter { name, pattern }) => {
                write!(f, "event {}", name.as_deref().unwrap_or("of any name"))?;
                if pattern.is_null() { Ok(()) } else { write!(f, " with {pattern}") }
            }
            Kind::Queued(_) => f.write_str("an event in a queue"),
            Kind::Text { console, text, line } => {
                let what = if *line { "a line with" } else { "the text" };
                write!(f, "{what} {:?} on {console}", crate::text::lossy(text))
            }
            Kind::Output { console } => write!(f, "output of {console}"),
            Kind::End => f.write_str("the end"),
        }
    }
}
