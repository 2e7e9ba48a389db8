//! Filter of events, by name and data.

use alloc::string::String;

use serde_json::Value;

use super::{Event, matches};

/// Events of one name, or of any, with data that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `None` means any name.
    pub(crate) name: Option<String>,
    /// Pattern of the data. `null` matches every event, also one without data.
    pub(crate) pattern: Value,
}

impl Filter {
    /// Returns whether this event matches. The data is parsed only when the name matches and there is a pattern.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        self.name.as_ref().is_none_or(|name| name == event.name())
            && (self.pattern.is_null() || event.read_data::<Value>().is_ok_and(|data| matches(&self.pattern, &data)))
    }
}
