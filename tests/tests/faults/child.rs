//! Child processes for tests that change their own process, such as its limits or mounts.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::{Watched, alone};

/// Runs the test again in a child process, behind these wrapper arguments, and the body only there.
pub(crate) fn in_child(test: &'static str, before: &[&str], limit: Duration, body: impl FnOnce()) {
    if is_inside(test) {
        return body();
    }
    let _alone = alone();
    let mut command = again(test, before);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The child is killed when this is dropped, and its machines end with it.
    let _watched = Watched::new(child.id()).unwrap();
    let output = bounded_by(limit, move || child.wait_with_output().unwrap());
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{}\n{said}\n{told}", output.status);
    told.lines().filter(|line| line.starts_with(NOT_PROVEN)).for_each(say);
}

const INSIDE: &str = "QEMU_MACHINE_FAULTS_INSIDE";

/// Returns whether this is the child process of this test.
pub(crate) fn is_inside(test: &str) -> bool {
    std::env::var_os(INSIDE).is_some_and(|inside| inside == test)
}

/// Returns the command that runs only this test, behind these wrapper arguments.
pub(crate) fn again(test: &str, before: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words = before.iter().map(AsRef::as_ref).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args([test, "--exact", "--nocapture"]).env(INSIDE, test);
    command
}

const NOT_PROVEN: &str = "NOT PROVEN: ";

/// Prints what could not be proven on this host, also when the test passes.
pub(crate) fn not_proven(what: &str) {
    say(&format!("{NOT_PROVEN}{what}"));
}

fn say(line: &str) {
    // The test harness captures what `eprintln!` writes in a test that passes.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("stderr is open");
}

/// Returns the wrapper arguments of a program that mounts file systems for itself only. `None` means that the host does
/// not permit it.
pub(crate) fn alone_with_mounts() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--map-root-user", "--mount"]];
    let _alone = alone();
    WAYS.into_iter().find(|way| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
}
