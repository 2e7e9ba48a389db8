//! Followers: the callers that wait for the leader, each with a condition of its own.
//!
//! A notice wakes only the callers that it concerns. With one condition for all, each reply would wake every caller, and a
//! command on 16 threads would cost 16 wake-ups.

use std::sync::{Arc, Condvar};

use qemu_machine_core::{CommandId, Notice, WaitId};

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

impl From<CommandId> for Concern {
    fn from(id: CommandId) -> Self {
        Self::Notice(Notice::Answered(id))
    }
}

impl From<WaitId> for Concern {
    fn from(id: WaitId) -> Self {
        Self::Notice(Notice::Waited(id))
    }
}

impl From<()> for Concern {
    fn from((): ()) -> Self {
        Self::Any
    }
}

/// The followers. A place is used again, so that a caller that follows costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Followers(Vec<Follower>);

#[derive(Debug)]
struct Follower {
    /// Notified when the caller is to look at the machine, or to lead.
    notified: Arc<Condvar>,
    /// Condition that the caller waits for. `None` means that the place is free.
    concern: Option<Concern>,
}

impl Followers {
    /// Adds the caller, and returns its place and condition.
    pub(crate) fn add(&mut self, concern: Concern) -> (usize, Arc<Condvar>) {
        let free = self.0.iter().position(|place| place.concern.is_none()).unwrap_or_else(|| {
            self.0.push(Follower { notified: Arc::default(), concern: None });
            self.0.len() - 1
        });
        let place = &mut self.0[free];
        place.concern = Some(concern);
        (free, Arc::clone(&place.notified))
    }

    /// Removes a caller, which was notified or woke up without a reason.
    pub(crate) fn remove(&mut self, place: usize) {
        self.0[place].concern = None;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|place| place.concern.is_none())
    }

    /// Wakes the callers that a notice concerns.
    pub(crate) fn notify(&self, notice: Notice) {
        let concerned = self.0.iter().filter(|place| place.concern.is_some_and(|concern| concern.is(notice)));
        concerned.for_each(|place| place.notified.notify_one());
    }

    /// Wakes one caller, so that it leads. Returns whether there is one.
    pub(crate) fn notify_one(&self) -> bool {
        let follower = self.0.iter().find(|place| place.concern.is_some());
        follower.inspect(|place| place.notified.notify_one()).is_some()
    }

    /// Wakes all callers.
    pub(crate) fn notify_all(&self) {
        self.0.iter().for_each(|place| place.notified.notify_one());
    }
}
