//! Tests of the probe of accelerators, with launches that a test invents.

use qemu_machine_core::{
    Accelerators, Availability, Cause, Config, FaultKind, HostFault, LaunchCause, LaunchError, LaunchFailure, Misuse,
    Phase,
};

const LIST: &str = "Accelerators supported in QEMU binary:\n";

/// Returns the error of a launch that failed so, with this log.
fn failed(failure: LaunchFailure, log: &str) -> LaunchError {
    let line = Config::new("qemu").command_line().expect("a good configuration");
    let LaunchError::Failed { mut outcome, .. } = LaunchError::not_started(fault(), &line) else {
        panic!("it failed on the host")
    };
    (outcome.log, outcome.cause) = (log.into(), Cause::Exit(1));
    LaunchError::Failed { failure, outcome }
}

fn exited(log: &str) -> LaunchError {
    failed(LaunchFailure::Exited(Phase::Greeting), log)
}

fn fault() -> HostFault {
    HostFault { operation: "execute `qemu`".into(), kind: FaultKind::Busy, errno: None, reason: "no".into() }
}

/// Runs the probe of a QEMU with this list, whose launch with each accelerator has the result of `launch`.
fn probed(list: &str, launch: impl Fn(&str) -> Result<(), LaunchError>) -> (Vec<String>, Accelerators) {
    let mut probe = Accelerators::probe(&Config::new("qemu"));
    let mut asked = Vec::new();
    while let Some(config) = probe.next_launch() {
        let name = String::from_utf8(config.arguments().last().expect("it has arguments").clone()).expect("it is text");
        let result = if name == "help" { Err(exited(list)) } else { launch(&name) };
        probe.report_launch(result).expect("QEMU answers");
        asked.push(name);
    }
    (asked, probe.finish())
}

#[test]
fn each_accelerator_works_or_has_a_reason_the_preferred_one_first() {
    let log = "Could not access KVM kernel module: Permission denied\n\
               qemu: -accel kvm: failed to initialize kvm: Permission denied\n\n";
    let long = "x".repeat(33);
    let list = format!("{LIST}later2\n{long}\nxen\nqemu: module x not found, is it installed?\ntcg\r\nkvm\n");
    let (asked, found) = probed(&list, |name| match name {
        "kvm" => Err(exited(log)),
        "xen" => Err(exited("xen be core: can't connect to xenstored\n")),
        "later2" => Err(failed(LaunchFailure::TimedOut(Phase::Greeting), "")),
        _ => Ok(()),
    });
    assert_eq!(asked, ["help", "kvm", "tcg", "xen", "later2"]);
    assert_eq!(found.working().collect::<Vec<_>>(), ["tcg"]);
    assert_eq!(
        found.to_string(),
        "kvm: permission for /dev/kvm is missing (qemu: -accel kvm: failed to initialize kvm: Permission denied); \
         hvf: not part of this QEMU; nvmm: not part of this QEMU; whpx: not part of this QEMU; tcg: works; \
         xen: QEMU ended: xen be core: can't connect to xenstored; later2: the deadline passed"
    );
    let kvm = found.get("kvm").expect("it is known");
    assert!(matches!(&kvm.availability, Availability::Refused { cause: LaunchCause::KvmDenied, .. }), "{kvm:?}");
    assert_eq!(found.get("nosuch"), None);
    let line = Config::new("qemu").accelerators(probed(LIST_OF_TWO, |_| Ok(())).1.working()).command_line();
    assert!(line.expect("a good configuration").to_string().ends_with(" -accel kvm -accel tcg"));
}

const LIST_OF_TWO: &str = "Accelerators supported in QEMU binary:\ntcg\nkvm\n";

/// Without the arguments, since those of the machine may need descriptors and files.
#[test]
fn a_probe_has_the_program_and_the_process_of_the_machine() {
    let config = Config::new("qemu").args(["-m", "2G"]).serial("tty").machine("q35").without_monitor();
    let config = config.wrapper(["env"]).uid(7).launch_within(core::time::Duration::from_secs(7));
    let probe = Accelerators::probe(&config.clone());
    let expected = Config::new("qemu").machine("none").args(["-nodefaults", "-accel", "help"]).wrapper(["env"]).uid(7);
    assert_eq!(probe.next_launch(), Some(expected.launch_within(core::time::Duration::from_secs(7))));
}

#[test]
fn a_probe_fails_if_nothing_is_known_of_the_accelerators() {
    let busy = || LaunchError::not_started(fault(), &Config::new("qemu").command_line().expect("a good configuration"));
    let cancelled = || failed(LaunchFailure::Cancelled(Phase::Greeting), "");
    let mut probe = Accelerators::probe(&Config::new("qemu"));
    for error in [busy(), cancelled(), LaunchError::Misuse(Misuse::Ended), exited("qemu: -accel: invalid option")] {
        assert_eq!(probe.report_launch(Err(error.clone())), Err(error));
    }
    assert_eq!(probe.clone().finish(), Accelerators::default());
    probe.report_launch(Err(exited(LIST_OF_TWO))).expect("QEMU has listed them");
    for error in [busy(), cancelled(), LaunchError::Misuse(Misuse::Ended)] {
        let again = probe.next_launch();
        assert_eq!(probe.report_launch(Err(error.clone())), Err(error));
        assert_eq!(probe.next_launch(), again, "the launch can be repeated");
    }
    probe.report_launch(Ok(())).expect("it works");
    let early = probe.clone().finish();
    assert_eq!((early.as_slice().len(), early.get("tcg")), (5, None), "it was not tried");
    probe.report_launch(Ok(())).expect("it works");
    assert_eq!((probe.next_launch(), probe.clone().finish().working().count()), (None, 2));
    probe.report_launch(Ok(())).expect("there is nothing to report");
    assert_eq!(probe.finish().working().count(), 2);
}

/// A wrapper may drop the argument.
#[test]
fn a_qemu_that_lists_nothing_is_asked_for_each_accelerator() {
    let mut probe = Accelerators::probe(&Config::new("qemu"));
    while probe.next_launch().is_some() {
        probe.report_launch(Ok(())).expect("it is launched");
    }
    assert_eq!(probe.finish().working().collect::<Vec<_>>(), ["kvm", "hvf", "nvmm", "whpx", "tcg", "xen"]);
}

#[test]
fn the_words_of_qemu_are_printable() {
    let (_, found) = probed(LIST_OF_TWO, |_| Err(exited("\u{1b}]52;c;x\u{7}: invalid accelerator kvm\u{202e}\n")));
    let shown = format!("{found} {found:?}");
    assert!(!shown.contains(char::is_control) && !shown.contains('\u{202e}'), "{shown}");
}

/// QEMU prints its list on the standard output, which must be the log.
#[test]
fn the_probe_does_not_inherit_the_standard_streams() {
    let config = Config::new("qemu").inherit_stdin().inherit_stdout();
    let launch = Accelerators::probe(&config).next_launch().expect("it asks for the list");
    assert!(format!("{config:?}").contains("inherits_stdout: true"));
    let launch = format!("{launch:?}");
    assert!(launch.contains("inherits_stdin: false") && launch.contains("inherits_stdout: false"), "{launch}");
}
