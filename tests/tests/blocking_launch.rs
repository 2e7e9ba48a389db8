//! Tests of launches that fail: the error has the reason and QEMU's output, and nothing is left behind.

use std::fs::{File, OpenOptions, Permissions, set_permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::{
    Cause, Config, ExitStatus, FaultKind, LaunchError, LaunchFailure, Mark, Misuse, Outcome, Shutdown, SignalName, Vm,
    Wait,
};
use qemu_machine_core::{HostFault, Phase, ProtocolError, Refusal};
use qemu_machine_tests::leak_check::{Scratch, bytes, leaving_nothing};
use qemu_machine_tests::scripted::{GREETING, Script};
use qemu_machine_tests::{PATIENCE, qemu};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-qemu");

/// The exit statuses of the scripts below.
const ABORTED: ExitStatus = ExitStatus::Signal { number: 6, name: SignalName::Abrt, core_dumped: false };
const KILLED: ExitStatus = ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false };

/// Returns how a launch fails. The text of the error must have the reason, the exit status, the last line that the
/// process printed, and the command line.
fn failure_of(config: Config) -> (LaunchFailure, Outcome) {
    let error = Vm::launch(config).expect_err("the launch fails");
    let text = error.to_string();
    let LaunchError::Failed { failure, outcome } = error else { panic!("{text}") };
    assert!(text.contains(&failure.to_string()), "{text}");
    assert!(text.contains(&outcome.command_line.to_string()), "{text}");
    assert!(text.contains(outcome.log.trim().lines().last().unwrap_or_default()), "{text}");
    if let Some(exit) = outcome.exit {
        assert!(text.contains(&exit.to_string()), "{text}");
    }
    assert_eq!(outcome.faults, [], "{text}");
    (failure, *outcome)
}

/// Checks how a launch fails, and that it leaves nothing behind.
fn fails(
    config: impl FnOnce() -> Config + Send + 'static,
    check: impl FnOnce(LaunchFailure, Outcome) + Send + 'static,
) {
    leaving_nothing(|scratch| {
        let (failure, outcome) = failure_of(config().temporary_directory(bytes(scratch)));
        check(failure, outcome);
    });
}

fn host_fault(failure: LaunchFailure) -> HostFault {
    let LaunchFailure::Host(fault) = failure else { panic!("{failure}") };
    fault
}

fn orderly() -> Shutdown {
    Shutdown::within(PATIENCE)
}

// The host.

#[test]
fn g04_a_program_that_does_not_exist() {
    fails(
        || Config::new("no-such-qemu"),
        |failure, outcome| {
            let fault = host_fault(failure);
            assert_eq!((fault.kind, outcome.cause, outcome.exit), (FaultKind::NotFound, Cause::NotStarted, None));
            assert!(fault.operation.contains("no-such-qemu"), "{fault}");
        },
    );
}

#[test]
fn g04_a_program_that_is_not_executable() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let program = elsewhere.path().join("qemu");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&program).unwrap();
        let (failure, outcome) = failure_of(Config::new(bytes(&program)).temporary_directory(bytes(scratch)));
        let fault = host_fault(failure);
        assert_eq!((fault.kind, outcome.cause, outcome.exit), (FaultKind::Denied, Cause::NotStarted, None));
        assert!(fault.operation.contains(program.to_str().unwrap()), "{fault}");
    });
}

#[test]
fn a_wrapper_that_does_not_exist() {
    fails(
        || Config::new(qemu()).wrapper(["no-such-wrapper", "-f"]),
        |failure, _| {
            let fault = host_fault(failure);
            assert!(fault.operation.contains("no-such-wrapper"), "{fault}");
        },
    );
}

/// Not even root can create a directory in these.
#[test]
fn a_temporary_directory_that_cannot_be_used() {
    leaving_nothing(|_| {
        for (path, kind) in [
            ("/nonexistent/deep", FaultKind::NotFound),
            ("/proc/self/comm", FaultKind::Invalid),
            ("/proc", FaultKind::NotFound),
        ] {
            let (failure, outcome) = failure_of(Config::new(qemu()).temporary_directory(path));
            let fault = host_fault(failure);
            assert_eq!((fault.kind, outcome.cause), (kind, Cause::NotStarted), "{fault}");
            assert!(fault.operation.contains(path), "{fault}");
        }
    });
}

#[test]
fn a_log_directory_that_cannot_be_used() {
    fails(
        || Config::new(qemu()).log_directory("/nonexistent"),
        |failure, outcome| {
            let fault = host_fault(failure);
            assert_eq!((fault.kind, outcome.cause), (FaultKind::NotFound, Cause::NotStarted), "{fault}");
        },
    );
}

#[test]
fn a_configuration_that_is_no_command_line() {
    leaving_nothing(|scratch| {
        for config in [Config::new(""), Config::new(qemu()).arg("a\0b"), Config::new(qemu()).serial("mon")] {
            let error = Vm::launch(config.temporary_directory(bytes(scratch))).err();
            assert!(matches!(error, Some(LaunchError::Misuse(Misuse::Config(_)))), "{error:?}");
        }
    });
}

