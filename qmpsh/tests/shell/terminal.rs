//! Pseudo-terminal with the shell on it: a test presses keys and reads the screen.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, ExitStatus};

use qemu_machine_tests::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vt100::{Parser, Screen};

use super::{SHELL, shell};

/// A terminal with the shell on it.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    parser: Parser,
    /// All bytes that the shell wrote.
    written: Vec<u8>,
    /// The end of the text that [`until_written`](Self::until_written) found last.
    checked: usize,
}

impl Terminal {
    /// The size of the screen.
    const ROWS: u16 = 30;
    const COLUMNS: u16 = 100;

    /// Starts a shell, and waits for its prompt.
    pub(crate) fn begin(arguments: &[&str], state: &Path, temporary: &Path) -> Self {
        let mut terminal = Self::start(arguments, state, temporary);
        terminal.until("a prompt", |screen| row(screen, 0).ends_with("> "));
        terminal
    }

    /// Starts a shell.
    pub(crate) fn start(arguments: &[&str], state: &Path, temporary: &Path) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let size = Winsize { ws_row: Self::ROWS, ws_col: Self::COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&keyboard, size).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let line = || OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap();
        let mut command = shell("setsid", state, temporary);
        command.args(["--ctty", SHELL]).args(arguments).stdin(line()).stdout(line()).stderr(line());
        let child = command.spawn().unwrap();
        let parser = Parser::new(Self::ROWS, Self::COLUMNS, 0);
        Self { child, keyboard: keyboard.into(), parser, written: Vec::new(), checked: 0 }
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line, and waits until the screen contains `shown` and the prompt is empty again.
    pub(crate) fn enter(&mut self, line: &str, shown: &str) {
        self.press(&format!("{line}\r"));
        self.until(shown, |screen| screen.contents().contains(shown) && row(screen, 0).trim_end().ends_with('>'));
    }

    /// Waits until the line with the cursor, including its hint, is `line`.
    pub(crate) fn line_is(&mut self, line: &str) {
        self.until(line, |screen| row(screen, 0).trim_end() == line);
    }

    /// Waits until the screen satisfies a condition, which `what` names in the message of a failure.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Screen) -> bool) {
        while !is_so(self.parser.screen()) {
            assert!(self.read(), "the shell ended without {what}:\n{}", self.parser.screen().contents());
        }
    }

    /// Waits until the shell has written this text since the previous call, or since it started.
    pub(crate) fn until_written(&mut self, text: &str) {
        let from = self.checked;
        loop {
            let found = self.written[from..].windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(at) = found {
                self.checked = from + at + text.len();
                return;
            }
            assert!(self.read(), "the shell ended without {text:?}: {:?}", String::from_utf8_lossy(&self.written));
        }
    }

    /// Waits for the end of the shell, and returns all that it wrote.
    pub(crate) fn written_at_end(mut self) -> String {
        while self.read() {}
        self.child.wait().unwrap();
        String::from_utf8_lossy(&self.written).into_owned()
    }

    /// Returns the line that is `up` rows above the one with the cursor.
    pub(crate) fn above(&self, up: u16) -> String {
        row(self.parser.screen(), up).trim_end().to_owned()
    }

    /// Waits for the end of the shell, and returns its status and the screen.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        while self.read() {}
        (self.child.wait().unwrap(), self.parser.screen().contents())
    }

    /// Closes the terminal, and waits for the end of the shell.
    pub(crate) fn close(mut self) {
        self.keyboard = File::open("/dev/null").unwrap();
        self.child.wait().unwrap();
    }

    /// Returns the process id of the shell: `setsid` has replaced itself with it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the next output. `false` means that the shell has ended.
    fn read(&mut self) -> bool {
        // Half the time of a whole test, so that this assertion, which shows the screen, fails first.
        let left = Timespec { tv_sec: (PATIENCE / 2).as_secs().try_into().unwrap(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.keyboard, PollFlags::IN)], Some(&left)).unwrap();
        assert_eq!(ready, 1, "no more output:\n{}", self.parser.screen().contents());
        let mut buffer = [0; 4096];
        // When no process has the terminal open any more, reading fails with EIO on Linux.
        let Ok(count @ 1..) = self.keyboard.read(&mut buffer) else { return false };
        self.parser.process(&buffer[..count]);
        self.written.extend_from_slice(&buffer[..count]);
        true
    }
}

/// Returns the text of the line that is `up` rows above the one with the cursor.
fn row(screen: &Screen, up: u16) -> String {
    let (at, _) = screen.cursor_position();
    let row = at.checked_sub(up).and_then(|at| screen.rows(0, Terminal::COLUMNS).nth(at.into()));
    // A screen does not distinguish printed blanks from empty cells. The printed ones are left of the cursor.
    let text = row.unwrap_or_default();
    let width = usize::from(screen.cursor_position().1);
    if up == 0 { format!("{text:width$}") } else { text }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The shell has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
