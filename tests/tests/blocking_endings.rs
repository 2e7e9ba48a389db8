//! Tests of every kind of end of a real QEMU: the outcome names the cause, and nothing is left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::{
    Cause, CommandError, Config, ExitStatus, Limits, Mark, Misuse, Outcome, Progress, Shutdown, SignalName, State, Vm,
    Wait, WaitError,
};
use qemu_machine_tests::guest::{EXIT_CODE, GREETING, HANGING, ImageFile, Letter, arguments};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes, descendants, send};
use qemu_machine_tests::{PATIENCE, bounded, qemu};
use rustix::process::Signal;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

const KILLED: Option<ExitStatus> = Some(ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false });

/// A machine that runs the guest, with a directory for its files and a watch on its process.
struct Guest {
    vm: Vm,
    process: Watched,
    scratch: Scratch,
    _image: ImageFile,
}

impl Guest {
    fn start(change: impl FnOnce(Config) -> Config) -> Self {
        let (image, scratch) = (ImageFile::create().unwrap(), Scratch::create());
        let config = Config::new(qemu()).args(["-accel", "tcg"]).args(arguments(image.path())).serial("tty");
        let config = change(config.temporary_directory(bytes(scratch.path())));
        let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        let process = Watched::new(vm.pid().unwrap()).unwrap();
        vm.wait_any(&Mark::default(), [Wait::text("tty", GREETING)], LONG).unwrap();
        Self { vm, process, scratch, _image: image }
    }

    fn pid(&self) -> u32 {
        self.vm.pid().unwrap()
    }

    fn order(&self, letter: Letter) -> Outcome {
        self.vm.console_write("tty", [letter.byte()]).unwrap();
        self.vm.wait(LONG).unwrap()
    }

    /// Asserts that the process has ended and its files are removed.
    fn assert_over(&self) {
        self.process.assert_ends_within(Duration::ZERO);
        assert_eq!(self.scratch.entries(), [""; 0]);
        let outcome = self.vm.outcome().unwrap();
        assert_eq!((self.vm.state(), self.vm.pid()), (State::Ended, None));
        assert!(outcome.pid.is_some(), "{outcome:?}");
    }
}

/// Ends a machine and asserts this cause and this exit status.
fn ends(
    change: impl FnOnce(Config) -> Config + Send + 'static,
    end: impl FnOnce(&Guest) -> Outcome + Send + 'static,
    cause: Cause,
    exit: ExitStatus,
) {
    bounded(move || {
        let guest = Guest::start(change);
        let outcome = end(&guest);
        guest.assert_over();
        assert_eq!((&outcome.cause, outcome.exit), (&cause, Some(exit)), "{outcome}");
        assert_eq!((outcome.unanswered, &*outcome.faults), (0, &[][..]));
        assert!(outcome.consoles[0].1.starts_with(GREETING), "{outcome}");
        // The outcome does not change, and further requests are refused.
        assert_eq!(guest.vm.wait(Duration::ZERO), Ok(outcome.clone()));
        assert_eq!(guest.vm.shutdown(Shutdown::default()), Ok(outcome));
        assert_eq!(guest.vm.execute("query-status"), Err(CommandError::Disconnected(Progress::Unsent)));
        assert_eq!(guest.vm.console_write("tty", "!"), Err(Misuse::Ended));
    });
}

fn as_it_is(config: Config) -> Config {
    config
}

fn ends_orderly(end: impl FnOnce(&Guest) -> Outcome + Send + 'static, cause: Cause) {
    ends(as_it_is, end, cause, ExitStatus::Code(0));
}

// By the caller.

#[test]
fn a_shutdown() {
    ends_orderly(|guest| guest.vm.shutdown(Shutdown::default()).unwrap(), Cause::Asked(Rung::Quit));
}

#[test]
fn g12_a_quit_that_the_caller_issued() {
    ends_orderly(
        |guest| {
            guest.vm.execute_by("quit", LONG).unwrap();
            guest.vm.wait(LONG).unwrap()
        },
        Cause::Asked(Rung::Quit),
    );
}

#[test]
fn g12_a_shutdown_after_a_quit_that_the_caller_issued() {
    ends_orderly(
        |guest| {
            guest.vm.execute_by("quit", LONG).unwrap();
            guest.vm.shutdown(Shutdown::default()).unwrap()
        },
        Cause::Asked(Rung::Quit),
    );
}

/// The guest ignores the power button.
#[test]
fn g13_a_power_button_that_the_guest_ignores() {
    ends_orderly(
        |guest| {
            let mark = guest.vm.mark();
            let outcome = guest.vm.shutdown(Shutdown::within(LONG).power_down(Duration::from_millis(200))).unwrap();
            assert!(guest.vm.wait_any(&mark, [Wait::event("POWERDOWN")], Duration::ZERO).is_ok());
            outcome
        },
        Cause::Asked(Rung::Quit),
    );
}

