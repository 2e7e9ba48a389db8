//! Decides which events somebody wants.

use alloc::string::String;

use serde_json::Value;

use super::{Event, matches};

/// Events of one name, or of any, with data that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// None: any name.
    pub(crate) name: Option<String>,
    /// `null` matches events without data too.
    pub(crate) pattern: Value,
}

impl Filter {
    /// Whether this event is wanted. The data is read only when the name is right and a pattern asks for it.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        self.name.as_ref().is_none_or(|name| name == event.name())
            && (self.pattern.is_null() || event.read_data::<Value>().is_ok_and(|data| matches(&self.pattern, &data)))
    }
}
