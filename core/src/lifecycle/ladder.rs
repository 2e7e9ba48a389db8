//! Shutdown ladder: the steps that end a machine, and the time of each.

use core::time::Duration;

use super::{Link, Rung, Why};
use crate::time::Moment;

/// The policy of a shutdown: a ladder of up to four rungs. They are the power button (ACPI; only with
/// [`power_down`](Self::power_down)), `quit`, SIGTERM and SIGKILL. The next rung is climbed when QEMU has not ended
/// within the time of the one before.
///
/// By default the guest is not asked, so a guest that ignores the power button cannot delay the end: `quit` has 20
/// seconds, SIGTERM has 10, and SIGKILL follows. Usually this takes milliseconds. A budget of zero skips its rung:
/// `Shutdown::within(Duration::ZERO)` is SIGKILL at once.
///
/// What follows SIGKILL is bounded as well: 10 seconds for the end of the process, after which it is no longer waited
/// for ([`Cause::Unkillable`](crate::Cause::Unkillable)); 2 seconds for the rest of its output; 10 seconds to read the
/// log, and 10 to remove the files, which only a file system that does not answer needs. So the default takes 62
/// seconds at most, with a driver that does not block.
///
/// A machine that another program launched gets the commands of the policy, but no signals. When their time is over, it
/// is disconnected from, and runs on.
///
/// The time of `quit` includes its reply. (In QEMU's Python class it does not, so a QEMU that does not answer blocks it
/// for ever; QEMU, `python/qemu/machine/machine.py`, `_soft_shutdown`; measured with QEMU 7.2.22.)
///
/// ```
/// use core::time::Duration;
/// use qemu_machine_core::Shutdown;
///
/// const fn secs(seconds: u64) -> Duration {
///     Duration::from_secs(seconds)
/// }
///
/// let quick = Shutdown::within(secs(3));
/// assert_eq!(quick.total(), secs(3));
/// // A minute for the guest, which ignores the button until it is up; then QEMU may take long to write its images.
/// let patient = Shutdown::default().power_down(secs(60)).power_down_again(secs(10)).quit(secs(120));
/// assert_eq!(patient.total(), secs(60 + 120 + 10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    pub(crate) power_down: Duration,
    /// Zero means that the button is pressed once.
    pub(crate) power_down_again: Duration,
    pub(crate) quit: Duration,
    pub(crate) terminate: Duration,
}

impl Shutdown {
    /// Returns a policy that sends SIGKILL after this time: two thirds for `quit`, which lets QEMU finish its writes
    /// and jobs, and one third for SIGTERM. The power button is not pressed.
    #[must_use]
    pub fn within(total: Duration) -> Self {
        let (terminate, none) = (total / 3, Duration::ZERO);
        Self { power_down: none, power_down_again: none, quit: total.saturating_sub(terminate), terminate }
    }

    /// Returns a policy that sends `quit`, gives QEMU this long to end, and then sends SIGKILL. SIGTERM is left out, and
    /// the power button is not pressed unless [`power_down`](Self::power_down) follows.
    ///
    /// ```
    /// use core::time::Duration;
    /// use qemu_machine_core::Shutdown;
    ///
    /// let policy = Shutdown::quit_then_kill(Duration::from_secs(5));
    /// assert_eq!(policy.total(), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn quit_then_kill(patience: Duration) -> Self {
        let none = Duration::ZERO;
        Self { power_down: none, power_down_again: none, quit: patience, terminate: none }
    }

    /// Presses the power button first, and gives the guest this long to power off. The guest may ignore the button
    /// (QEMU, `qapi/machine.json`, `system_powerdown`). Zero, the default, means that it is not pressed.
    ///
    /// A guest that is stopped cannot react. If QEMU has reported `STOP` and no `RESUME` since, or if the caller's
    /// arguments hold the guest (`-S`) and it was not continued, the button is not pressed, `quit` follows at once, and
    /// [`Outcome::skipped`](crate::Outcome::skipped) names the rung. If the guest stops after the button was pressed, `quit`
    /// follows at once as well: so it ends soon with `-no-shutdown`, with which QEMU stops the guest when it has powered
    /// off (QEMU, `system/runstate.c`, `main_loop_should_exit`). The guest is not continued, since it may have been stopped
    /// for a reason, such as a full disk: to give it the chance to power off, send `cont` before the shutdown. Of a
    /// machine that was attached to, only changes since then are known.
    #[must_use]
    pub const fn power_down(mut self, patience: Duration) -> Self {
        self.power_down = patience;
        self
    }

    /// Presses the power button again at this interval until the time of [`power_down`](Self::power_down) is over,
    /// since a guest that is still booting ignores it. While QEMU has not answered a press, no further one is sent.
    /// Zero, the default, means that the button is pressed once.
    #[must_use]
    pub const fn power_down_again(mut self, every: Duration) -> Self {
        self.power_down_again = every;
        self
    }

    /// Sets how long `quit` may take until QEMU has ended. QEMU may exit without sending its reply (QEMU,
    /// `qapi/control.json`, `quit`), so the rung waits for the end of the process. Zero means that it is not sent; the
    /// default is 20 seconds.
    #[must_use]
    pub const fn quit(mut self, budget: Duration) -> Self {
        self.quit = budget;
        self
    }

    /// Sets how long SIGTERM may take until QEMU has ended. QEMU exits as after `quit`, with the reason `host-signal`
    /// (QEMU, `qapi/run-state.json`, `ShutdownCause`). Zero means that it is not sent; the default is 10 seconds.
    #[must_use]
    pub const fn terminate(mut self, budget: Duration) -> Self {
        self.terminate = budget;
        self
    }

    /// Returns the time after which SIGKILL is sent: the sum of the budgets. SIGKILL comes earlier where QEMU refuses a
    /// rung, or where a rung does not apply: without a monitor there is only SIGTERM.
    #[must_use]
    pub const fn total(&self) -> Duration {
        self.power_down.saturating_add(self.quit).saturating_add(self.terminate)
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::within(Duration::from_secs(30))
    }
}

