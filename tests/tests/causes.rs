//! Tests of the cause of an end on a real QEMU: each originator, before, during and after a shutdown by the caller.

use std::process::Command;
use std::time::Duration;

use qemu_machine_blocking::core::Address;
use qemu_machine_blocking::{Cause, Config, Mark, Outcome, Peer, Rung, Shutdown, Vm, Wait, json};
use qemu_machine_tests::guest::{GREETING, ImageFile, Letter, arguments};
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::{PATIENCE, bounded, qemu};

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// The originator of the end, beside the caller's shutdown.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    /// The guest powers off.
    Guest,
    /// Another handle of this program executes `quit`.
    OtherHandle,
    /// Another handle of this program executes `quit` in the human monitor.
    HumanMonitor,
    /// Another client, on a monitor of its own, executes `quit`.
    OtherMonitor,
    /// Another client presses the power button, and the guest powers off.
    OtherButton,
    /// Another process sends SIGTERM.
    Signal,
}

/// When the originator acts, relative to the caller's shutdown.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// Its end is visible before the shutdown begins.
    Before,
    /// The shutdown has pressed the power button, and the guest has ignored it.
    During,
    /// QEMU has accepted the `quit` of the shutdown.
    After,
}

/// A machine with a second monitor.
struct Guest {
    vm: Vm,
    /// The start of the run.
    start: Mark,
    /// The client of the second monitor.
    other: Vm,
    _scratch: Scratch,
    _image: ImageFile,
}

impl Guest {
    fn start() -> Self {
        let (image, scratch) = (ImageFile::create().unwrap(), Scratch::create());
        let monitor = scratch.path().join("second.sock");
        let second = format!("unix:{},server=on,wait=off", monitor.display());
        let config = Config::new(qemu()).args(["-accel", "tcg", "-qmp", &second]).args(arguments(image.path()));
        let config = config.serial("tty").temporary_directory(bytes(scratch.path()));
        let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        vm.wait_any(&Mark::default(), [Wait::text("tty", GREETING)], LONG).unwrap();
        let other = Vm::attach(Peer::Dial(Address::unix(bytes(&monitor))), LONG);
        let other = other.unwrap_or_else(|error| panic!("{error}"));
        Self { vm, start: Mark::default(), other, _scratch: scratch, _image: image }
    }

    /// Lets the originator act. Its request may come too late for QEMU, so errors are ignored.
    fn act(&self, who: Who) {
        match who {
            Who::Guest => drop(self.vm.console_write("tty", [Letter::PowerOff.byte()])),
            Who::OtherHandle => drop(self.vm.clone().execute("quit")),
            Who::HumanMonitor => {
                drop(self.vm.clone().execute(("human-monitor-command", json!({"command-line": "quit"}))));
            }
            Who::OtherMonitor => drop(self.other.execute("quit")),
            Who::OtherButton => {
                if self.other.execute("system_powerdown").is_ok() {
                    self.sees("POWERDOWN");
                }
                self.act(Who::Guest);
            }
            Who::Signal => {
                // From another process: a signal of this one would be the shutdown's.
                let pid = self.vm.pid().map(|pid| pid.to_string()).unwrap_or_default();
                drop(Command::new("sh").args(["-c", "kill -TERM \"$0\" 2>/dev/null", &pid]).status());
            }
        }
    }

    fn sees(&self, event: &str) {
        self.vm.wait_any(&self.start, [Wait::event(event), Wait::end()], LONG).unwrap();
    }

    fn run(&self, who: Who, when: When) -> Outcome {
        match when {
            When::Before => {
                self.act(who);
                self.sees("SHUTDOWN");
                self.vm.shutdown(Shutdown::default()).unwrap()
            }
            When::During => self.beside(Shutdown::default().power_down(LONG), "POWERDOWN", who),
            When::After => self.beside(Shutdown::default(), "SHUTDOWN", who),
        }
    }

    /// Begins a shutdown on another thread, and lets the originator act once this event was seen.
    fn beside(&self, how: Shutdown, event: &str, who: Who) -> Outcome {
        std::thread::scope(|threads| {
            let shutdown = threads.spawn(|| self.vm.shutdown(how).unwrap());
            self.sees(event);
            self.act(who);
            shutdown.join().unwrap()
        })
    }
}

/// A cause without the pid of the sender of a signal, which differs from run to run. (Its name may be missing: QEMU looks it
/// up when the sender may have exited.)
fn shown(cause: &Cause) -> String {
    let own = format!("pid {} ", std::process::id());
    match cause {
        Cause::Signal { number: Some(15), sender: Some(sender) } if !sender.starts_with(&own) => SIGNAL.into(),
        cause => format!("{cause:?}"),
    }
}

const SIGNAL: &str = "SIGTERM of another process";

#[test]
fn g28_the_outcome_names_who_ended_the_machine() {
    let quit = shown(&Cause::Asked(Rung::Quit));
    let table = [
        (Who::Guest, [shown(&Cause::PowerOff), shown(&Cause::Asked(Rung::PowerDown)), quit.clone()]),
        (Who::OtherHandle, [quit.clone(), quit.clone(), quit.clone()]),
        (Who::HumanMonitor, [quit.clone(), quit.clone(), quit.clone()]),
        (Who::OtherMonitor, [shown(&Cause::QuitByOther), shown(&Cause::QuitByOther), quit.clone()]),
        (Who::OtherButton, [shown(&Cause::PowerButton), shown(&Cause::Asked(Rung::PowerDown)), quit.clone()]),
        (Who::Signal, [SIGNAL.to_owned(), SIGNAL.to_owned(), quit]),
    ];
    for (who, causes) in table {
        for (when, expected) in [When::Before, When::During, When::After].into_iter().zip(causes) {
            bounded(move || {
                let guest = Guest::start();
                let outcome = guest.run(who, when);
                assert_eq!(shown(&outcome.cause), expected, "{who:?} {when:?}: {outcome:#}");
            });
        }
    }
}

/// The two clients see the same end from their sides.
#[test]
fn g28_a_quit_is_another_clients_on_the_other_monitor() {
    bounded(|| {
        let guest = Guest::start();
        guest.vm.execute("quit").unwrap();
        assert_eq!(guest.vm.wait(LONG).unwrap().cause, Cause::Asked(Rung::Quit));
        assert_eq!(guest.other.wait(LONG).unwrap().cause, Cause::QuitByOther);
    });
}
