//! Report: a record as one page of HTML.

mod data;
mod html;
mod lanes;
mod marks;
mod objects;
mod page;
mod reasons;
mod remarks;
mod runs;
mod screen;
mod section;
mod story;
mod style;
mod texts;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::lines::Record;
use crate::text::UntrustedText;
use section::Section;

/// A page of HTML for a browser: how one or more machines ended, their commands, events and consoles on one time axis, and
/// all lines. `Display` writes it.
///
/// The page is one file, loads nothing from the network, and has a content security policy that forbids it. It displays
/// the record as it is: [redact](Record::redact) secrets before. `redact` does not find a text of a console that escape
/// sequences divide. The page removes those sequences, so it displays that text whole. The time and the memory that it
/// takes are proportional to the record.
///
/// All texts of peers are printable, and cannot become part of the page's code. Of the escape sequences of a console, those
/// that select colours are kept, and the others are removed; a carriage return begins a new line.
///
/// ```
/// # use qemu_machine_core::{Config, Machine};
/// # let machine = Machine::new(Config::new("qemu-system-x86_64").recorded())?;
/// let mut record = machine.record().expect("a recorded machine");
/// record.redact_member("password");
/// let page = record.report().titled("boot test").to_string();
/// assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<h1>boot test</h1>"));
/// # Ok::<(), qemu_machine_core::Misuse>(())
/// ```
#[derive(Clone)]
pub struct Report {
    /// `None` means the title of the first section.
    title: Option<String>,
    sections: Vec<Section>,
}

impl Record {
    /// Returns a page of the record, for a browser. Secrets in the record are in the page: [redact](Self::redact) them
    /// before.
    #[must_use]
    pub fn report(&self) -> Report {
        Report { title: None, sections: Vec::from([Section { title: None, record: self.clone() }]) }
    }
}

impl Report {
    /// Sets the title of the section, or of the page if there are several sections: title each report before
    /// [`and`](Self::and). By default a section has the name of QEMU's program, and a page the titles of its sections.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        let title = title.into();
        match &mut *self.sections {
            [section] => section.title = Some(title),
            _ => self.title = Some(title),
        }
        self
    }

    /// Appends the sections of another report, without the title of its page. The page displays one at a time.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.sections.extend(other.sections);
        self
    }

    /// The title of the page.
    fn title(&self) -> String {
        let titles = || self.sections.iter().map(Section::title).collect::<Vec<_>>();
        self.title.clone().unwrap_or_else(|| titles().join(", "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        page::write(f, &self.title(), &self.sections)
    }
}

/// Writes the title and the number of sections: the texts of a record may be megabytes.
impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Report {:?} of {} sections", UntrustedText::from(self.title()), self.sections.len())
    }
}
