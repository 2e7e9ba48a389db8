//! Stories with the real QEMU and the small guest of this package. They run on every row that has processes.

use std::time::Duration;

use qemu_machine_core::{Config, Deadline, Mark, Shutdown, Wait};
use qemu_machine_tests::guest::{self, ImageFile, Letter};
use qemu_machine_tests::qemu;

use crate::harness::{Harness, Transcript};
use crate::rows;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

/// A machine whose guest has greeted.
struct Guest<H> {
    told: Transcript,
    machine: H,
    mark: Mark,
    /// The image of the guest, which is removed when this value is dropped.
    _image: ImageFile,
}

impl<H: Harness> Guest<H> {
    fn boot(arguments: &[&str]) -> Self {
        let image = ImageFile::create().expect("the image can be written");
        let config = Config::new(qemu())
            .args(["-accel", "tcg"])
            .args(guest::arguments(image.path()))
            .args(arguments.iter().copied())
            .serial("tty")
            .recorded();
        let mut told = Transcript::default();
        let machine = told.launched(H::launch(config)).expect("the guest boots");
        let mut booted = Self { told, machine, mark: Mark::default(), _image: image };
        booted.expect(guest::GREETING);
        booted
    }

    /// Waits until the guest has printed this.
    fn expect(&mut self, text: &str) {
        let hit = self.machine.wait_any(&self.mark, &[Wait::text("tty", text), Wait::end()], LONG);
        self.mark = self.told.hit(hit).unwrap_or_default();
    }

    fn type_letter(&mut self, letter: Letter) {
        let typed = self.machine.console_write("tty", &char::from(letter.byte()).to_string());
        typed.expect("the console accepts a letter");
    }

    /// Types a letter that ends the machine, and notes how it ended.
    fn ends_by(mut self, letter: Letter) -> Transcript {
        self.type_letter(letter);
        self.told.outcome(self.machine.wait(LONG));
        self.told
    }

    fn shut_down(mut self, within: Duration) -> Transcript {
        self.told.outcome(self.machine.shutdown(Shutdown::within(within)));
        self.told
    }
}

fn commands_and_events<H: Harness>() -> Transcript {
    let mut guest = Guest::<H>::boot(&[]);
    for command in ["stop", "query-status", "cont", "no-such-command"] {
        let reply = guest.machine.execute(command, LONG);
        // Older versions of QEMU have the member `singlestep`.
        guest.told.reply(&reply.map(|mut value| {
            value.as_object_mut().map(|members| members.remove("singlestep"));
            value
        }));
    }
    let raw = guest.machine.execute_raw(r#"{"execute": "query-name", "arguments": {}}"#);
    guest.told.raw(raw);
    let things = [Wait::event("RESUME"), Wait::event("STOP")];
    let mark = guest.told.hit(guest.machine.wait_any(&Mark::default(), &things, LONG)).expect("it stopped");
    guest.told.hit(guest.machine.wait_any(&mark, &things, LONG));
    guest.shut_down(Duration::from_secs(15))
}

fn the_console_echoes<H: Harness>() -> Transcript {
    let mut guest = Guest::<H>::boot(&[]);
    guest.machine.console_write("tty", "Hello, guest!\n").expect("the console accepts the input");
    guest.expect("guest!\n");
    let unknown = guest.machine.console_write("other", "x");
    guest.told.note(unknown.expect_err("there is no such console"));
    guest.shut_down(Duration::from_secs(15))
}

fn a_reset<H: Harness>() -> Transcript {
    let mut guest = Guest::<H>::boot(&[]);
    guest.type_letter(Letter::Reset);
    guest.expect(guest::GREETING);
    let reset = guest.machine.wait_any(&Mark::default(), &[Wait::event("RESET")], LONG);
    guest.told.hit(reset);
    guest.ends_by(Letter::PowerOff)
}

fn the_guest_powers_off<H: Harness>() -> Transcript {
    Guest::<H>::boot(&[]).ends_by(Letter::PowerOff)
}

fn the_guest_resets_for_the_last_time<H: Harness>() -> Transcript {
    Guest::<H>::boot(&["-no-reboot"]).ends_by(Letter::Reset)
}

fn the_guest_panics<H: Harness>() -> Transcript {
    Guest::<H>::boot(&[]).ends_by(Letter::Panic)
}

/// Newer versions of QEMU also send SHUTDOWN.
fn the_guest_exits<H: Harness>() -> Transcript {
    let told = Guest::<H>::boot(&[]).ends_by(Letter::Exit);
    told.without("end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}")
}

fn a_shutdown_in_the_middle_of_a_flood<H: Harness>() -> Transcript {
    let mut guest = Guest::<H>::boot(&[]);
    guest.type_letter(Letter::Flood);
    guest.machine.wait_any(&guest.mark, &[Wait::text("tty", "00000100")], LONG).expect("the flood rises");
    guest.shut_down(Duration::from_secs(15))
}

fn a_stopped_qemu<H: Harness>() -> Transcript {
    let mut guest = Guest::<H>::boot(&[]);
    let pid = guest.machine.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?));
    let stopped = rustix::process::kill_process(pid.expect("the process runs"), rustix::process::Signal::STOP);
    stopped.expect("the process is ours");
    guest.shut_down(Duration::from_millis(300))
}

