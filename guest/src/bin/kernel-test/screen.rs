//! Output of the runs: the console as it comes, with the name of its kernel if there are several, and a progress line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal, Write, stderr, stdout};

use qemu_machine_blocking::UntrustedText;
use qemu_machine_guest::Printed;

use crate::terminal::{Filter, PLAIN};

/// The longest end of a line in the progress line, in characters.
const PROGRESS: usize = 60;

/// The longest line that is shown in one piece beside those of other kernels, in bytes. A guest may print without end and
/// without a line feed.
const LONGEST: usize = 64 << 10;

/// Escape sequences of a terminal: the colours of results, and the removal of the progress line.
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
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
    /// The filters of the stream with the console, and of stderr for the agent. `None` means that it is no terminal, so that
    /// all bytes pass.
    console_filter: Option<Filter>,
    stderr_filter: Option<Filter>,
    has_colour: bool,
    has_progress: bool,
    /// Whether the last line on the terminal is that of the progress.
    is_progress_shown: bool,
}

impl Screen {
    /// The output of this number of runs.
    pub(crate) fn new(total: usize, tap: bool) -> Self {
        let (out, err) = (stdout().is_terminal(), stderr().is_terminal());
        let is_plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let filter = |is_terminal: bool| is_terminal.then(|| Filter::new(total == 1));
        Self {
            tap,
            total,
            ended: 0,
            partial: BTreeMap::new(),
            console_filter: filter(if tap { err } else { out }),
            stderr_filter: filter(err),
            has_colour: (if tap { err } else { out }) && !is_plain,
            // Where the console is on the terminal, it shows the progress.
            has_progress: err && !out && !tap,
            is_progress_shown: false,
        }
    }

    /// Prints what a run printed. If the reader of the output is gone, the run continues.
    pub(crate) fn print(&mut self, name: &str, printed: Printed<'_>) {
        // The exit code still counts.
        let _ = match printed {
            Printed::Console(bytes) => self.console(name, bytes),
            Printed::Stdout(bytes) => self.write(bytes),
            Printed::Stderr(bytes) => {
                self.clear();
                stderr().write_all(&filtered(&mut self.stderr_filter, bytes))
            }
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
            _ => {
                let lines = self.with_name(name, &lines);
                self.write(&lines)?;
            }
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

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bytes = filtered(&mut self.console_filter, bytes);
        if self.tap {
            return stderr().write_all(&bytes);
        }
        let mut stdout = stdout().lock();
        stdout.write_all(&bytes).and_then(|()| stdout.flush())
    }

    /// Ends what the guest has begun on a terminal, such as a colour, before this program prints there.
    fn end_filtered(&mut self) {
        let [console, error] = [&mut self.console_filter, &mut self.stderr_filter]
            .map(|filter| filter.as_mut().map(Filter::finish).unwrap_or_default());
        // These bytes have passed a filter.
        let _ = if self.tap { stderr().write_all(&console) } else { stdout().write_all(&console) };
        let _ = stdout().flush().and_then(|()| stderr().write_all(&error));
    }

    /// Prints the number of runs that have ended, and the last line.
    fn progress(&mut self, name: &str, lines: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(lines);
        let line = text.lines().rfind(|line| !line.trim().is_empty());
        let Some(line) = line.filter(|_| self.has_progress) else { return Ok(()) };
        let line: String = UntrustedText::from(line).to_string().chars().take(PROGRESS).collect();
        let name = UntrustedText::from(name);
        self.is_progress_shown = true;
        write!(stderr(), "{CLEAR}{} of {} kernels ended; {name}: {line}", self.ended, self.total)
    }

    /// Prints a message about a run.
    pub(crate) fn complain(&mut self, name: &str, text: &str) {
        self.end_filtered();
        self.clear();
        let name = if self.total > 1 { format!("{}: ", UntrustedText::from(name)) } else { String::new() };
        // If stderr is gone, there is no other place for the message.
        let _ = writeln!(stderr(), "kernel-test: {name}{text}");
    }

    /// Prints the rest of the console of a run that has ended.
    pub(crate) fn end(&mut self, name: &str) {
        self.ended += 1;
        let rest = self.partial.remove(name).filter(|rest| self.total > 1 && !rest.is_empty());
        if let Some(mut rest) = rest {
            rest.push(b'\n');
            // The exit code still counts.
            let rest = self.with_name(name, &rest);
            let _ = self.write(&rest);
        }
        self.end_filtered();
        self.clear();
    }

    /// Removes the line with the progress.
    fn clear(&mut self) {
        if std::mem::take(&mut self.is_progress_shown) {
            // Without stderr there is no line.
            let _ = stderr().write_all(CLEAR.as_bytes());
        }
    }

    /// Prints the results of all runs: to stdout, or to stderr if TAP is there.
    pub(crate) fn results(&mut self, text: &str) {
        self.clear();
        // The exit code still counts.
        let _ = self.write(text.as_bytes());
    }

    /// Returns a word in green or red, if colours are shown.
    pub(crate) fn verdict(&self, is_good: bool, word: &str) -> String {
        self.coloured(if is_good { GREEN } else { RED }, word)
    }

    fn coloured(&self, colour: &str, word: &str) -> String {
        if self.has_colour { format!("{colour}{word}{PLAIN}") } else { word.to_owned() }
    }
}

/// Returns bytes of a guest for a stream: the form for a terminal, if there is a filter.
fn filtered<'a>(filter: &mut Option<Filter>, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    filter.as_mut().map_or(Cow::Borrowed(bytes), |filter| filter.push(bytes).into())
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
