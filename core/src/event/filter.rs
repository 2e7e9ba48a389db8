//! Filter of events, by name and data.

use alloc::string::String;

use serde_json::Value;

use super::Event;
use super::streaming::Patterns;
use crate::work;

/// Events of one name, or of any, with data that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `None` means any name.
    pub(crate) name: Option<String>,
    /// Pattern of the data. `null` matches every event, also one without data.
    pub(crate) pattern: Value,
}

impl Filter {
    /// Returns whether an event has a name that matches, whatever its data.
    pub(crate) fn names(&self, event: &Event) -> bool {
        work::count(1);
        self.name.as_ref().is_none_or(|name| name == event.name())
    }

    /// Returns whether this event matches. Its data is read only when the name matches and there is a pattern.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        if !self.names(event) || self.pattern.is_null() {
            return self.names(event);
        }
        let mut patterns = Patterns::new();
        patterns.add((), &self.pattern);
        patterns.matching(event.data_or_null()).next().is_some()
    }
}
