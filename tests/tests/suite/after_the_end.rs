//! Stories of what is known after the end of a machine, and of commands around that end.

use std::time::Duration;

use qemu_machine_core::{CommandError, Config, Deadline, ExitStatus, Progress, Rung, Shutdown, SignalName, State};
use qemu_machine_tests::leak_check::{Scratch, bytes, send, stop};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

/// Commands that are issued while QEMU dies have one error, however the commands, the end of the monitor and the end of the
/// process follow each other.
fn g04_commands_before_at_and_after_the_end_have_one_error<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let pid = machine.pid().expect("it runs");
    // A stopped QEMU answers nothing, and dies as soon as it gets the signal.
    stop(pid);
    send(pid, Signal::KILL);
    for _ in 0..50 {
        for reply in machine.execute_all(&["query-status"; 3], LONG) {
            assert!(matches!(reply, Err(CommandError::Disconnected(_))), "{reply:?}");
        }
    }
    let outcome = machine.wait(LONG).expect("it was killed");
    let killed = ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false };
    assert_eq!((outcome.exit, machine.state()), (Some(killed), State::Ended));
    let unsent = CommandError::Disconnected(Progress::Unsent);
    assert_eq!(machine.execute("query-status", LONG), Err(unsent.clone()));
    assert_eq!(machine.execute_raw(r#"{"execute": "query-status"}"#), Err(unsent));
}

fn row_19_process_command_line_and_log_are_known_after_the_end<H: Hosted>() {
    let logs = Scratch::create();
    let mut machine = H::launch(empty().log_directory(bytes(logs.path()))).expect("QEMU starts");
    for _ in 0..2 {
        let (pid, known) = (machine.pid(), (machine.log_path(), machine.command_line()));
        assert!(pid.is_some() && machine.qemu_pid() == pid && known.0.is_some());
        let outcome = machine.shutdown(Shutdown::default()).expect("it was launched");
        assert_eq!((machine.log_path(), machine.command_line()), known);
        assert_eq!((outcome.pid, &outcome.command_line), (pid, &known.1));
        assert_eq!(outcome.log_path.as_deref(), known.0.as_deref().map(bytes));
        assert_eq!((machine.pid(), machine.qemu_pid()), (None, None), "the ids may be those of other processes");
        machine.relaunch().expect("QEMU starts again");
        assert!(machine.pid().is_some() && machine.pid() != pid, "the next process");
        assert_ne!(machine.log_path(), known.0, "the next log");
    }
    machine.kill().expect("it was launched");
}

fn row_25_quit_then_kill_sends_no_sigterm<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let policy = Shutdown::quit_then_kill(Duration::from_millis(200));
    stop(machine.pid().expect("it runs"));
    let outcome = machine.shutdown(policy).expect("it was launched");
    assert_eq!(outcome.rungs, [Rung::Quit, Rung::Kill], "{outcome}");
    machine.relaunch().expect("QEMU starts again");
    let outcome = machine.shutdown(Shutdown::quit_then_kill(PATIENCE)).expect("it was launched");
    assert_eq!(outcome.rungs, [Rung::Quit], "{outcome}");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g04_commands_before_at_and_after_the_end_have_one_error
            row_19_process_command_line_and_log_are_known_after_the_end
            row_25_quit_then_kill_sends_no_sigterm
        }
    };
}

rows!(stories);
