//! Tests of the complete programs in the docs: each prints what the docs describe, with the real QEMU.

use std::process::Command;

use qemu_machine_tests::cargo::example as built;
use qemu_machine_tests::sources::read;
use qemu_machine_tests::{bounded_by, has_status_of_others};

/// A build of these tests alone may have to compile the example.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// Runs an example, and returns its output.
fn run(example: &'static str) -> String {
    assert!(qemu_machine_tests::qemu().starts_with("qemu"));
    bounded_by(PATIENCE, move || {
        let output = Command::new(built(example, &[])).output().expect("it was built");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    })
}

fn assert_prints(example: &'static str, parts: &[&str]) {
    let printed = run(example);
    for part in parts {
        assert!(printed.contains(part), "no {part:?} in:\n{printed}");
    }
}

const QUIT: &str = "ended by the caller (quit)";

#[test]
fn blocking_on_threads() {
    assert_prints("on_threads", &["Event(STOP)", QUIT]);
}

#[test]
fn blocking_boots_the_guest() {
    let parts = ["capabilities negotiated: oob", "guest: ready", "event  RESET", "powered off by the guest"];
    assert_prints("boot", &parts);
}

#[test]
fn a_disk_is_mirrored() {
    let printed = run("mirror");
    let (reports, end) = printed.split_at(printed.find("the mirror").expect("the end is printed"));
    assert_eq!(end, format!("the mirror: Completed\n{QUIT}\nthe copy is the same\n"));
    assert!(reports.lines().all(|line| line.ends_with(" of 8192 KiB")), "{printed}");
}

/// The output is that in the README, but for the cause of a crash: the kernel reports the signal from Linux 6.15 on.
#[test]
fn machines_outlive_their_managers() {
    let readme = read("README.md".into()).text;
    let block = readme.split("```text\n").find(|block| block.starts_with("web:       launched\n"));
    let shown = block.and_then(|block| block.split("```").next()).expect("the README has the output");
    let known = "ended by signal 11, which the caller did not send";
    let shown = if has_status_of_others() {
        shown.to_owned()
    } else {
        shown.replace(known, "ended for a reason that is not known")
    };
    assert_eq!(run("manager"), shown);
}

#[test]
fn a_machine_migrates() {
    let printed = run("migrate");
    let expected = [
        "here:  one.",
        "there: Listening",
        "here:  Completed",
        "there: Completed",
        "there: two.",
        "here:  running: false, ended by the caller (quit)",
        "there: running: true, ended by the caller (quit)",
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_device_is_unplugged() {
    let printed = run("unplug");
    let expected = [
        "plugged:   rng, qga",
        "unplugged: qga",
        "again:     `device_del` was refused: DeviceNotFound: Device 'rng' not found",
        QUIT,
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_running_machine_gets_devices_from_tasks() {
    let printed = run("hotplug");
    let (processor, rest) = printed.split_once('\n').expect("several lines");
    assert!(processor.starts_with("processor: qemu64-x86_64-cpu {\"core-id\":"), "{processor}");
    let expected = [
        "memory:    128 MiB more",
        "disk:      67108864",
        "network:   \"child<virtio-net-pci>\"",
        "watched:   QEMU ended by the caller (quit)",
    ];
    assert_eq!(rest.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn g24_smol_on_smol() {
    assert_prints("on_smol", &["Event(STOP)", QUIT]);
}

#[test]
fn g24_tokio() {
    assert_prints("on_tokio", &["Event(STOP)", QUIT]);
}

#[test]
fn g24_smol_on_async_std() {
    assert_prints("on_async_std", &["\"running\"", QUIT]);
}

#[test]
fn g24_mio_in_a_loop_of_its_own() {
    assert_prints("own_loop", &["\"running\"", QUIT]);
}

#[test]
fn g24_the_core_in_a_foreign_loop() {
    assert_prints("foreign_loop", &["\"running\"", QUIT]);
}
