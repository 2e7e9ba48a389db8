//! Wakers of the tasks that wait for a notice of a machine.

use std::collections::VecDeque;
use std::task::Waker;

use qemu_machine_core::{CommandId, Notice, WaitId};

/// The tasks that wait for a notice. Every waker that leaves is returned or moved to `awake`: a waker runs code that may
/// take the lock of the machine, when it is called and when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    commands: ById<CommandId>,
    waits: ById<WaitId>,
    /// The tasks that wait until a launch is complete or has failed.
    launches: Vec<Waker>,
    /// The notices of the commands and waits whose futures were woken and not polled since, in that order.
    woken: VecDeque<Notice>,
}

/// The wakers of futures with an id each, in the order of the ids. Replies arrive in the order of their commands, so a
/// waker is mostly added at the back and taken from the front.
#[derive(Debug)]
struct ById<K>(VecDeque<(K, Waker)>);

impl Waiters {
    /// Adds the task that waits for a notice, when it is polled. Returns the waker that this replaces, to
    /// be dropped and not called.
    ///
    /// Only one future waits for a command or a wait, so its former waker is of no use. That may be a waker of the same
    /// task: `Waker::will_wake` compares vtables, of which each crate has its own (std, `Waker::will_wake`). To call it
    /// would poll the task again at once, and so without end.
    ///
    /// Several tasks may wait for a launch, so each waker stays. Every other notice is waited for through a wait.
    pub(super) fn add(&mut self, notice: Notice, waker: &Waker) -> Option<Waker> {
        self.note_poll(notice);
        match notice {
            Notice::Answered(id) => self.commands.set(id, waker),
            Notice::Waited(id) => self.waits.set(id, waker),
            _ => {
                if !self.launches.iter().any(|known| known.will_wake(waker)) {
                    self.launches.push(waker.clone());
                }
                None
            }
        }
    }

    /// Moves the wakers of the tasks that wait for a notice. A launch is over with the first of its notices: a waker that
    /// stayed for the other would keep the memory of its task until the end of the run.
    pub(super) fn take(&mut self, notice: Notice, awake: &mut Vec<Waker>) {
        if let Notice::Ready | Notice::Ended = notice {
            awake.append(&mut self.launches);
        } else if let Some(waker) = self.take_one(notice) {
            awake.push(waker);
            self.woken.push_back(notice);
        }
    }

    /// Returns whether a future was woken and not polled since.
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Notes that a future which waits for a notice is polled.
    fn note_poll(&mut self, notice: Notice) {
        if let Some(index) = self.woken.iter().position(|woken| *woken == notice) {
            self.woken.remove(index);
        }
    }

    /// Removes a future that waits for a command or a wait no longer. Returns its waker, to be dropped and not called.
    pub(super) fn remove(&mut self, notice: Notice) -> Option<Waker> {
        self.note_poll(notice);
        self.take_one(notice)
    }

    /// Counts no future as woken any more: a new run begins.
    pub(super) fn clear_woken(&mut self) {
        self.woken.clear();
    }

    fn take_one(&mut self, notice: Notice) -> Option<Waker> {
        match notice {
            Notice::Answered(id) => self.commands.take(id),
            Notice::Waited(id) => self.waits.take(id),
            _ => None,
        }
    }

    /// Moves all wakers.
    pub(super) fn take_all(&mut self, awake: &mut Vec<Waker>) {
        awake.extend(self.commands.0.drain(..).map(|(_, waker)| waker));
        awake.extend(self.waits.0.drain(..).map(|(_, waker)| waker));
        awake.extend(std::mem::take(&mut self.launches));
    }
}

impl<K: Ord> ById<K> {
    fn set(&mut self, id: K, waker: &Waker) -> Option<Waker> {
        match self.find(&id) {
            Ok(index) => {
                let (_, known) = self.0.get_mut(index)?;
                (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
            }
            Err(index) => {
                self.0.insert(index, (id, waker.clone()));
                None
            }
        }
    }

    fn take(&mut self, id: K) -> Option<Waker> {
        let index = self.find(&id).ok()?;
        self.0.remove(index).map(|(_, waker)| waker)
    }

    fn find(&self, id: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(id))
    }
}

impl<K> Default for ById<K> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}