// The real QEMU.

/// Asserts that QEMU exited before it was ready. Its monitor runs in a thread of its own, so it may have greeted
/// before.
fn assert_exited(failure: &LaunchFailure) {
    let LaunchFailure::Exited(Phase::Greeting | Phase::Negotiating) = failure else { panic!("{failure}") };
}

/// Asserts that QEMU exits with 1 and prints this, also when the command line is pasted into a shell.
fn rejected(arguments: &'static [&'static str], words: &'static str) {
    fails(
        move || Config::new(qemu()).machine("none").args(arguments.iter().copied()),
        move |failure, outcome| {
            assert_exited(&failure);
            assert_eq!((&outcome.cause, outcome.exit), (&Cause::Exit(1), Some(ExitStatus::Code(1))));
            assert!(outcome.log.contains(words), "{outcome}");
            let line = outcome.command_line.to_string();
            let pasted = Command::new("bash").args(["-c", &line]).stdin(Stdio::null()).output().unwrap();
            assert_eq!(pasted.status.code(), Some(1), "{line}");
            assert!(String::from_utf8_lossy(&pasted.stderr).contains(words), "{line}");
        },
    );
}

#[test]
fn g04_a_device_that_does_not_exist() {
    rejected(&["-device", "nonexistent"], "'nonexistent' is not a valid device model name");
}

#[test]
fn an_argument_with_every_quote_there_is() {
    rejected(&["-device", "no'n$e`x\\ist\"ent*"], "no'n$e`x\\ist\"ent*");
}

#[test]
fn g04_an_option_that_does_not_exist() {
    rejected(&["-nonexistent"], "-nonexistent: invalid option");
}

#[test]
fn g04_a_kernel_that_does_not_exist() {
    fails(
        || Config::new(qemu()).args(["-accel", "tcg", "-kernel", "/nonexistent"]),
        |failure, outcome| {
            assert_exited(&failure);
            assert_eq!(outcome.exit, Some(ExitStatus::Code(1)));
            assert!(outcome.log.contains("could not open kernel file '/nonexistent'"), "{outcome}");
        },
    );
}

#[test]
fn g04_an_image_that_another_machine_holds() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let image = elsewhere.path().join("disk");
        File::create_new(&image).unwrap().set_len(1 << 20).unwrap();
        let drive = format!("file={},format=raw,if=virtio", image.display());
        let config = Config::new(qemu()).args(["-accel", "tcg", "-S", "-nodefaults", "-drive", &drive]);
        let config = config.temporary_directory(bytes(scratch));
        let holder = Vm::launch(config.clone()).unwrap();
        let (failure, outcome) = failure_of(config);
        assert_exited(&failure);
        assert!(outcome.log.contains("Failed to get \"write\" lock"), "{outcome}");
        assert_eq!(holder.shutdown(orderly()).unwrap().cause, Cause::Asked(Rung::Quit));
    });
}

#[test]
fn an_exit_that_was_asked_for() {
    fails(
        || Config::new(qemu()).arg("-version"),
        |failure, outcome| {
            assert_eq!(failure, LaunchFailure::Exited(Phase::Greeting));
            assert_eq!((&outcome.cause, outcome.exit), (&Cause::Exit(0), Some(ExitStatus::Code(0))));
            assert!(outcome.log.contains("QEMU emulator version"), "{outcome}");
        },
    );
}

// Scripts, for what the real QEMU does not do.

/// Asserts that the script fails the launch in this way, ends with this status, and that its output is in the outcome.
fn script_fails(script: Script, failure: LaunchFailure, exit: ExitStatus) {
    fails(
        move || script.config(SCRIPTED),
        move |actual, outcome| {
            assert_eq!(actual, failure, "{outcome}");
            assert_eq!(outcome.exit, Some(exit), "{outcome}");
            assert_eq!(outcome.log, "alas\n");
            assert_eq!(outcome.unanswered, 0);
        },
    );
}

fn alas() -> Script {
    Script::new().print("alas")
}

#[test]
fn g04_an_end_before_the_greeting() {
    script_fails(alas().exit(3), LaunchFailure::Exited(Phase::Greeting), ExitStatus::Code(3));
    script_fails(alas().abort(), LaunchFailure::Exited(Phase::Greeting), ABORTED);
}

#[test]
fn g04_an_end_in_the_middle_of_the_greeting() {
    let torn = alas().say(&GREETING[..40]);
    script_fails(torn.clone().exit(3), LaunchFailure::Exited(Phase::Greeting), ExitStatus::Code(3));
    script_fails(torn.abort(), LaunchFailure::Exited(Phase::Greeting), ABORTED);
}

#[test]
fn g04_an_end_after_the_greeting() {
    script_fails(alas().greet().exit(3), LaunchFailure::Exited(Phase::Negotiating), ExitStatus::Code(3));
    script_fails(alas().greet().abort(), LaunchFailure::Exited(Phase::Negotiating), ABORTED);
}

