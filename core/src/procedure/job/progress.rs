//! Progress of a job: what is done and left, the rate, and the time that is left, from `query-jobs` and its times.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use super::FollowJob;
use crate::commands::Job;
use crate::time::Moment;

/// Progress of a job, for a progress bar.
///
/// The numbers are those of `query-jobs`. Block jobs (`mirror`, `backup`, `commit`, `stream`) count bytes; other jobs
/// count steps of QEMU's choice, such as one for a whole snapshot (measured with QEMU 7.2.22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobProgress {
    /// Work done, in bytes for a block job. It does not exceed [`total`](Self::total).
    pub done: u64,
    /// The estimate of all that is to do, in the same unit. It may change in both directions while the job runs: a
    /// mirror gets more to do when the guest writes.
    pub total: u64,
    /// How much is done in a second, in the same unit: the mean of the last [`PROGRESS_WINDOW`] reports. `None` means
    /// that it is not known yet, before the second report.
    pub rate: Option<u64>,
    /// How long the rest takes at this rate. `None` means that the rate is not known, or zero.
    pub left: Option<Duration>,
    /// Whether the job is synchronized (`ready`): it has copied everything, and waits to be completed or cancelled.
    pub is_ready: bool,
}

/// The number of reports over which the [rate](JobProgress::rate) of a job is the mean: eight. With fewer, the rate of
/// a job jumps, since QEMU copies in pieces of up to a megabyte (QEMU, `block/mirror.c`, `MAX_IO_BYTES`); with more, a
/// change of the speed is seen too late.
pub const PROGRESS_WINDOW: usize = 8;

/// The last reports of a job, each with its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(VecDeque<(Moment, u64)>);

impl Meter {
    /// Returns the progress, given what `query-jobs` reported, and when. The reply cannot be older than the machine's
    /// receipt of it, so the delay of QEMU counts as time of the job.
    pub(super) fn measure(&mut self, now: Moment, job: &Job) -> JobProgress {
        let [current, total] =
            [job.current_progress, job.total_progress].map(|number| u64::try_from(number).unwrap_or(0));
        let done = current.min(total);
        if self.0.len() == PROGRESS_WINDOW {
            self.0.pop_front();
        }
        self.0.push_back((now, done));
        let rate = self.0.front().and_then(|(begin, before)| rate(done.saturating_sub(*before), now.since(*begin)));
        let left = rate.and_then(|rate| time_for(total - done, rate));
        JobProgress { done, total, rate, left, is_ready: job.status == "ready" }
    }
}

/// Returns how much is done in a second. `None` means that no time has passed.
fn rate(done: u64, time: Duration) -> Option<u64> {
    let each_second = u128::from(done).saturating_mul(1_000_000_000).checked_div(time.as_nanos())?;
    Some(u64::try_from(each_second).unwrap_or(u64::MAX))
}

/// Returns how long this takes, to the millisecond. `None` means that nothing is done at this rate.
fn time_for(rest: u64, rate: u64) -> Option<Duration> {
    let milliseconds = u128::from(rest).saturating_mul(1_000).checked_div(u128::from(rate))?;
    Some(Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX)))
}

/// How often a job is queried, and what receives the result.
pub(super) type Report = (Duration, Box<dyn FnMut(Moment, &Job) + Send>);

impl FollowJob {
    /// Calls `report` with the state of the job at this interval. QEMU sends no events about progress, so each report
    /// costs a `query-jobs`. By default there are no reports. See [`progress`](Self::progress) for the rate and the
    /// time that is left.
    pub fn report(self, every: Duration, mut report: impl FnMut(&Job) + Send + 'static) -> Self {
        Self { report: Some((every, Box::new(move |_, job| report(job)))), ..self }
    }

    /// Calls `report` with the progress of the job at this interval, as [`report`](Self::report) does with its state,
    /// which it replaces. The rate is computed from the times at which the machine received the replies.
    ///
    /// ```
    /// use core::time::Duration;
    /// use qemu_machine_core::procedure::FollowJob;
    ///
    /// let follow = FollowJob::named("copy").progress(Duration::from_millis(200), |progress| {
    ///     // bar.set_length(progress.total);
    ///     // bar.set_position(progress.done);
    ///     println!("{} of {} bytes, {:?} left", progress.done, progress.total, progress.left);
    /// });
    /// ```
    pub fn progress(self, every: Duration, mut report: impl FnMut(JobProgress) + Send + 'static) -> Self {
        let mut meter = Meter::default();
        Self { report: Some((every, Box::new(move |now, job| report(meter.measure(now, job))))), ..self }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use alloc::vec::Vec;

    use super::*;

    fn job(current: i64, total: i64) -> Job {
        let (id, kind, status) = ("j".to_string(), "mirror".to_string(), "running".to_string());
        Job { id, kind, status, current_progress: current, total_progress: total, error: None }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::new(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_rate_is_the_mean_of_the_last_reports() {
        let mut meter = Meter::default();
        let first = meter.measure(at(5_000), &job(100, 1_000));
        assert_eq!((first.done, first.total, first.rate, first.left), (100, 1_000, None, None));
        let second = meter.measure(at(5_500), &job(200, 1_000));
        assert_eq!((second.rate, second.left), (Some(200), Some(Duration::from_secs(4))));
        // The job stands still, until the window holds nothing else.
        let rates: Vec<_> =
            (1..=PROGRESS_WINDOW as u64).map(|n| meter.measure(at(5_500 + 500 * n), &job(200, 1_000)).rate).collect();
        assert_eq!((rates[0], rates[5], rates[7]), (Some(100), Some(28), Some(0)));
        assert_eq!(meter.measure(at(10_000), &job(200, 1_000)).left, None, "nothing is done");
    }

    #[test]
    fn numbers_that_make_no_sense_are_bounded() {
        let mut meter = Meter::default();
        let odd = meter.measure(at(1), &job(-1, -1));
        assert_eq!((odd.done, odd.total, odd.rate), (0, 0, None));
        let odd = meter.measure(at(1), &job(9, 3));
        assert_eq!((odd.done, odd.total, odd.rate), (3, 3, None), "no time has passed");
        let odd = meter.measure(at(2), &job(1, 3));
        assert_eq!((odd.done, odd.rate), (1, Some(1_000)));
        let mut meter = Meter::default();
        meter.measure(at(0), &job(0, i64::MAX));
        let odd = meter.measure(Moment::new(Duration::from_nanos(1)), &job(i64::MAX, i64::MAX));
        assert_eq!((odd.rate, odd.left), (Some(u64::MAX), Some(Duration::ZERO)));
    }
}
