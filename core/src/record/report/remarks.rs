//! Remarks of a report: the first words of a kernel that crashed, which are on its consoles.

use alloc::string::String;
use alloc::vec::Vec;

use super::screen::Row;
use crate::procedure::is_panic;
use crate::time::Moment;

/// A line of a console that explains an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) console: usize,
    /// The number of the line in its console.
    pub(super) line: usize,
    pub(super) at: Moment,
    pub(super) text: String,
    /// Whether the kernel has stopped, not only reported an oops or a bug.
    pub(super) is_panic: bool,
}

/// Collector of the remarks of a record.
#[derive(Debug, Default)]
pub(super) struct Remarks(Vec<Remark>);

impl Remarks {
    /// The most remarks of a kind: a kernel that oopses may do so for ever.
    const MOST: usize = 3;

    /// Reads a line of a console.
    pub(super) fn read(&mut self, console: usize, line: usize, row: &Row) {
        let Some(is_panic) = is_panic(row.text.as_bytes()) else { return };
        if self.0.iter().filter(|remark| remark.is_panic == is_panic).count() < Self::MOST {
            self.0.push(Remark { console, line, at: row.at, text: row.text.clone(), is_panic });
        }
    }

    /// Returns the remarks in the order of their times.
    pub(super) fn finish(mut self) -> Vec<Remark> {
        self.0.sort_by_key(|remark| remark.at);
        self.0
    }
}