#[test]
fn row_25_a_power_button_that_is_pressed_until_the_caller_kills() {
    let end = |guest: &Guest| {
        let (vm, mut presses) = (guest.vm.clone(), guest.vm.events([Wait::event("POWERDOWN")]).unwrap());
        let how = Shutdown::within(LONG).power_down(LONG).power_down_again(Duration::from_millis(1));
        let shutdown = std::thread::spawn(move || vm.shutdown(how).unwrap());
        (0..3).for_each(|_| drop(presses.next(LONG).unwrap()));
        guest.vm.kill().unwrap();
        shutdown.join().unwrap()
    };
    ends(as_it_is, end, Cause::Asked(Rung::Kill), KILLED.unwrap());
}

#[test]
fn a_kill() {
    ends(as_it_is, |guest| guest.vm.kill().unwrap(), Cause::Asked(Rung::Kill), KILLED.unwrap());
}

#[test]
fn g13_a_kill_while_a_shutdown_is_under_way() {
    ends(
        as_it_is,
        |guest| {
            send(guest.pid(), Signal::STOP);
            let vm = guest.vm.clone();
            let shutdown = std::thread::spawn(move || vm.shutdown(Shutdown::within(Duration::from_secs(60))).unwrap());
            // The order does not matter: a stopped process handles neither `quit` nor SIGTERM.
            let outcome = guest.vm.kill().unwrap();
            assert_eq!(shutdown.join().unwrap(), outcome);
            outcome
        },
        Cause::Asked(Rung::Kill),
        KILLED.unwrap(),
    );
}

#[test]
fn g13_a_shutdown_of_a_stopped_process() {
    ends(
        as_it_is,
        |guest| {
            send(guest.pid(), Signal::STOP);
            guest.vm.shutdown(Shutdown::within(Duration::from_secs(3))).unwrap()
        },
        Cause::Asked(Rung::Kill),
        KILLED.unwrap(),
    );
}

/// QEMU ends with unread input, which turns the end of the connection into ECONNRESET (measured with QEMU 7.2.22).
#[test]
fn g13_a_shutdown_with_input_that_is_never_read() {
    ends_orderly(
        |guest| {
            let mark = guest.vm.mark();
            guest.vm.console_write("tty", [Letter::Hang.byte()]).unwrap();
            guest.vm.wait_any(&mark, [Wait::text("tty", HANGING)], LONG).unwrap();
            let limit = Limits::default().console_input;
            guest.vm.console_write("tty", vec![b'!'; limit]).unwrap();
            assert_eq!(guest.vm.console_write("tty", vec![b'!'; limit]), Err(Misuse::ConsoleInputFull(limit)));
            guest.vm.shutdown(Shutdown::default()).unwrap()
        },
        Cause::Asked(Rung::Quit),
    );
}

#[test]
fn a_shutdown_while_other_threads_execute_commands() {
    bounded(|| {
        let guest = Guest::start(as_it_is);
        let busy = [(); 4].map(|()| guest.vm.clone()).map(|vm| {
            std::thread::spawn(move || {
                loop {
                    match vm.execute_by("query-status", LONG) {
                        Ok(status) => assert!(status["status"].is_string()),
                        Err(error) => break error,
                    }
                }
            })
        });
        let outcome = guest.vm.shutdown(Shutdown::default()).unwrap();
        assert_eq!(outcome.cause, Cause::Asked(Rung::Quit));
        for error in busy.map(|thread| thread.join().unwrap()) {
            assert!(matches!(error, CommandError::Disconnected(_)), "{error}");
        }
        guest.assert_over();
    });
}

// By the guest.

#[test]
fn g14_a_power_off() {
    ends_orderly(|guest| guest.order(Letter::PowerOff), Cause::PowerOff);
}

#[test]
fn g14_a_reset() {
    ends(|config| config.arg("-no-reboot"), |guest| guest.order(Letter::Reset), Cause::Reset, ExitStatus::Code(0));
}

#[test]
fn g14_a_panic() {
    ends_orderly(|guest| guest.order(Letter::Panic), Cause::Panic);
}

#[test]
fn g14_a_debug_exit() {
    let value = EXIT_CODE.unsigned_abs() >> 1;
    ends(as_it_is, |guest| guest.order(Letter::Exit), Cause::DebugExit(value), ExitStatus::Code(EXIT_CODE));
}

// By signals of other programs.

#[test]
fn g14_a_signal_that_qemu_catches() {
    // QEMU prints the first word of the sender's command line (measured with QEMU 7.2.22).
    let program = std::env::args().next().unwrap();
    let sender = format!("pid {} ({program})", std::process::id());
    ends_orderly(
        |guest| {
            send(guest.pid(), Signal::TERM);
            guest.vm.wait(LONG).unwrap()
        },
        Cause::Signal { number: Some(15), sender: Some(sender.into()) },
    );
}

#[test]
fn g14_a_signal_that_qemu_cannot_catch() {
    ends(
        as_it_is,
        |guest| {
            send(guest.pid(), Signal::KILL);
            guest.vm.wait(LONG).unwrap()
        },
        Cause::Signal { number: Some(9), sender: None },
        KILLED.unwrap(),
    );
}

