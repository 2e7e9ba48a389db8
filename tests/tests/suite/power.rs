//! Stories about the power of the guest: a reboot with its fallbacks, and the power button of a guest that is stopped.

use std::time::Duration;

use qemu_machine_core::procedure::{Reboot, RebootEnd};
use qemu_machine_core::{Cause, Config, Deadline, Mark, Rung, Shutdown, Wait};
use qemu_machine_tests::guest::{self, GREETING, HANGING, ImageFile, Letter};
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(PATIENCE.as_secs() / 2));

/// The time of a guest that does not react.
const SHORT: Duration = Duration::from_millis(50);

/// The time of a guest that reacts, or of a button that can have no effect. A story that waited for its end would fail.
const NEVER: Duration = Duration::from_secs(PATIENCE.as_secs());

/// A machine with the small guest, which has greeted.
struct Guest<H> {
    machine: H,
    /// The position after the greeting.
    mark: Mark,
    _image: ImageFile,
}

impl<H: Hosted> Guest<H> {
    fn boot(arguments: &[&str]) -> Self {
        let image = ImageFile::create().expect("the image can be written");
        let config = Config::new(qemu()).args(["-accel", "tcg"]).args(guest::arguments(image.path()));
        let machine = H::launch(config.args(arguments.iter().copied()).serial("tty")).expect("QEMU starts");
        let mut booted = Self { machine, mark: Mark::default(), _image: image };
        booted.sees(GREETING);
        booted
    }

    fn sees(&mut self, text: &str) {
        let things = [Wait::text("tty", text), Wait::end()];
        let hit = self.machine.wait_any(&self.mark, &things, LONG).expect("the guest prints it");
        assert_eq!(hit.index, 0, "{text}: {hit:?}");
        self.mark = hit.mark;
    }

    /// Types a letter, and waits for the reboot that it causes.
    fn reboots(&mut self, letter: Letter) -> RebootEnd {
        let before = self.machine.mark();
        let typed = self.machine.console_write("tty", &char::from(letter.byte()).to_string());
        typed.expect("the console accepts a letter");
        let reboot = Reboot::asked(&before).reset_after(NEVER);
        self.machine.run(reboot, Deadline::after(2 * NEVER)).expect("the guest reboots")
    }

    fn hangs(&mut self) {
        let typed = self.machine.console_write("tty", &char::from(Letter::Hang.byte()).to_string());
        typed.expect("the console accepts a letter");
        self.sees(HANGING);
    }
}

fn a_guest_reboots_or_is_reset<H: Hosted>() {
    let mut guest = Guest::<H>::boot(&[]);
    assert_eq!(guest.reboots(Letter::Reset), RebootEnd::ByGuest);
    guest.sees(GREETING);
    for reboot in [Reboot::asked(&guest.machine.mark()), Reboot::by_button()] {
        guest.hangs();
        assert_eq!(guest.machine.run(reboot.reset_after(SHORT), LONG), Ok(RebootEnd::Forced));
        guest.sees(GREETING);
    }
    let pressed = guest.machine.wait_any(&Mark::default(), &[Wait::event("POWERDOWN")], Duration::ZERO.into());
    pressed.expect("the power button was pressed");
}

fn a_reboot_ends_a_qemu_that_does_not_reboot<H: Hosted>() {
    let RebootEnd::Ended(outcome) = Guest::<H>::boot(&["-no-reboot"]).reboots(Letter::Reset) else {
        panic!("QEMU runs on")
    };
    assert_eq!(outcome.cause, Cause::Reset);
    let mut guest = Guest::<H>::boot(&["-no-reboot"]);
    guest.hangs();
    let reboot = Reboot::asked(&guest.mark).reset_after(SHORT);
    let Ok(RebootEnd::Ended(outcome)) = guest.machine.run(reboot, LONG) else { panic!("QEMU runs on") };
    assert_eq!(outcome.cause.to_string(), "QEMU shut down (host-qmp-system-reset)");
}

fn a_guest_that_powers_off_is_rebooted<H: Hosted>() {
    let mut guest = Guest::<H>::boot(&["-no-shutdown"]);
    for _ in 0..2 {
        assert_eq!(guest.reboots(Letter::PowerOff), RebootEnd::AfterPowerOff);
        guest.sees(GREETING);
    }
    assert_eq!(guest.reboots(Letter::Reset), RebootEnd::ByGuest);
    let mut guest = Guest::<H>::boot(&["-no-shutdown", "-no-reboot"]);
    assert_eq!(guest.reboots(Letter::Reset), RebootEnd::Stopped);
}

/// The guest is paused by a command, held by the caller, or has powered off with `-no-shutdown`.
fn row_25_the_power_button_of_a_stopped_guest_costs_no_time<H: Hosted>() {
    let how = Shutdown::default().power_down(NEVER);
    let mut paused = Guest::<H>::boot(&[]).machine;
    paused.execute("stop", LONG).expect("the monitor answers");
    let held = Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"]);
    let held = H::launch(held).expect("QEMU starts");
    let mut off = Guest::<H>::boot(&["-no-shutdown"]);
    off.machine.console_write("tty", &char::from(Letter::PowerOff.byte()).to_string()).expect("there is a console");
    off.machine.wait_any(&off.mark, &[Wait::event("STOP")], LONG).expect("the guest powers off");
    for mut machine in [paused, held, off.machine] {
        let outcome = machine.shutdown(how).expect("the machine was launched");
        assert_eq!((&*outcome.rungs, &*outcome.skipped), (&[Rung::Quit][..], &[Rung::PowerDown][..]), "{outcome}");
        assert_eq!(outcome.cause, Cause::Asked(Rung::Quit));
    }
}

fn row_25_a_guest_that_was_continued_gets_the_power_button<H: Hosted>() {
    let mut guest = Guest::<H>::boot(&[]);
    for command in ["stop", "cont"] {
        guest.machine.execute(command, LONG).expect("the monitor answers");
    }
    guest.hangs();
    let outcome = guest.machine.shutdown(Shutdown::default().power_down(SHORT)).expect("the machine was launched");
    assert_eq!((&*outcome.rungs, &*outcome.skipped), (&[Rung::PowerDown, Rung::Quit][..], &[][..]), "{outcome}");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_guest_reboots_or_is_reset
            a_reboot_ends_a_qemu_that_does_not_reboot
            a_guest_that_powers_off_is_rebooted
            row_25_the_power_button_of_a_stopped_guest_costs_no_time
            row_25_a_guest_that_was_continued_gets_the_power_button
        }
    };
}

rows!(stories, strict);
