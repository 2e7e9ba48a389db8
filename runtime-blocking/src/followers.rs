//! Followers: the callers that wait for the leader, each with a condition of its own.
//!
//! A notice makes only those callers due that it concerns, and these are woken after the lock is released. With one
//! condition for all, each reply would wake every caller, and a command on 16 threads would cost 16 wake-ups. A caller that
//! another one wakes under the lock sleeps twice: it finds the lock taken.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar};

use qemu_machine_core::{Batch, CommandId, Notice, WaitId};

/// The notice that a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    Notice(Notice),
    /// Every notice: the caller waits for the end of a launch.
    Any,
}

impl Concern {
    pub(crate) fn is(self, notice: Notice) -> bool {
        self == Self::Any || self == Self::Notice(notice)
    }
}

impl From<&CommandId> for Concern {
    fn from(id: &CommandId) -> Self {
        Self::Notice(Notice::Answered(*id))
    }
}

impl<C> From<&Batch<C>> for Concern {
    fn from(batch: &Batch<C>) -> Self {
        batch.awaits().map_or(Self::Any, Self::Notice)
    }
}

impl From<&WaitId> for Concern {
    fn from(id: &WaitId) -> Self {
        Self::Notice(Notice::Waited(*id))
    }
}

impl From<&()> for Concern {
    fn from((): &()) -> Self {
        Self::Any
    }
}

/// The followers. A place is used again, so that a caller that follows costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    places: Vec<Follower>,
    /// The callers to wake once the lock is released, in the order of their notices.
    pub(crate) due: VecDeque<Arc<Condvar>>,
}

#[derive(Debug)]
struct Follower {
    /// Notified when the caller is to look at the machine, or to lead.
    notified: Arc<Condvar>,
    state: Following,
}

/// State of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Following {
    /// No caller is there.
    Free,
    /// The caller waits for this condition.
    Waiting(Concern),
    /// The caller is due: it looks at the machine next, and leads unless another caller does.
    Due,
}

/// Callers that are woken before the lock is taken again for the next ones.
pub(crate) const AT_ONCE: usize = 8;

impl Followers {
    /// Adds the caller, and returns its place and condition.
    pub(crate) fn add(&mut self, concern: Concern) -> (usize, Arc<Condvar>) {
        let free = self.places.iter().position(|place| place.state == Following::Free).unwrap_or_else(|| {
            self.places.push(Follower { notified: Arc::default(), state: Following::Free });
            self.places.len() - 1
        });
        let place = &mut self.places[free];
        place.state = Following::Waiting(concern);
        (free, Arc::clone(&place.notified))
    }

    /// Removes a caller, which was notified or woke up without a reason.
    pub(crate) fn remove(&mut self, place: usize) {
        self.places[place].state = Following::Free;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.iter().all(|place| place.state == Following::Free)
    }

    /// Makes the callers due that a notice concerns.
    pub(crate) fn notify(&mut self, notice: Notice) {
        self.notify_where(|concern| concern.is(notice));
    }

    /// Makes one caller due, so that it leads, unless one is due already: that one leads, or makes the next one due when
    /// it leaves. Returns whether there is one.
    pub(crate) fn notify_one(&mut self) -> bool {
        let has_due = self.places.iter().any(|place| place.state == Following::Due);
        let mut is_wanted = !has_due;
        self.notify_where(|_| std::mem::take(&mut is_wanted));
        !is_wanted
    }

    /// Makes all callers due.
    pub(crate) fn notify_all(&mut self) {
        self.notify_where(|_| true);
    }

    fn notify_where(&mut self, mut which: impl FnMut(Concern) -> bool) {
        for place in &mut self.places {
            if matches!(place.state, Following::Waiting(concern) if which(concern)) {
                place.state = Following::Due;
                self.due.push_back(Arc::clone(&place.notified));
            }
        }
    }

    /// Wakes the callers that are due at once.
    pub(crate) fn wake_due(&mut self) {
        self.due.drain(..).for_each(|notified| notified.notify_one());
    }

    /// Takes the conditions of the first callers that are due, to wake them without the lock.
    pub(crate) fn take_due(&mut self) -> [Option<Arc<Condvar>>; AT_ONCE] {
        std::array::from_fn(|_| self.due.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_callers_that_are_due_are_taken_at_once() {
        for (callers, counts) in [(8, [8, 0, 0]), (9, [8, 1, 0]), (17, [8, 8, 1])] {
            let mut followers = Followers::default();
            (0..callers).for_each(|_| drop(followers.add(Concern::Any)));
            followers.notify_all();
            for count in counts {
                let left = followers.due.len() - count;
                assert_eq!(followers.take_due().iter().flatten().count(), count, "{callers}");
                assert_eq!(followers.due.len(), left, "{callers}");
            }
        }
    }

    /// A caller that is due leads, unless it is cancelled: then it makes the next one due when it leaves.
    #[test]
    fn a_due_caller_that_leaves_makes_the_next_one_due() {
        let mut followers = Followers::default();
        let (cancelled, _) = followers.add(Concern::Any);
        let (next, notified) = followers.add(Concern::Any);
        assert!(followers.notify_one());
        assert_eq!(followers.take_due().iter().flatten().count(), 1);
        // Another caller leaves before the first is awake.
        assert!(followers.notify_one());
        assert_eq!(followers.take_due().iter().flatten().count(), 0);
        followers.remove(cancelled);
        assert!(followers.notify_one());
        let due = followers.take_due();
        assert!(due.iter().flatten().all(|due| Arc::ptr_eq(due, &notified)));
        assert_eq!(due.iter().flatten().count(), 1);
        followers.remove(next);
        assert!(!followers.notify_one(), "no caller is left to lead");
    }

    /// A condition variable may wake its caller without a notification (`pthread_cond_wait(3)`).
    #[test]
    fn a_caller_that_left_before_it_was_woken_does_not_count() {
        let mut followers = Followers::default();
        let (early, _) = followers.add(Concern::Any);
        followers.notify_all();
        followers.remove(early);
        assert_eq!((followers.notify_one(), followers.due.len()), (false, 1));
    }
}