fn a_device_that_does_not_exist<H: Harness>() -> Transcript {
    let mut told = Transcript::default();
    let config = Config::new(qemu()).args(["-device", "nonexistent"]);
    // The monitor runs in its own thread, so the greeting comes before or after the device fails.
    match H::launch(config) {
        Err(qemu_machine_core::LaunchError::Failed { outcome, .. }) => {
            told.ended(&outcome);
            told.note(outcome.log.contains("'nonexistent' is not a valid device model name"));
        }
        other => told.note(format!("launched: {}", other.is_ok())),
    }
    told
}

fn a_program_that_does_not_exist<H: Harness>() -> Transcript {
    let mut told = Transcript::default();
    told.launched(H::launch(Config::new("no-such-qemu")));
    told
}

/// The stories, each with its transcript on every row.
macro_rules! stories {
    ($harness:ty) => {
        crate::each! { $harness:
            commands_and_events [
                "launched", "text 0: \"guest: ready\"",
                "reply: {}", "reply: {\"running\":false,\"status\":\"paused\"}", "reply: {}",
                "no reply: `no-such-command` was refused: CommandNotFound: The command no-such-command has not been found", "reply: {\"return\":{}}",
                "event 1: STOP", "event 0: RESUME",
                "end: ended by the caller (quit)", "end: exit status 0",
                "end: SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-quit\"}",
            ]
            the_console_echoes [
                "launched", "text 0: \"guest: ready\"", "text 0: \"\\r\\nHello, guest!\\n\"",
                "no console is named `other`",
                "end: ended by the caller (quit)", "end: exit status 0",
                "end: SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-quit\"}",
            ]
            a_reset [
                "launched", "text 0: \"guest: ready\"", "text 0: \"\\r\\nguest: resetting\\r\\nguest: ready\"",
                "event 0: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: powered off by the guest", "end: exit status 0",
                "end: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}",
            ]
            the_guest_powers_off [
                "launched", "text 0: \"guest: ready\"", "end: powered off by the guest", "end: exit status 0",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}",
            ]
            the_guest_resets_for_the_last_time [
                "launched", "text 0: \"guest: ready\"", "end: reset by the guest", "end: exit status 0",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-reset\"}",
            ]
            the_guest_panics [
                "launched", "text 0: \"guest: ready\"", "end: panic of the guest", "end: exit status 0",
                "end: GUEST_PANICKED {\"action\": \"poweroff\"}",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-panic\"}",
            ]
            the_guest_exits [
                "launched", "text 0: \"guest: ready\"",
                "end: exited by the guest (isa-debug-exit, value 0x15)", "end: exit status 43",
            ]
            a_shutdown_in_the_middle_of_a_flood [
                "launched", "text 0: \"guest: ready\"",
                "end: ended by the caller (quit)", "end: exit status 0",
                "end: SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-quit\"}",
            ]
            a_stopped_qemu [
                "launched", "text 0: \"guest: ready\"",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            a_device_that_does_not_exist [
                "end: QEMU exited (status 1)", "end: exit status 1", "true",
            ]
            a_program_that_does_not_exist [
                "not launched: cannot execute `no-such-qemu`: No such file or directory (os error 2)",
                "end: was not started",
            ]
        }
    };
}

rows!(stories, strict);
