//! Deadlines in the order of time, each with the number of the thing that it is for.

use alloc::collections::VecDeque;

use crate::time::Moment;
use crate::work;

/// Deadlines, the earliest first. The number of a thing tells apart those that have the same deadline.
///
/// It is a sorted queue rather than a heap: a deadline is removed exactly, equal sets compare as equal, and nothing is
/// allocated in the steady state. Callers mostly use one time limit, so deadlines are added at the end and removed at
/// the front; elsewhere the closer end of the queue is moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines(VecDeque<(Moment, u64)>);

impl Deadlines {
    /// Returns an empty set with room for one deadline, since most callers have one command in flight.
    pub(crate) fn for_one() -> Self {
        Self(VecDeque::with_capacity(1))
    }

    #[inline]
    pub(crate) fn add(&mut self, at: Moment, number: u64) {
        if self.0.back().is_none_or(|last| *last < (at, number)) {
            return self.0.push_back((at, number));
        }
        let place = self.0.partition_point(|other| *other < (at, number));
        work::count(place.min(self.0.len() - place));
        self.0.insert(place, (at, number));
    }

    #[inline]
    pub(crate) fn remove(&mut self, at: Moment, number: u64) {
        if self.0.front() == Some(&(at, number)) {
            self.0.pop_front();
        } else if let Ok(place) = self.0.binary_search(&(at, number)) {
            work::count(place.min(self.0.len() - place));
            self.0.remove(place);
        }
    }

    /// Returns the earliest deadline.
    #[inline]
    pub(crate) fn first(&self) -> Option<Moment> {
        self.0.front().map(|(at, _)| *at)
    }

    /// Returns the earliest deadline after this time.
    pub(crate) fn after(&self, time: Moment) -> Option<Moment> {
        let place = self.0.partition_point(|(at, _)| *at <= time);
        self.0.get(place).map(|(at, _)| *at)
    }

    /// Removes a deadline that has passed, the earliest first, and returns its number.
    pub(crate) fn pop_passed(&mut self, now: Moment) -> Option<u64> {
        self.first().filter(|at| *at <= now)?;
        self.0.pop_front().map(|(_, number)| number)
    }
}
