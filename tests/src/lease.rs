//! Program whose execution blocks: another process holds a write lease on its file (`fcntl(2)`, F_SETLEASE).
//!
//! The holder is Python, since no safe crate takes a lease. The kernel ends a lease 45 seconds after another process
//! wants to open the file (`proc_sys_fs(5)`, lease-break-time).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Prints a line when it has the lease, and one when another process wants to open the file. Gives the lease back on a
/// line of standard input, or its end.
const HOLDER: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_: print('wanted', flush=True))
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.readline()
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
";

/// A program whose execution blocks until it is [unblocked](Self::unblock).
#[derive(Debug)]
pub struct Leased {
    path: PathBuf,
    holder: Child,
    lines: BufReader<ChildStdout>,
}

impl Leased {
    /// Creates the program in this directory, and takes the lease. It exits with status 7.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn create(directory: &Path) -> Self {
        let path = directory.join("leased");
        fs::write(&path, "#!/bin/sh\nexit 7\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", HOLDER]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("python3 is installed");
        let lines = BufReader::new(holder.stdout.take().unwrap());
        let mut leased = Self { path, holder, lines };
        leased.expect("held");
        leased
    }

    /// Returns the path of the program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until a process blocks in its execution.
    ///
    /// # Panics
    ///
    /// If the holder ends before.
    pub fn wait_until_wanted(&mut self) {
        self.expect("wanted");
    }

    /// Lets the execution continue.
    ///
    /// # Panics
    ///
    /// If the holder has ended.
    pub fn unblock(&mut self) {
        self.holder.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn expect(&mut self, wanted: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), wanted);
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        // `drop` cannot report an error.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
