//! Tests of the causes of failed launches: those that are recognized in the words of each version of QEMU, and those of
//! the host and the caller.

use qemu_machine_core::{
    Cause, Config, FaultKind, HostFault, LaunchCause, LaunchError, LaunchFailure, Misuse, Outcome, Phase, ProtocolError,
};

fn of(log: &str) -> LaunchCause {
    LaunchCause::from_log(log.as_bytes())
}

/// Asserts that each log has this cause, by itself and behind what QEMU may print before.
fn have(cause: &LaunchCause, logs: &[&str]) {
    for log in logs {
        assert_eq!(of(log), *cause, "{log}");
        let warned =
            format!("qemu-system-x86_64: warning: Could not open '/x': No such file or directory\n\n{log}\r\n\n");
        assert_eq!(of(&warned), *cause, "{warned}");
        let fallen = format!(
            "Could not access KVM kernel module: No such file or directory\n\
             qemu-system-x86_64: failed to initialize kvm: No such file or directory\n\
             qemu-system-x86_64: falling back to tcg\n{log}"
        );
        assert_eq!(of(&fallen), *cause, "{fallen}");
    }
}

#[test]
fn a_locked_image() {
    have(
        &LaunchCause::ImageLocked { path: Some("/images/a disk].img".into()) },
        &[
            "qemu-system-x86_64: -drive file=/images/a disk].img,if=virtio: Failed to get \"write\" lock\n\
             Is another process using the image [/images/a disk].img]?",
            "qemu-system-x86_64: -blockdev driver=file: Failed to get shared \"write\" lock\n\
             Is another process using the image [/images/a disk].img]?",
            "qemu-system-x86_64: -device virtio-blk-pci,drive=a: Failed to get \"consistent read\" lock\n\
             Is another process using the image [/images/a disk].img]?",
        ],
    );
    have(
        &LaunchCause::ImageLocked { path: None },
        &[
            "qemu-system-x86_64: -drive file=a: Failed to get \"write\" lock",
            "qemu-system-x86_64: -drive file=a: Failed to lock byte 100",
        ],
    );
    // A file system without locks (`fcntl(2)`, ENOLCK).
    let no_locks = "qemu-system-x86_64: -drive file=a: Failed to get \"write\" lock: No locks available\n\
                    Is another process using the image [a]?";
    assert_eq!(of(no_locks), LaunchCause::Other(no_locks.into()));
}

#[test]
fn a_file_that_is_missing_or_denied() {
    let named = [
        "-drive file=/it's: Could not open '/it's': ",
        "-fw_cfg name=opt/x,file=/it's: can't load /it's: Failed to open file “/it's”: ",
        "-chardev socket,id=a,path=/it's: Failed to connect to '/it's': ",
        "-virtfs local,path=/it's: cannot initialize fsdev 'a': failed to open '/it's': ",
        "cannot create PID file: Could not create '/it's': ",
        "can't open backing store /it's for guest RAM: ",
        "Error opening logfile /it's: ",
        "-chardev socket,id=a,path=/it's,server=on: Failed to bind socket to /it's: ",
    ];
    let path = Some("/it's".into());
    for message in named {
        let log = |reason| format!("qemu-system-x86_64: {message}{reason}");
        have(&LaunchCause::FileMissing { path: path.clone() }, &[&log("No such file or directory")]);
        for reason in ["Permission denied", "Operation not permitted", "Read-only file system"] {
            have(&LaunchCause::FileDenied { path: path.clone() }, &[&log(reason)]);
        }
    }
    have(
        &LaunchCause::FileMissing { path: path.clone() },
        &[
            "qemu: could not open kernel file '/it's': No such file or directory",
            "/it's: No such file or directory\n\
         qemu-system-x86_64: -device loader,file=/it's: Cannot load specified image /it's",
            // QEMU 11.1.
            "/it's: No such file or directory\n\
             qemu-system-x86_64: -device loader,file=/it's: Cannot load specified image /it's: \
             Could not open '/it's': No such file or directory",
        ],
    );
    have(
        &LaunchCause::FileMissing { path: Some("libslirp.so.0".into()) },
        &["qemu-system-x86_64: error while loading shared libraries: libslirp.so.0: cannot open shared object file: \
         No such file or directory"],
    );
    have(&LaunchCause::FileMissing { path: None }, &["sudo: qemu: No such file or directory"]);
    have(
        &LaunchCause::FileDenied { path: None },
        &["qemu-system-x86_64: -vnc :0: Failed to bind socket: Permission denied"],
    );
}

