//! Tests of the shell with a real QEMU: at a terminal, whose screen is read, and in scripts.

mod agent;
mod at_prompt;
mod completion;
mod guide;
mod hostile;
mod in_scripts;
mod lines;
mod terminal;
mod wire_log;

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu_machine_blocking::{Config, Vm};
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::qemu;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::geteuid;

/// The path of the shell.
const SHELL: &str = env!("CARGO_BIN_EXE_qmpsh");

/// A QEMU that the test launched, with a second monitor for the shell.
struct Monitored {
    vm: Vm,
    path: PathBuf,
}

impl Monitored {
    fn launch(scratch: &Path) -> Self {
        let path = scratch.join("monitor");
        let option = [b"unix:", bytes(&path), b",server=on,wait=off"].concat();
        let config = Config::new(qemu()).args([b"-M".as_slice(), b"none", b"-qmp", &option]);
        let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        Self { vm, path }
    }
}

/// Creates what is no regular file of this user, each with words of the error. A device, and a file of another user, can be
/// created by root only.
fn not_private(scratch: &Scratch) -> Vec<(PathBuf, &'static str)> {
    let path = |name: &str| scratch.path().join(name);
    fs::write(path("target"), "of a link").unwrap();
    symlink(path("target"), path("symlink")).unwrap();
    fs::create_dir(path("directory")).unwrap();
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let mut paths = vec![path("symlink"), path("directory"), path("fifo")];
    if geteuid().is_root() {
        // As `/dev/null`.
        mknodat(CWD, path("device"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
        paths.push(path("device"));
    }
    let mut paths: Vec<_> = paths.into_iter().map(|path| (path, "is not a regular file")).collect();
    if geteuid().is_root() {
        fs::write(path("foreign"), "of another user").unwrap();
        chown(path("foreign"), Some(65534), None).unwrap();
        paths.push((path("foreign"), "belongs to another user"));
    }
    paths
}

/// Returns a command for the shell in which its history and its temporary files are in the directories of the test.
fn shell(program: &str, state: &Path, temporary: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("XDG_STATE_HOME", state).env("TMPDIR", temporary).env("TERM", "xterm");
    command
}
