//! Tests of the choice between KVM and TCG, on real QEMU whose KVM is replaced: by TCG, or by a guest that does not run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use qemu_machine_tests::leak_check::Scratch;

use crate::run::{Run, kernel, run};

/// A line of a shell that changes the accelerator KVM among the arguments to TCG.
pub(crate) const KVM_IS_TCG: &str = r#"for word; do shift; [ "$word" = kvm ] && word=tcg; set -- "$@" "$word"; done"#;

/// Resets the machine: the interrupt has no vector, and neither have the faults that follow from that.
const RESETS: &[u8] = &[
    0x0f, 0x01, 0x1d, 0x00, 0x00, 0x00, 0x00, // lidt 0
    0xcc, //                                     int3
];

/// Returns a firmware that hangs: its first instruction jumps to itself.
fn spins() -> Vec<u8> {
    let mut firmware = vec![0; 64 << 10];
    firmware[0xfff0..0xfff2].copy_from_slice(&[0xeb, 0xfe]); // jmp .
    firmware
}

/// Runs for ever without output.
const SPINS: &[u8] = &[0xeb, 0xfe]; // jmp .

/// Returns a kernel that has this code: an ELF file with a header for boot loaders (Multiboot Specification 0.6.96, 3.1),
/// which QEMU loads at 1 MiB and starts in 32-bit mode (QEMU, `hw/i386/multiboot.c`).
fn multiboot(code: &[u8]) -> Vec<u8> {
    const HEADERS: u32 = 52 + 32;
    const AT: u32 = 0x10_0000;
    let size = HEADERS + 12 + u32::try_from(code.len()).unwrap();
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    let mut words = |words: &[u32]| file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    words(&[1, AT + HEADERS + 12, 52, 0, 0]); // version, entry, program headers, sections, flags
    words(&[52 | 32 << 16, 1 | 40 << 16, 0]); // sizes of headers, one program header
    words(&[1, 0, AT, AT, size, size, 7, 4096]); // PT_LOAD
    words(&[0x1bad_b002, 0, 0x1bad_b002_u32.wrapping_neg()]);
    file.extend(code);
    file
}

/// Runs a kernel with a QEMU whose KVM is replaced by these words of a shell, and TCG. The file `spins` beside it is a
/// firmware that [spins].
fn on_kvm(replaced: &str, kernel: &str, options: &[&str]) -> Run {
    let scratch = Scratch::create();
    let [qemu, spinning] = ["qemu", "spins"].map(|name| scratch.path().join(name));
    fs::write(&spinning, spins()).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n*\" -accel kvm \"*)\n{KVM_IS_TCG}\n{replaced}\n;;\nesac\n\
         exec qemu-system-x86_64 \"$@\"\n"
    );
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let run = run(&[&["-k", kernel, "--qemu", qemu.to_str().unwrap()], options].concat(), &["true"]);
    for file in [qemu, spinning] {
        fs::remove_file(file).unwrap();
    }
    run
}

/// Runs such code.
fn code_on_kvm(replaced: &str, code: &[u8], options: &[&str]) -> Run {
    let scratch = Scratch::create();
    let kernel = scratch.path().join("kernel");
    fs::write(&kernel, multiboot(code)).unwrap();
    let run = on_kvm(replaced, kernel.to_str().unwrap(), options);
    fs::remove_file(kernel).unwrap();
    run
}

/// Runs again while the host is too busy for the check of KVM, five times at most.
fn on_time(attempt: impl Fn() -> Run, is_late: impl Fn(&Run) -> bool) -> Run {
    let mut runs = (0..5).map(|_| attempt());
    let in_time = runs.by_ref().take(4).find(|run| !is_late(run));
    in_time.or_else(|| runs.next()).expect("there is a last run")
}

/// Reports whether the check of KVM took too long.
fn was_not_done(run: &Run) -> bool {
    run.stderr.contains("was not done")
}

#[test]
fn a_reset_on_kvm_is_the_result_of_the_kernel() {
    let run = on_time(|| code_on_kvm("", RESETS, &[]), was_not_done);
    run.failed(122, "the machine ended before the command did: reset by the guest\n");
}

#[test]
fn a_kvm_on_which_every_guest_hangs_is_replaced_by_tcg_and_takes_none_of_the_time_limit() {
    let run = on_time(
        || code_on_kvm("set -- \"$@\" -bios \"${0%/*}/spins\"", RESETS, &["--timeout", "5"]),
        |run| run.code == Some(120),
    );
    let why = "a guest that counts to a hundred million was not done within 5s";
    run.failed(122, &format!("KVM does not work here ({why}): using TCG\n"));
    assert!(run.stderr.ends_with("before the command did: reset by the guest\n"), "{run:#?}");
}

#[test]
fn a_kernel_that_is_silent_on_kvm_is_not_started_again() {
    let run = on_time(|| code_on_kvm("", SPINS, &["--timeout", "8"]), was_not_done);
    run.failed(120, "the kernel hangs: the guest did not start the command within 8s\n");
}

#[test]
fn a_qemu_that_ends_on_kvm_is_started_again_with_tcg_and_the_reason() {
    for (replaced, reason) in [
        ("echo kvm: no such vcpu >&2; exit 1", "no such vcpu"),
        ("echo 'Could not access KVM kernel module: Permission denied' >&2; exit 1", "/dev/kvm"),
    ] {
        let run = on_kvm(replaced, &kernel(), &["--quiet"]);
        assert_eq!(run.code, Some(0), "{run:#?}");
        assert!(
            run.stderr.starts_with("kernel-test: KVM does not work here (") && run.stderr.contains(reason),
            "{run:#?}"
        );
    }
    // The check of KVM succeeds, and QEMU does not start the kernel.
    let refuses = "case \"$*\" in *isa-debug-exit*) ;; *) echo kvm: no more vcpus >&2; exit 1 ;; esac";
    let run = on_time(|| on_kvm(refuses, &kernel(), &["--quiet"]), was_not_done);
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(run.stderr.contains("does not work here (") && run.stderr.contains("no more vcpus"), "{run:#?}");
    // A host without KVM is none that needs a note.
    let missing = "echo 'Could not access KVM kernel module: No such file or directory' >&2; exit 1";
    let run = on_kvm(missing, &kernel(), &["--quiet"]);
    assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:#?}");
}

/// A mistake of the user's has nothing to do with KVM.
#[test]
fn a_command_line_that_qemu_refuses_is_not_tried_again() {
    let run = on_kvm("", &kernel(), &["--qemu-arg=-device", "--qemu-arg=nonexistent"]);
    run.failed(123, "launch failed: ");
}