/// Each line that QEMU prints names the same cause, since one of them may be lost.
#[test]
fn kvm_that_is_missing_or_denied_or_unsupported() {
    let (missing, denied) = (LaunchCause::KvmMissing, LaunchCause::KvmDenied);
    for (cause, reason) in [
        (&missing, "No such file or directory"),
        (&missing, "No such device"),
        (&denied, "Permission denied"),
        (&LaunchCause::OutOfMemory, "Cannot allocate memory"),
        (&LaunchCause::KvmUnsupported, "Device or resource busy"),
        (&LaunchCause::KvmUnsupported, "Inappropriate ioctl for device"),
    ] {
        let first = format!("Could not access KVM kernel module: {reason}");
        let second = format!("qemu-system-x86_64: -accel kvm: failed to initialize kvm: {reason}");
        // QEMU 10.0 and 11.1.
        let located = format!("qemu-system-x86_64: -accel kvm: {first}");
        let upper = format!("qemu-system-x86_64: -accel kvm: failed to initialize KVM: {reason}");
        for log in [&first, &located, &second, &upper, &format!("{first}\n{second}"), &format!("{located}\n{second}")] {
            assert_eq!(of(log), *cause, "{log}");
        }
    }
    have(&LaunchCause::KvmUnsupported, &["qemu-system-aarch64: -accel kvm: invalid accelerator kvm"]);
}

#[test]
fn memory_that_the_host_does_not_have() {
    have(
        &LaunchCause::OutOfMemory,
        &[
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "qemu-system-x86_64: unable to map backing store for guest RAM: Cannot allocate memory",
            "qemu-system-x86_64: qemu_prealloc_mem: preallocating memory failed: Bad address",
            "qemu-system-x86_64: os_mem_prealloc: Insufficient free host memory pages available to allocate guest RAM",
            "(process:7): GLib-ERROR **: 10:00:00.000: ../../../glib/gmem.c:136: failed to allocate 1099511627776 bytes",
        ],
    );
}

#[test]
fn an_address_that_cannot_be_used() {
    have(
        &LaunchCause::AddressUnavailable { address: Some("tcp:127.0.0.1:22-:22".into()) },
        &[
            "qemu-system-x86_64: -netdev user,id=n,hostfwd=tcp:127.0.0.1:22-:22: \
         Could not set up host forwarding rule 'tcp:127.0.0.1:22-:22'",
            "qemu-system-x86_64: Could not set up host forwarding rule 'tcp:127.0.0.1:22-:22': Permission denied",
        ],
    );
    have(
        &LaunchCause::AddressUnavailable { address: Some("/run/it's".into()) },
        &["qemu-system-x86_64: -qmp unix:/run/it's,server: Failed to bind socket to /run/it's: Address already in use"],
    );
    have(
        &LaunchCause::AddressUnavailable { address: None },
        &[
            "qemu-system-x86_64: -vnc :0: Failed to find an available port: Address already in use",
            "qemu-system-x86_64: -vnc 203.0.113.1:0: Failed to bind socket: Cannot assign requested address",
            "qemu-system-x86_64: -vnc :0: Failed to find an available port: Address in use",
            "qemu-system-x86_64: -vnc 203.0.113.1:0: Failed to bind socket: Can't assign requested address",
        ],
    );
}

#[test]
fn names_that_qemu_does_not_know() {
    have(
        &LaunchCause::UnknownDevice { name: Some("no'such".into()) },
        &[
            "qemu-system-x86_64: -device no'such: 'no'such' is not a valid device model name",
            "qemu-system-x86_64: -device no'such: 'no'such' (alias 'other') is not a valid device model name",
        ],
    );
    have(
        &LaunchCause::UnknownMachine { name: Some("nosuch".into()) },
        // QEMU 10.0 and 11.1.
        &["qemu-system-x86_64: unsupported machine type: \"nosuch\"\nUse -machine help to list supported machines"],
    );
    have(
        &LaunchCause::UnknownMachine { name: None },
        // QEMU 7.2.
        &["qemu-system-x86_64: unsupported machine type\nUse -machine help to list supported machines"],
    );
    have(
        &LaunchCause::UnknownCpu { name: Some("no such".into()) },
        &["qemu-system-x86_64: unable to find CPU model 'no such'"],
    );
    have(
        &LaunchCause::UnknownOption { name: Some("-nosuch".into()) },
        &["qemu-system-x86_64: -nosuch: invalid option"],
    );
    have(
        &LaunchCause::UnknownOption { name: Some("e1000.nosuch".into()) },
        &["qemu-system-x86_64: -device e1000,nosuch=1: Property 'e1000.nosuch' not found"],
    );
    have(
        &LaunchCause::UnknownOption { name: Some("nosuch".into()) },
        &[
            "qemu-system-x86_64: -netdev user,id=a,nosuch=1: Invalid parameter 'nosuch'",
            "qemu-system-x86_64: -blockdev driver=file,nosuch=1: Parameter 'nosuch' is unexpected",
            "qemu-system-x86_64: -drive file=a,nosuch=1: Block format 'raw' does not support the option 'nosuch'",
        ],
    );
}