/// Conditions that decide which rungs can have an effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facing {
    pub(super) link: Link,
    /// QEMU accepted a `quit`.
    pub(super) quit_issued: bool,
    /// The process is a child of ours, which can be signalled.
    pub(super) is_ours: bool,
    pub(super) is_guest_stopped: bool,
}

/// A shutdown in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    policy: Shutdown,
    /// The current rung. `None` means that the first was not climbed yet.
    rung: Option<Rung>,
    /// When the next rung is due.
    until: Moment,
    /// When the power button is pressed again. `None` means that the next rung comes first.
    again: Option<Moment>,
}

impl Ladder {
    pub(super) fn new(policy: Shutdown, now: Moment) -> Self {
        Self { policy, rung: None, until: now, again: None }
    }

    /// Returns the next deadline of the shutdown: the next rung, or the next press of the power button. `None` means
    /// that the first rung was not climbed yet.
    #[must_use]
    pub fn deadline(self) -> Option<(Moment, Why)> {
        let next = self.rung.map(|rung| (self.until, Why::Rung(rung)));
        self.again.map(|again| (again, Why::PressAgain)).or(next)
    }

    /// Returns whether the next rung is due.
    pub(super) fn is_due(self, now: Moment) -> bool {
        self.rung.is_none() || self.until <= now
    }

    /// Climbs to the next rung that applies, and returns whether it sends anything: after an accepted `quit` the ladder
    /// only waits, since QEMU answers no command behind it (measured with QEMU 7.2.22). `None` means that only SIGKILL
    /// is left.
    pub(super) fn climb(self, now: Moment, facing: Facing) -> Option<(Self, bool)> {
        let Facing { link, quit_issued, is_ours, is_guest_stopped } = facing;
        let ready = link == Link::Ready;
        let rungs = [
            (Rung::PowerDown, self.policy.power_down, ready && !quit_issued && !is_guest_stopped, true),
            (Rung::Quit, self.policy.quit, ready || quit_issued, !quit_issued),
            (Rung::Terminate, self.policy.terminate, is_ours, true),
        ];
        let mut above = rungs.into_iter().filter(|(rung, ..)| Some(*rung) > self.rung);
        let (rung, budget, _, act) = above.find(|(_, budget, is_sensible, _)| *is_sensible && !budget.is_zero())?;
        let next = Self { rung: Some(rung), until: now.after(budget), again: None, ..self };
        Some((if rung == Rung::PowerDown { next.rest(now) } else { next }, act))
    }

    /// Returns whether the next step of the ladder would be the power button, if the guest ran.
    pub(super) fn skips_button(self, now: Moment, facing: Facing) -> bool {
        let running = Facing { is_guest_stopped: false, ..facing };
        let rung = |facing| self.climb(now, facing).and_then(|(ladder, _)| ladder.rung);
        facing.is_guest_stopped && rung(running) == Some(Rung::PowerDown)
    }

    /// Returns whether the power button is due again. It never is together with the next rung.
    pub(super) fn is_press_due(self, now: Moment) -> bool {
        self.again.is_some_and(|again| again <= now)
    }

    /// Plans the next press of the power button, which was just pressed.
    pub(super) fn rest(self, now: Moment) -> Self {
        let every = Some(self.policy.power_down_again).filter(|every| !every.is_zero());
        Self { again: every.map(|every| now.after(every)).filter(|again| *again < self.until), ..self }
    }

    /// Plans no further press: the monitor is not ready, or QEMU accepted a `quit`.
    pub(super) fn stop_pressing(self) -> Self {
        Self { again: None, ..self }
    }

    /// Makes the next rung due at once, since the current one was refused.
    pub(super) fn refused(self, now: Moment) -> Self {
        Self { until: now, ..self }
    }

    pub(super) fn rung(self) -> Option<Rung> {
        self.rung
    }
}
