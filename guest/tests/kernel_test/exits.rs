//! Tests of one run: output, exit code, and the error for each way to get no exit code.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::{Watched, descendants, send};
use rustix::process::Signal;

use crate::run::{PATIENCE, Run, kernel, program, quietly, run};

/// A command that does not end.
pub(crate) const FOREVER: &str = "mkfifo /run/never; cat /run/never";

#[test]
fn a_command_prints_and_succeeds_and_its_arguments_stay_unchanged() {
    let run = quietly(&[], r#"printf '%s\n' "it's  a" '"$HOME"' 'ü\' | tr a-z A-Z"#);
    assert_eq!((run.code, &*run.stdout, &*run.stderr), (Some(0), "IT'S  A\n\"$HOME\"\nü\\\n", ""));
}

/// This test uses KVM where it works.
#[test]
fn a_command_fails_with_its_code_after_the_output_of_the_kernel() {
    let run = run(&["-k", &kernel()], &["sh", "-c", "echo hello; exit 7"]);
    assert_eq!(run.code, Some(7), "{run:#?}");
    assert!(run.stdout.contains("Linux version") && run.stdout.ends_with("\nhello\n"), "{run:#?}");
}

#[test]
fn a_command_that_does_not_exist_is_the_error_of_a_shell() {
    let run = run(&["--accel", "tcg", "--quiet"], &["nonexistent"]);
    assert_eq!(run.code, Some(127), "{run:#?}");
    assert!(run.stdout.contains("nonexistent: not found"), "{run:#?}");
}

/// The kernel has one serial port, so the guest reports on its console, between the messages of the kernel. (With
/// `pnpacpi`, its driver would give the one port to the second device.)
#[test]
fn one_serial_port_is_enough() {
    let script = "[ -c /dev/ttyS1 ] && echo two; printf partial; exit 9";
    let run = quietly(&["--append", "pnpacpi=off 8250.nr_uarts=1"], script);
    assert_eq!(run.code, Some(9), "{run:#?}");
    assert!(run.stdout.contains("partial") && !run.stdout.contains("two"), "{run:#?}");
}

#[test]
fn a_panic_is_reported_with_the_message_of_the_kernel() {
    let run = quietly(&[], "echo c > /proc/sysrq-trigger");
    run.failed(121, "the kernel panicked: sysrq triggered crash\n");
    assert!(run.stdout.contains("Kernel panic - not syncing: sysrq triggered crash"), "{run:#?}");
}

/// A kernel that does not reset after a panic is not waited for.
#[test]
fn a_panic_after_which_the_kernel_stays_is_reported_as_well() {
    let run = quietly(&["--append", "panic=0"], "echo c > /proc/sysrq-trigger");
    run.failed(121, "the kernel panicked: sysrq triggered crash\n");
}

/// Runs a script that prints a text and does not end, with a time limit in which the guest gets to that: a busy host needs
/// a longer one. Returns the run and the limit in seconds.
pub(crate) fn reaching(options: &[&str], text: &str, script: &str) -> (Run, u32) {
    for limit in [8, 16, 32, 64, 128] {
        let seconds = limit.to_string();
        let run = run(&[options, &["--timeout", &seconds]].concat(), &["sh", "-c", script]);
        if run.stdout.contains(text) {
            return (run, limit);
        }
    }
    panic!("the guest did not print {text}");
}

#[test]
fn a_command_that_hangs_times_out() {
    let (run, limit) = reaching(&["--accel", "tcg", "--quiet"], "hanging", &format!("echo hanging; {FOREVER}"));
    run.failed(124, &format!("the command did not end within {limit}s\n"));
}

#[test]
fn a_guest_that_does_not_come_to_its_init_hangs() {
    let run = quietly(&["--timeout", "1", "--qemu-arg=-S"], "true");
    run.failed(120, "the kernel hangs: the guest did not start the command within 1s\n");
}

/// The message stands for that of the kernel's watchdog.
#[test]
fn a_stall_that_the_kernel_reports_is_named() {
    let stall = "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!";
    let (run, limit) = reaching(&["--accel", "tcg"], stall, &format!("echo '{stall}' >/dev/kmsg; {FOREVER}"));
    run.failed(120, "the kernel hangs: it reported `");
    assert!(run.stderr.contains(&format!("{stall}`, and did not end within {limit}s\n")), "{run:#?}");
}

#[test]
fn a_guest_that_powers_off_under_the_command_is_no_success() {
    let run = quietly(&[], "echo bye; poweroff -f");
    run.failed(122, "the machine ended before the command did: powered off by the guest\n");
    assert!(run.stdout.starts_with("bye\n"), "{run:#?}");
}

#[test]
fn a_qemu_that_does_not_start_is_reported_with_its_output() {
    let run = quietly(&["--qemu-arg=-device", "--qemu-arg=nonexistent"], "true");
    run.failed(123, "launch failed: ");
    assert!(run.stderr.contains("'nonexistent' is not a valid device model name"), "{run:#?}");
}

#[test]
fn a_command_line_that_is_not_valid_is_explained() {
    let cases: [(&[&str], &str); 6] = [
        (&["--timeout", "soon"], "--timeout is a number of seconds"),
        (&["--cpus", "0"], "0 is too few"),
        (&["--nonsense"], "invalid option '--nonsense'"),
        (&["--accel", "fast"], "--accel is auto, kvm or tcg"),
        (&["-k", "a", "-k", "b", "--gdb"], "--gdb is for one kernel"),
        (&["--kernel", "/nonexistent"], "/nonexistent: No such file or directory"),
    ];
    for (options, message) in cases {
        let run = run(options, &["true"]);
        run.failed(125, message);
        assert_eq!(run.stdout, "");
    }
    run(&[], &[]).failed(125, "the command is missing");
}

/// The command never ends, so its output is read while it runs.
#[test]
fn output_is_shown_at_once_and_a_qemu_that_dies_is_reported() {
    bounded_by(PATIENCE, || {
        let mut process = program();
        process.args([
            "--accel",
            "tcg",
            "--quiet",
            "--timeout",
            "240",
            "--",
            "sh",
            "-c",
            &format!("echo first; {FOREVER}"),
        ]);
        let mut child = process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let _killed_when_we_fail = Watched::new(child.id()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut shown = String::new();
        stdout.read_line(&mut shown).unwrap();
        let family = descendants(child.id());
        send(family.iter().find(|process| process.name.starts_with("qemu")).unwrap().pid, Signal::KILL);
        stdout.read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "first\n");
        let run = Run::from(child.wait_with_output().unwrap());
        run.failed(122, "the machine ended before the command did: ended by signal 9");
    });
}

/// The output is larger than a pipe, so the agent still reads when the command has ended.
#[test]
fn the_agent_gives_both_outputs_apart_and_the_code() {
    let run = quietly(&["--agent"], "seq 20000; echo err >&2; exit 3");
    let numbers: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert_eq!((run.code, &*run.stderr), (Some(3), "err\n"));
    assert!(run.stdout == numbers, "{} bytes of {}", run.stdout.len(), numbers.len());
}

/// A program for x86-64-v2 needs these (the psABI for x86-64, "Micro-Architecture Levels").
#[test]
fn the_processor_has_more_than_the_default_of_qemu() {
    let script = "for flag in ssse3 sse4_1 sse4_2 popcnt; do grep -qw $flag /proc/cpuinfo || exit 1; done";
    assert_eq!(quietly(&[], script).code, Some(0));
    assert_eq!(quietly(&["--qemu-arg=-cpu", "--qemu-arg=qemu64"], script).code, Some(1));
}

/// As when the disk of the host is full. The guest could wait for ever.
#[test]
fn a_guest_that_qemu_stops_is_reported_at_once() {
    let disk = "if=none,id=broken,driver=raw,file.driver=blkdebug,file.image.driver=null-co,\
        file.inject-error.0.event=read_aio,rerror=stop";
    let options = ["--qemu-arg=-drive", &format!("--qemu-arg={disk}"), "--qemu-arg=-device"];
    let options = [&options[..], &["--qemu-arg=virtio-blk-pci,drive=broken", "--module", "virtio_blk"]].concat();
    let options = [&options[..], &["--module", "virtio_pci"]].concat();
    quietly(&options, "cat /dev/vda; sleep 9999").failed(122, "QEMU stopped the guest: io-error");
}