#[test]
fn values_that_qemu_does_not_accept() {
    let cases = [
        ("size", "-m lots: Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, G, T"),
        ("smp.cpus", "Parameter 'smp.cpus' expects integer"),
        ("type", "-netdev nosuch,id=a: Parameter 'type' does not accept value 'nosuch'"),
        ("id", "-netdev user: Parameter 'id' is missing"),
        ("e1000.mac", "-device e1000,mac=zz: Property 'e1000.mac' doesn't take value 'zz'"),
        ("e1000.netdev", "-device e1000,netdev=zz: Property 'e1000.netdev' can't find value 'zz'"),
        ("-device", "-device: requires an argument"),
    ];
    for (name, message) in cases {
        let cause = LaunchCause::InvalidValue { name: Some(name.into()) };
        have(&cause, &[&format!("qemu-system-x86_64: {message}")]);
    }
    have(
        &LaunchCause::InvalidValue { name: None },
        &[
            "qemu-system-x86_64: -accel nosuch: invalid accelerator nosuch",
            "qemu-system-x86_64: unknown vga type: nosuch",
            "qemu-system-x86_64: -drive file=a,format=nosuch: Unknown driver 'nosuch'",
            "qemu-system-x86_64: -netdev user,hostfwd=x: Invalid host forwarding rule 'x' (No : separators)",
            "qemu-system-x86_64: -netdev user,id=a: Duplicate ID 'a' for netdev",
            "qemu-system-x86_64: Invalid SMP CPUs 300. The max CPUs supported by machine 'microvm' is 288",
        ],
    );
}

#[test]
fn an_accelerator_that_does_not_provide_the_cpu() {
    have(
        &LaunchCause::UnsupportedCpu,
        &[
            "qemu-system-x86_64: CPU model 'host' requires KVM or HVF",
            "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]\n\
             qemu-system-x86_64: TCG doesn't support requested features",
            "qemu-system-aarch64: unable to find CPU model 'host'",
        ],
    );
}

#[test]
fn what_is_not_recognized_has_the_last_lines() {
    assert_eq!(of(""), LaunchCause::Other("".into()));
    assert_eq!(of("\n \r\n"), LaunchCause::Other("".into()));
    let lines: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
    assert_eq!(of(&lines.join("\n")), LaunchCause::Other(lines[30..].join("\n").into()));
    for words in
        ["alas", "alas: Invalid argument", "Permission denied", "terminating on signal 15 from pid 7 (timeout)"]
    {
        assert_eq!(of(words), LaunchCause::Other(words.into()));
    }
    assert_eq!(LaunchCause::from_log(b"a\xffb"), LaunchCause::Other("a\u{fffd}b".into()));
}

/// Each beginning of a log, and each log with a byte changed, has some cause.
#[test]
fn no_log_panics() {
    let log = "/it's: No such file or directory\n\
               qemu: -device no'such: 'no'such' (alias 'other') is not a valid device model name\n\
               qemu: can't load /x: Failed to open file “/x”: Permission denied\n\
               qemu: unsupported machine type: \"nosuch\"\n\
               qemu: Parameter 'size' expects 'a' number\n\
               Is another process using the image []?\n";
    for end in 0..log.len() {
        let (head, tail) = log.as_bytes().split_at(end);
        drop(LaunchCause::from_log(head));
        for byte in [b' ', b'\'', b'\n', b':', 0xff] {
            drop(LaunchCause::from_log(&[head, &[byte], &tail[1..]].concat()));
        }
    }
}

