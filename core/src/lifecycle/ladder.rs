//! Shutdown ladder: the ways to end a machine that are tried, and for how long each.

use core::time::Duration;

use super::{Link, Rung, Why};
use crate::time::Moment;

/// How to end a machine: `quit`, then SIGTERM, then SIGKILL, each when the one before did not work in its time. The
/// power button comes before them where it is asked for.
///
/// The default gives the whole of it 30 seconds, as QEMU's Python class does; but there the time bounds only the wait
/// for the process, and here it covers the answer to `quit` as well. A budget of zero leaves its rung out, so
/// `Shutdown::within(Duration::ZERO)` is SIGKILL at once.
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
/// // A minute for the guest, which hears nothing before it is up; then QEMU may take long to write its images.
/// let patient = Shutdown::default().power_down(secs(60)).power_down_again(secs(10)).quit(secs(120));
/// assert_eq!(patient.total(), secs(60 + 120 + 10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    pub(crate) power_down: Duration,
    /// Zero: it is pressed once.
    pub(crate) power_down_again: Duration,
    pub(crate) quit: Duration,
    pub(crate) terminate: Duration,
}

impl Shutdown {
    /// The ladder inside a total time: two thirds of it for `quit`, which may have to finish what QEMU is writing,
    /// and one third for SIGTERM.
    #[must_use]
    pub fn within(total: Duration) -> Self {
        let (terminate, none) = (total / 3, Duration::ZERO);
        Self { power_down: none, power_down_again: none, quit: total.saturating_sub(terminate), terminate }
    }

    /// First presses the power button, and gives the guest so long to power off. Zero: it is not pressed.
    #[must_use]
    pub const fn power_down(mut self, patience: Duration) -> Self {
        self.power_down = patience;
        self
    }

    /// Presses the power button again at this interval, while its patience lasts: a guest that is not up yet does not
    /// hear the first time. A press that QEMU has not answered yet is not repeated. Zero: it is pressed once.
    #[must_use]
    pub const fn power_down_again(mut self, every: Duration) -> Self {
        self.power_down_again = every;
        self
    }

    /// How long `quit` may take, until QEMU has ended. Zero: it is not sent.
    #[must_use]
    pub const fn quit(mut self, budget: Duration) -> Self {
        self.quit = budget;
        self
    }

    /// How long SIGTERM may take, until QEMU has ended. Zero: it is not sent.
    #[must_use]
    pub const fn terminate(mut self, budget: Duration) -> Self {
        self.terminate = budget;
        self
    }

    /// The time after which SIGKILL is sent: the budgets together. It comes earlier where a rung is refused, or makes no
    /// sense: without a monitor there is only SIGTERM.
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

/// A shutdown in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    policy: Shutdown,
    /// The rung that is being tried; none before the first.
    rung: Option<Rung>,
    /// When the next one is due.
    until: Moment,
    /// When the power button is to be pressed again, if that is before the next rung.
    again: Option<Moment>,
}

impl Ladder {
    pub(super) fn new(policy: Shutdown, now: Moment) -> Self {
        Self { policy, rung: None, until: now, again: None }
    }

    /// The next deadline of the shutdown: the next rung, or the next press of the power button.
    #[must_use]
    pub fn deadline(self) -> Option<(Moment, Why)> {
        let next = self.rung.map(|rung| (self.until, Why::Rung(rung)));
        self.again.map(|again| (again, Why::PressAgain)).or(next)
    }

    /// Whether the next rung is to be climbed.
    pub(super) fn is_due(self, now: Moment) -> bool {
        self.rung.is_none() || self.until <= now
    }

    /// The next rung that makes sense, if it is not the last, and whether there is anything to do on it: behind a
    /// `quit` that was accepted already, waiting is all.
    pub(super) fn climb(self, now: Moment, link: Link, quit_issued: bool, ours: bool) -> Option<(Self, bool)> {
        let ready = link == Link::Ready;
        let rungs = [
            (Rung::PowerDown, self.policy.power_down, ready && !quit_issued, true),
            (Rung::Quit, self.policy.quit, ready || quit_issued, !quit_issued),
            (Rung::Terminate, self.policy.terminate, ours, true),
        ];
        let mut above = rungs.into_iter().filter(|(rung, ..)| Some(*rung) > self.rung);
        let (rung, budget, _, act) = above.find(|(_, budget, is_sensible, _)| *is_sensible && !budget.is_zero())?;
        let next = Self { rung: Some(rung), until: now.after(budget), again: None, ..self };
        Some((if rung == Rung::PowerDown { next.rest(now) } else { next }, act))
    }

    /// Whether the power button is to be pressed again. It never is when the next rung is due.
    pub(super) fn is_press_due(self, now: Moment) -> bool {
        self.again.is_some_and(|again| again <= now)
    }

    /// The button was pressed, and is left alone for a while.
    pub(super) fn rest(self, now: Moment) -> Self {
        let every = Some(self.policy.power_down_again).filter(|every| !every.is_zero());
        Self { again: every.map(|every| now.after(every)).filter(|again| *again < self.until), ..self }
    }

    /// Nobody can hear the button any more, or need hear it.
    pub(super) fn stop_pressing(self) -> Self {
        Self { again: None, ..self }
    }

    /// The present rung was refused: the next one is due at once.
    pub(super) fn refused(self, now: Moment) -> Self {
        Self { until: now, ..self }
    }

    pub(super) fn rung(self) -> Option<Rung> {
        self.rung
    }
}
