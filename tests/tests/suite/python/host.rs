//! Stories of rows 8, 17 to 19 and 31: log, relaunch, standard streams, process, and the separation of runs.

use qemu_machine_core::{
    Cause, Config, ExitStatus, LaunchError, Mark, Misuse, Monitor, Shutdown, State, Wait, WaitError,
};
use qemu_machine_tests::leak_check::{Scratch, Watched};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::stdio::dup2_stdin;

use super::{LONG, bytes, empty, group, link};
use crate::hosted::Hosted;
use crate::left_out::dialling;
use crate::rows;

fn row_08_the_log_is_read_while_it_runs_and_after_the_end<H: Hosted>() {
    // QEMU warns about this option on stderr, and runs on.
    let config = || empty().args(["-netdev", "hubport,id=lonely,hubid=0"]);
    let scratch = Scratch::create();
    let mut machine = H::launch(config().log_directory(bytes(scratch.path())).name("kept")).expect("QEMU starts");
    machine.execute("query-status", LONG).expect("the monitor answers");
    let path = machine.log_path().expect("there is a log");
    assert!(
        path.starts_with(scratch.path())
            && path.file_name().is_some_and(|name| { name.to_string_lossy().starts_with("kept-") })
    );
    assert!(String::from_utf8_lossy(&machine.log(usize::MAX)).contains("netdev lonely has no peer"));
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert!(path.exists(), "the log stays in the chosen directory");
    let whole = std::fs::read(&path).expect("it can be read");
    assert_eq!(machine.log(usize::MAX), whole);
    assert_eq!(String::from_utf8_lossy(&whole), outcome.log.as_str());
    assert!(machine.log(3).len() <= 3);
}

fn row_08_a_log_that_is_not_utf8_fails_nothing<H: Hosted>() {
    let scratch = Scratch::create();
    let config = empty().args([&b"-device"[..], b"\xff\xfe"]).temporary_directory(bytes(scratch.path()));
    let Err(LaunchError::Failed { outcome, .. }) = H::launch(config) else { panic!("there is no such device") };
    assert!(outcome.log.contains("'\u{fffd}\u{fffd}' is not a valid device model name"), "{outcome}");
    assert_eq!((outcome.exit, outcome.faults.len()), (Some(ExitStatus::Code(1)), 0));
    assert_eq!(scratch.entries(), [""; 0]);
}

fn row_17_a_machine_is_launched_again_after_its_end<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    assert_eq!(machine.relaunch(), Err(LaunchError::Misuse(Misuse::AlreadyLaunched)));
    let mut pids = vec![machine.pid().expect("the process runs")];
    for _ in 0..3 {
        let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
        assert_eq!((outcome.exit, machine.state()), (Some(ExitStatus::Code(0)), State::Ended));
        machine.relaunch().expect("QEMU starts again");
        assert_eq!(machine.state(), State::Running);
        machine.execute("query-status", LONG).expect("the monitor answers");
        pids.push(machine.pid().expect("the process runs"));
    }
    pids.dedup();
    assert_eq!(pids.len(), 4);
    machine.kill().expect("the machine was launched");
}

fn row_17_a_failed_launch_is_cleaned_up_and_can_be_tried_again<H: Hosted>() {
    let scratch = Scratch::create();
    let missing = scratch.path().join("disk");
    let drive = format!("if=none,format=raw,file={}", missing.display());
    let temporary = Scratch::create();
    let config = empty().args(["-drive", &drive]).temporary_directory(bytes(temporary.path()));
    let config = config.wrapper(["sh", "-c", "echo \"pid $$\"; exec \"$@\"", "sh"]);
    // The disk exists at the first launch and not at the second.
    std::fs::write(&missing, [0; 512]).expect("the file can be written");
    let mut machine = H::launch(config).expect("QEMU starts");
    machine.kill().expect("the machine was launched");
    std::fs::remove_file(&missing).expect("it is there");
    let Err(LaunchError::Failed { failure, outcome }) = machine.relaunch() else { panic!("the disk is gone") };
    let error = LaunchError::Failed { failure, outcome: outcome.clone() }.to_string();
    assert_eq!(outcome.exit, Some(ExitStatus::Code(1)));
    assert!(error.contains("No such file or directory") && error.contains("-drive if=none"), "{error}");
    let pid = outcome.pid.expect("there was a process");
    assert!(outcome.log.contains(&format!("pid {pid}\n")), "{outcome:?}");
    assert_eq!((machine.pid(), machine.state(), temporary.entries().len()), (None, State::Ended, 0));
    std::fs::write(&missing, [0; 512]).expect("the file can be written");
    machine.relaunch().expect("QEMU starts again");
    machine.kill().expect("the machine was launched");
}

