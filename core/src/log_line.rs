//! Line of the log: what QEMU, its wrapper or its libraries printed, and how severe it is.

use core::fmt;

use crate::text::UntrustedText;

/// Level of a line of the log, from the least to the most severe.
///
/// It is read from the text (QEMU, `util/error-report.c`, `vreport`), which does not mark everything: a guest that prints
/// to QEMU's standard output, or a file name in a message, can imitate it. Do not decide more by it than what to show to a
/// person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum LogLevel {
    /// No report of QEMU: what `-d` and `-trace` print, output of a wrapper or of a library, and an error that QEMU
    /// reports while it executes a command of QMP, since that has no mark.
    Output,
    /// A report that begins with `info: `.
    Info,
    /// A report that begins with `warning: `.
    Warning,
    /// Any other report: it begins with the name of the program.
    Error,
}

/// Complete line of the log, as [`Wait::log`](crate::Wait::log) finds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LogLine {
    /// The level.
    pub level: LogLevel,
    /// The line as it was printed, without the line feed.
    pub text: UntrustedText,
}

impl LogLine {
    /// Reads a line. `program` is the name by which QEMU reports, that of its program without directories.
    pub(crate) fn read(line: &[u8], program: &[u8]) -> Self {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self { level: LogLevel::of(line, program), text: UntrustedText::from_utf8_lossy(line) }
    }
}

/// Writes the text, as one printable line.
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.text, f)
    }
}

impl LogLevel {
    /// Returns the level of a line. Before the name of the program there may be the time and the name of the guest
    /// (`-msg`), and behind it the argument or the line of a file that the report is about (same file, `print_loc`).
    pub(crate) fn of(line: &[u8], program: &[u8]) -> Self {
        match behind_name(line, program) {
            Some(report) => MARKS
                .into_iter()
                .filter_map(|(mark, level)| Some((marked(report, mark)?, level)))
                .min_by_key(|(at, _)| *at)
                .map_or(Self::Error, |(_, level)| level),
            // While QEMU executes a command of QMP, it does not name the program.
            None => {
                let level = MARKS.into_iter().find(|(mark, _)| line.starts_with(mark));
                level.map_or(Self::Output, |(_, level)| level)
            }
        }
    }
}

const MARKS: [(&[u8], LogLevel); 2] = [(b"warning: ", LogLevel::Warning), (b"info: ", LogLevel::Info)];

/// Returns what follows the name of the program. `None` means that the line does not name it.
fn behind_name<'a>(line: &'a [u8], program: &[u8]) -> Option<&'a [u8]> {
    let mut places = memchr::memmem::find_iter(line, program);
    places.find_map(|at| {
        let begins = at == 0 || line.get(at - 1) == Some(&b' ');
        line.get(at + program.len()..)?.strip_prefix(b": ").filter(|_| begins)
    })
}

/// Returns where a report has this mark: at its beginning, or behind what it is about.
fn marked(report: &[u8], mark: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(report, mark).find(|at| *at == 0 || report[..*at].ends_with(b": "))
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::LogLevel::{Error, Info, Output, Warning};
    use super::*;

    #[test]
    fn the_level_is_that_of_the_report() {
        let cases: &[(&str, LogLevel)] = &[
            ("qemu: no such device", Error),
            ("qemu: -device x: 'x' is not a valid device model name", Error),
            ("qemu: warning: netdev lonely has no peer", Warning),
            ("qemu: -drive file=warning: warning: it is old", Warning),
            ("qemu: -cpu max: info: it is slow", Info),
            ("qemu: vm.cfg:3: warning: there is no group", Warning),
            ("2026-11-29T08:00:00.000000Z qemu: terminating on signal 15", Error),
            ("2026-11-29T08:00:00.000000Z guest qemu: warning: x", Warning),
            ("warning: TCG doesn't support requested feature", Warning),
            ("info: it is slow", Info),
            ("qemu: the warning: none", Error),
            ("qemu: warning:", Error),
            ("qemu:warning: x", Output),
            ("myqemu: warning: x", Output),
            ("a warning: x", Output),
            ("Invalid access at addr 0x0", Output),
            ("qemu", Output),
            ("", Output),
        ];
        for (line, level) in cases {
            assert_eq!(LogLevel::of(line.as_bytes(), b"qemu"), *level, "{line}");
        }
        assert!(Output < Info && Info < Warning && Warning < Error);
    }

    #[test]
    fn a_line_is_printable() {
        let line = LogLine::read(b"qemu: \x1b[2J\xff\r", b"qemu");
        assert_eq!((line.level, &*line.text.to_string()), (Error, "qemu: \\u{1b}[2J\u{fffd}"));
        assert_eq!(line.to_string(), line.text.to_string());
    }
}