#[test]
fn g04_an_end_after_the_negotiation_was_asked_for() {
    script_fails(alas().greet().hear().exit(3), LaunchFailure::Exited(Phase::Negotiating), ExitStatus::Code(3));
    script_fails(alas().greet().hear().abort(), LaunchFailure::Exited(Phase::Negotiating), ABORTED);
}

#[test]
fn garbage_instead_of_the_greeting() {
    fails(
        || alas().say("SSH-2.0-x\r\n").stall().config(SCRIPTED),
        |failure, outcome| {
            let LaunchFailure::Broken(ProtocolError::Malformed { excerpt, .. }) = failure else { panic!("{failure}") };
            assert_eq!(excerpt, "SSH-2.0-x");
            assert_eq!(outcome.exit, Some(KILLED));
        },
    );
}

#[test]
fn a_reply_instead_of_the_greeting() {
    fails(
        || alas().say("{\"return\": {}, \"id\": 0}\r\n").stall().config(SCRIPTED),
        |failure, _| assert!(matches!(failure, LaunchFailure::Broken(ProtocolError::NoGreeting { .. })), "{failure}"),
    );
}

#[test]
fn a_negotiation_that_is_refused() {
    let refusal = Refusal {
        command: "qmp_capabilities".into(),
        class: "GenericError".into(),
        description: "not \"today\"".into(),
    };
    let script = alas().greet().hear().refuse("not \"today\"").stall();
    script_fails(script, LaunchFailure::Refused(refusal), KILLED);
}

#[test]
fn a_monitor_that_is_closed_under_a_process_that_lives_on() {
    script_fails(alas().hang_up().stall(), LaunchFailure::Hung(Phase::Greeting), KILLED);
}

/// Asserts that the launch times out in this phase. Two seconds are more than the script needs for its output.
fn script_is_late(script: Script, phase: Phase) {
    fails(
        move || script.config(SCRIPTED).launch_within(Duration::from_secs(2)),
        move |failure, outcome| {
            assert_eq!(failure, LaunchFailure::TimedOut(phase), "{outcome}");
            assert_eq!(outcome.exit, Some(KILLED));
        },
    );
}

#[test]
fn g01_no_greeting() {
    script_is_late(alas().stall(), Phase::Greeting);
}

#[test]
fn g01_half_a_greeting() {
    script_is_late(alas().say(&GREETING[..GREETING.len() - 1]).stall(), Phase::Greeting);
}

#[test]
fn g01_no_answer_to_the_negotiation() {
    script_is_late(alas().greet().hear().stall(), Phase::Negotiating);
}

// Launches that succeed.

#[test]
fn g07_events_may_come_before_anything_else() {
    leaving_nothing(|scratch| {
        let script = Script::new().event("A").greet().event("B").hear().event("C").reply("{}").obey();
        let vm = Vm::launch(script.config(SCRIPTED).temporary_directory(bytes(scratch))).unwrap();
        assert_eq!(vm.greeting().unwrap().version.to_string(), "9.2.3 (scripted)");
        assert!(vm.out_of_band());
        let mut mark = Mark::default();
        for index in 0..3 {
            let names = ["A", "B", "C"].map(Wait::event);
            let hit = vm.wait_any(&mark, names, PATIENCE / 2).unwrap();
            assert_eq!(hit.index, index);
            mark = hit.mark;
        }
        let outcome = vm.shutdown(orderly()).unwrap();
        assert_eq!((outcome.cause, outcome.exit), (Cause::Asked(Rung::Quit), Some(ExitStatus::Code(0))));
    });
}

#[test]
fn files_are_private() {
    leaving_nothing(|scratch| {
        let config = Config::new(qemu()).machine("none").temporary_directory(bytes(scratch)).name("private");
        // The log has a path where another program is to find it.
        let vm = Vm::launch(config.outlive_parent()).unwrap();
        let mut entries = scratch.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let (directory, rest) = (entries.next().unwrap(), entries.count());
        assert!(directory.file_name().unwrap().to_str().unwrap().starts_with("private-"));
        assert_eq!((mode(&directory), mode(&directory.join("log")), rest), (0o700, 0o600, 0));
        vm.shutdown(orderly()).unwrap();
        assert!(!directory.exists());
    });
}

#[test]
fn a_log_stays_in_the_chosen_directory() {
    leaving_nothing(|scratch| {
        let kept = Scratch::create();
        set_permissions(kept.path(), Permissions::from_mode(0o755)).unwrap();
        let script = Script::launched().print("last words").obey();
        let config = script.config(SCRIPTED).temporary_directory(bytes(scratch)).log_directory(bytes(kept.path()));
        let vm = Vm::launch(config).unwrap();
        let outcome = vm.shutdown(orderly()).unwrap();
        drop(vm);
        let [name] = &kept.entries()[..] else { panic!("{:?}", kept.entries()) };
        let log = kept.path().join(name);
        assert_eq!(mode(&log), 0o600);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "last words\n");
        assert_eq!(outcome.log, "last words\n");
    });
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}