fn row_18_standard_streams_and_the_terminal<H: Hosted>() {
    let logs = Scratch::create();
    let mut machine = H::launch(empty().log_directory(bytes(logs.path()))).expect("QEMU starts");
    let (pid, log) = (machine.pid().expect("the process runs"), machine.log_path().expect("there is a log"));
    let log = log.to_string_lossy().into_owned();
    assert_eq!([0, 1, 2].map(|stream| link(pid, stream)), ["/dev/null".to_owned(), log.clone(), log]);
    assert_eq!(group(pid), pid, "signals of the terminal do not reach QEMU");
    machine.kill().expect("the machine was launched");

    let mut machine = H::launch(empty().share_terminal()).expect("QEMU starts");
    let pid = machine.pid().expect("the process runs");
    assert_eq!(group(pid), group(std::process::id()), "with `share_terminal` they do");
    let process = Watched::new(pid).expect("the process runs");
    assert_eq!(machine.kill().expect("the machine was launched").cause, Cause::Asked(qemu_machine_core::Rung::Kill));
    process.assert_ends_within(PATIENCE);
}

/// Gives this program a standard input that no other process has, once, and returns its name.
fn own_stdin() -> String {
    static OWN: std::sync::Once = std::sync::Once::new();
    OWN.call_once(|| {
        let file = memfd_create("own-stdin", MemfdFlags::CLOEXEC).expect("memory is available");
        dup2_stdin(file).expect("descriptors are available");
    });
    link(std::process::id(), 0)
}

fn row_18_standard_input_and_output_are_those_of_this_program_on_request<H: Hosted>() {
    let own = own_stdin();
    assert!(own.contains("own-stdin"), "{own}");
    let own = [own, link(std::process::id(), 1)];
    let config = empty().args(["-serial", "mon:stdio"]).inherit_stdin().inherit_stdout();
    let mut machine = H::launch(config).expect("QEMU starts");
    let pid = machine.pid().expect("the process runs");
    assert_eq!([0, 1].map(|stream| link(pid, stream)), own);
    assert_eq!(group(pid), group(std::process::id()), "it may read from the terminal");
    assert_ne!(link(pid, 2), link(std::process::id(), 2), "reports of QEMU are in the log");
    machine.kill().expect("the machine was launched");

    let mut machine = H::launch(empty().inherit_stdin()).expect("QEMU starts");
    let pid = machine.pid().expect("the process runs");
    assert_eq!((link(pid, 0), link(pid, 1)), (own[0].clone(), link(pid, 2)), "standard output is in the log");
    let mut machine = H::launch(empty()).expect("QEMU starts");
    assert_eq!(link(machine.pid().expect("the process runs"), 0), "/dev/null");
}

fn row_19_state_process_and_exit_status<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    assert_eq!(machine.state(), State::Running);
    let pid = machine.pid();
    let process = Watched::new(pid.expect("the process runs")).expect("the process runs");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    process.assert_ends_within(PATIENCE);
    assert_eq!((machine.pid(), outcome.pid, machine.state()), (None, pid, State::Ended));
    assert_eq!(outcome.exit, Some(ExitStatus::Code(0)));
}

fn row_31_nothing_of_one_run_is_left_in_the_next<H: Hosted>() {
    let config = Config::new(qemu()).args(["-M", "none", "-nodefaults", "-accel", "tcg"]);
    let config = dialling(config).monitor(Monitor::Socket);
    let mut machine = H::launch(config).expect("QEMU starts");
    let mut subscription = machine.subscribe(&Mark::default(), &[Wait::any_event()]).expect("the filter names events");
    machine.execute("stop", LONG).expect("the command succeeds");
    machine.wait_for(Wait::event("STOP"));
    let old = (machine.mark(), machine.directory());
    machine.kill().expect("the machine was launched");
    machine.relaunch().expect("QEMU starts again");
    assert_eq!(machine.queued(&mut subscription), [], "an event that was not read is gone as well");
    assert_ne!(machine.directory(), old.1);
    let again = machine.wait_any(&Mark::default(), &[Wait::event("STOP")], std::time::Duration::ZERO.into());
    assert_eq!(again, Err(WaitError::TimedOut));
    machine.execute("stop", LONG).expect("the command succeeds");
    machine.wait_any(&old.0, &[Wait::event("STOP")], LONG).expect("an old mark means the beginning of the run");
    assert_eq!(machine.next(&mut subscription, LONG).expect("the subscription goes on").name(), "STOP");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_eq!((outcome.exit, outcome.rungs.len()), (Some(ExitStatus::Code(0)), 1), "not the kill of the previous run");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_08_the_log_is_read_while_it_runs_and_after_the_end
            row_08_a_log_that_is_not_utf8_fails_nothing
            row_17_a_machine_is_launched_again_after_its_end
            row_17_a_failed_launch_is_cleaned_up_and_can_be_tried_again
            row_18_standard_streams_and_the_terminal
            row_18_standard_input_and_output_are_those_of_this_program_on_request
            row_19_state_process_and_exit_status
            row_31_nothing_of_one_run_is_left_in_the_next
        }
    };
}

rows!(stories);
