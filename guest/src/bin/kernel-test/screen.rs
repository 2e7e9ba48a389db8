//! Output of the runs: the console as it comes, with the name of its kernel if there are several, and a progress line.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal, Write, stderr, stdout};

use qemu_machine_guest::Printed;

/// The longest end of a line in the progress line, in characters.
const PROGRESS: usize = 60;

/// The longest line that is shown in one piece beside those of other kernels, in bytes. A guest may print without end and
/// without a line feed.
const LONGEST: usize = 64 << 10;

/// Escape sequences of a terminal: the colours of results, and the removal of the progress line.
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";
const CLEAR: &str = "\r\x1b[K";

/// The output of all runs of this program.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Whether stdout is for TAP, so that the console goes to stderr.
    tap: bool,
    /// The number of runs.
    total: usize,
    ended: usize,
    /// The lines that are not complete yet, by the names of their kernels. With one kernel, they are printed
    /// all the same.
    partial: BTreeMap<String, Vec<u8>>,
    has_colour: bool,
    has_progress: bool,
}

impl Screen {
    /// The output of this number of runs.
    pub(crate) fn new(total: usize, tap: bool) -> Self {
        let (out, err) = (stdout().is_terminal(), stderr().is_terminal());
        let is_plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            tap,
            total,
            ended: 0,
            partial: BTreeMap::new(),
            has_colour: (if tap { err } else { out }) && !is_plain,
            // Where the console is on the terminal, it shows the progress.
            has_progress: err && !out && !tap,
        }
    }

    /// Prints what a run printed. If the reader of the output is gone, the run continues.
    pub(crate) fn print(&mut self, name: &str, printed: Printed<'_>) {
        // The exit code still counts.
        let _ = match printed {
            Printed::Console(bytes) => self.console(name, bytes),
            Printed::Stdout(bytes) => self.write(bytes),
            Printed::Stderr(bytes) => stderr().write_all(bytes),
            Printed::Note(text) => {
                self.complain(name, text);
                Ok(())
            }
            _ => Ok(()),
        };
    }

    fn console(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut lines = self.partial.remove(name).unwrap_or_default();
        lines.extend_from_slice(bytes);
        let rest = split_rest(&mut lines);
        self.partial.insert(name.to_owned(), rest);
        match self.total {
            1 => self.write(bytes)?,
            _ => self.write(&self.with_name(name, &lines))?,
        }
        self.progress(name, &lines)
    }

    fn with_name(&self, name: &str, lines: &[u8]) -> Vec<u8> {
        let mut shown = Vec::new();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            shown.extend(self.coloured(CYAN, name).into_bytes());
            shown.extend(b" | ");
            shown.extend(line);
        }
        shown
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if self.tap {
            return stderr().write_all(bytes);
        }
        let mut stdout = stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush())
    }

    /// Prints the number of runs that have ended, and the last line.
    fn progress(&self, name: &str, lines: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(lines);
        let line = text.lines().rfind(|line| !line.trim().is_empty());
        let Some(line) = line.filter(|_| self.has_progress) else { return Ok(()) };
        let line: String = line.chars().filter(|letter| !letter.is_control()).take(PROGRESS).collect();
        write!(stderr(), "{CLEAR}{} of {} kernels ended; {name}: {line}", self.ended, self.total)
    }

    /// Prints a message about a run.
    pub(crate) fn complain(&self, name: &str, text: &str) {
        let clear = if self.has_progress { CLEAR } else { "" };
        let name = if self.total > 1 { format!("{name}: ") } else { String::new() };
        // If stderr is gone, there is no other place for the message.
        let _ = writeln!(stderr(), "{clear}kernel-test: {name}{text}");
    }

    /// Prints the rest of the console of a run that has ended.
    pub(crate) fn end(&mut self, name: &str) {
        self.ended += 1;
        let rest = self.partial.remove(name).filter(|rest| self.total > 1 && !rest.is_empty());
        if let Some(mut rest) = rest {
            rest.push(b'\n');
            // The exit code still counts.
            let _ = self.write(&self.with_name(name, &rest));
        }
    }

    /// Prints the results of all runs: to stdout, or to stderr if TAP is there.
    pub(crate) fn results(&self, text: &str) {
        let clear = if self.has_progress { CLEAR } else { "" };
        // The exit code still counts.
        let _ = stderr().write_all(clear.as_bytes()).and_then(|()| self.write(text.as_bytes()));
    }

    /// Returns a word in green or red, if colours are shown.
    pub(crate) fn verdict(&self, is_good: bool, word: &str) -> String {
        self.coloured(if is_good { GREEN } else { RED }, word)
    }

    fn coloured(&self, colour: &str, word: &str) -> String {
        if self.has_colour { format!("{colour}{word}{PLAIN}") } else { word.to_owned() }
    }
}

/// Removes the incomplete line at the end, and returns it. One that is too long is ended here, as a line of its own.
fn split_rest(lines: &mut Vec<u8>) -> Vec<u8> {
    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if lines.len() - end <= LONGEST {
        return lines.split_off(end);
    }
    lines.push(b'\n');
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, split_rest};

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = b"whole\npartial".to_vec();
        assert_eq!((split_rest(&mut lines), lines), (b"partial".to_vec(), b"whole\n".to_vec()));
        let (mut kept, mut shown) = (Vec::new(), 0);
        for _ in 0..3 * LONGEST / 1024 {
            kept.extend([b'a'; 1024]);
            let rest = split_rest(&mut kept);
            shown += std::mem::replace(&mut kept, rest).len();
            assert!(kept.len() <= LONGEST);
        }
        assert!(shown > LONGEST);
    }
}