/// An error far above the end is not the one that QEMU ended with, and reading it all takes time.
#[test]
fn a_line_far_above_the_end_is_not_read() {
    let denied = "qemu-system-x86_64: -drive file=a: Could not open 'a': Permission denied\n";
    let log = |lines: usize| format!("{denied}{}", "guest: hello\n".repeat(lines));
    assert_eq!(of(&log(99)), LaunchCause::FileDenied { path: Some("a".into()) });
    assert!(matches!(of(&log(100)), LaunchCause::Other(_)));
}

/// The last error that is recognized is the one that QEMU ended with.
#[test]
fn the_last_error_decides() {
    let log = "Could not access KVM kernel module: Permission denied\n\
               qemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied\n\
               qemu-system-x86_64: -accel nosuch: invalid accelerator nosuch\n";
    assert_eq!(of(log), LaunchCause::InvalidValue { name: None });
}

/// Returns the error of a launch that failed so, with this log and this cause of its end.
fn failed(failure: LaunchFailure, log: &str, cause: Cause) -> LaunchError {
    let line = Config::new("qemu").command_line().expect("a good configuration");
    let LaunchError::Failed { outcome, .. } = LaunchError::not_started(fault(FaultKind::Other), &line) else {
        panic!("it failed on the host")
    };
    let mut outcome: Outcome = *outcome;
    (outcome.log, outcome.cause) = (log.into(), cause);
    LaunchError::Failed { failure, outcome: outcome.into() }
}

fn fault(kind: FaultKind) -> HostFault {
    HostFault { operation: "execute `qemu`".into(), kind, errno: None, reason: "no".into() }
}

#[test]
fn each_failure_of_a_launch_has_a_cause() {
    const LOG: &str = "qemu: could not open kernel file '/k': No such file or directory\n";
    let missing = || LaunchCause::FileMissing { path: Some("/k".into()) };
    let other = |words: &str| LaunchCause::Other(words.into());
    let phase = Phase::Greeting;
    for (failure, log, end, cause) in [
        (LaunchFailure::Exited(phase), LOG, Cause::Exit(1), missing()),
        (LaunchFailure::Exited(phase), "", Cause::Signal { number: Some(9), sender: None }, other("")),
        (LaunchFailure::Exited(phase), LOG, Cause::PowerOff, LaunchCause::Guest),
        (LaunchFailure::Hung(phase), LOG, Cause::LaunchFailed, missing()),
        (LaunchFailure::HungUp(phase), LOG, Cause::LaunchFailed, missing()),
        (LaunchFailure::HungUp(phase), "", Cause::HungUp, LaunchCause::Monitor),
        (LaunchFailure::TimedOut(phase), LOG, Cause::LaunchFailed, LaunchCause::TimedOut),
        (LaunchFailure::Cancelled(phase), LOG, Cause::LaunchFailed, LaunchCause::Cancelled),
        (LaunchFailure::Busy, LOG, Cause::HungUp, LaunchCause::Monitor),
        (LaunchFailure::Broken(ProtocolError::TooLarge { limit: 7 }), LOG, Cause::LaunchFailed, LaunchCause::Monitor),
        (
            LaunchFailure::Host(fault(FaultKind::NotFound)),
            "",
            Cause::NotStarted,
            LaunchCause::Host(FaultKind::NotFound),
        ),
        (
            LaunchFailure::NotListening(fault(FaultKind::Refused)),
            "",
            Cause::NotStarted,
            LaunchCause::Host(FaultKind::Refused),
        ),
        (LaunchFailure::Dead(fault(FaultKind::Refused)), "", Cause::NotStarted, LaunchCause::Host(FaultKind::Refused)),
    ] {
        assert_eq!(failed(failure.clone(), log, end).launch_cause(), cause, "{failure}");
    }
    assert_eq!(LaunchError::Misuse(Misuse::Ended).launch_cause(), LaunchCause::Misuse);
}

#[test]
fn a_cause_prints_what_it_names() {
    for (log, text) in [
        (
            "qemu: -drive x: Could not open '/a\u{1b}[2J': Permission denied",
            r"permission for a file is missing: /a\u{1b}[2J",
        ),
        ("qemu: unsupported machine type", "QEMU does not know the machine type"),
        ("", "QEMU ended without a word"),
        ("one\ntwo", r"QEMU ended: one\ntwo"),
    ] {
        assert_eq!(of(log).to_string(), text);
    }
}