/// A machine may end while no call waits.
#[test]
fn an_end_between_two_calls() {
    ends_orderly(
        |guest| {
            guest.vm.console_write("tty", [Letter::PowerOff.byte()]).unwrap();
            guest.process.assert_ends_within(LONG);
            guest.vm.wait(LONG).unwrap()
        },
        Cause::PowerOff,
    );
}

// By dropping.

#[test]
fn dropping_the_last_handle_ends_the_machine() {
    bounded(|| {
        let Guest { vm, process, scratch, _image } = Guest::start(as_it_is);
        let other = vm.clone();
        drop(vm);
        assert!(other.execute_by("query-status", LONG).is_ok());
        drop(other);
        process.assert_ends_within(Duration::ZERO);
        assert_eq!(scratch.entries(), [""; 0]);
    });
}

#[test]
fn g15_a_panic_ends_the_machine() {
    bounded(|| {
        let Guest { vm, process, scratch, _image } = Guest::start(as_it_is);
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _vm = vm;
            panic!("as a failing test does");
        }));
        assert!(panicked.is_err());
        process.assert_ends_within(Duration::ZERO);
        assert_eq!(scratch.entries(), [""; 0]);
    });
}

#[test]
fn g15_dropping_the_handle_kills_a_stopped_process() {
    bounded(|| {
        let Guest { vm, process, scratch, _image } = Guest::start(as_it_is);
        send(vm.pid().unwrap(), Signal::STOP);
        drop(vm);
        process.assert_ends_within(Duration::ZERO);
        assert_eq!(scratch.entries(), [""; 0]);
    });
}

// With a wrapper.

#[test]
fn a_wrapper_that_becomes_qemu() {
    ends(
        |config| config.wrapper(["env", "A=B"]),
        |guest| guest.vm.shutdown(Shutdown::default()).unwrap(),
        Cause::Asked(Rung::Quit),
        ExitStatus::Code(0),
    );
}

#[test]
fn a_wrapper_that_stays() {
    let stays = |config: Config| config.wrapper(["timeout", "60"]);
    ends(stays, |guest| guest.order(Letter::PowerOff), Cause::PowerOff, ExitStatus::Code(0));
    ends(stays, |guest| kill_both(guest, |vm| vm.kill().unwrap()), Cause::Asked(Rung::Kill), KILLED.unwrap());
}

/// When the wrapper dies, QEMU ends as well.
#[test]
fn a_wrapper_that_dies() {
    let end = |vm: &Vm| {
        send(vm.pid().unwrap(), Signal::KILL);
        vm.wait(LONG).unwrap()
    };
    ends(
        |config| config.wrapper(["timeout", "60"]),
        move |guest| kill_both(guest, end),
        Cause::Signal { number: Some(9), sender: None },
        KILLED.unwrap(),
    );
}

/// A process that left the process group is not killed, and does not delay the end of the machine.
#[test]
fn g15_a_process_that_escaped() {
    ends(
        |config| config.wrapper(["bash", "-c", "setsid sleep 60 & exec \"$@\"", "bash"]),
        |guest| {
            let [escaped] = &descendants(guest.pid())[..] else { panic!("there is one process beside QEMU") };
            let _escaped = Watched::new(escaped.pid).unwrap();
            guest.vm.shutdown(Shutdown::default()).unwrap()
        },
        Cause::Asked(Rung::Quit),
        ExitStatus::Code(0),
    );
}

fn kill_both(guest: &Guest, kill: impl FnOnce(&Vm) -> Outcome) -> Outcome {
    let [qemu] = &descendants(guest.pid())[..] else { panic!("there is one process behind `timeout`") };
    let qemu = Watched::new(qemu.pid).unwrap();
    let outcome = kill(&guest.vm);
    qemu.assert_ends_within(LONG);
    outcome
}

// After the end.

#[test]
fn the_log_can_be_read_at_any_time() {
    bounded(|| {
        let says = ["bash", "-c", "echo before; exec \"$@\"", "bash"];
        let guest = Guest::start(|config| config.wrapper(says));
        assert_eq!(guest.vm.log(100).unwrap(), b"before\n");
        assert_eq!(guest.vm.log(4).unwrap(), b"ore\n");
        send(guest.pid(), Signal::TERM);
        let outcome = guest.vm.wait(LONG).unwrap();
        guest.assert_over();
        let log = String::from_utf8(guest.vm.log(10_000).unwrap()).unwrap();
        assert!(log.starts_with("before\n") && log.contains("terminating on signal 15"), "{log}");
        assert_eq!(outcome.log, log);
    });
}

#[test]
fn waiting_for_an_end_that_does_not_come_changes_nothing() {
    bounded(|| {
        let guest = Guest::start(as_it_is);
        assert_eq!(guest.vm.wait(Duration::from_millis(100)), Err(WaitError::TimedOut));
        assert!(guest.vm.execute_by("query-status", LONG).is_ok());
    });
}
