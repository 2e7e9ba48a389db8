//! Tests of the shell with a real QEMU: at a terminal, whose screen is read, and in scripts.

mod at_prompt;
mod in_scripts;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::Command;

use qemu_machine_blocking::{Config, Vm};
use qemu_machine_tests::leak_check::bytes;
use qemu_machine_tests::qemu;

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

/// Returns a command for the shell in which its history and its temporary files are in the directories of the test.
fn shell(program: &str, state: &Path, temporary: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("XDG_STATE_HOME", state).env("TMPDIR", temporary).env("TERM", "xterm");
    command
}
