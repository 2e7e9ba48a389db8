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
    /// The tasks that wait for a launch or for the end of one.
    launches: Vec<(Notice, Waker)>,
}

/// The wakers of futures with an id each, in the order of the ids. Replies arrive in the order of their commands, so a
/// waker is mostly added at the back and taken from the front.
#[derive(Debug)]
struct ById<K>(VecDeque<(K, Waker)>);

impl Waiters {
    /// Adds the task that waits for a notice. Returns the waker that this replaces, to be dropped and not called.
    ///
    /// Only one future waits for a command or a wait, so a former waker of it is of no use. It may well be of the same
    /// task: `Waker::will_wake` compares vtables, and those of one type differ between the crates that are compiled
    /// with it (std, `Waker::will_wake`). To call it would poll the task again at once, and so for ever.
    ///
    /// Several tasks may wait for a launch, so each waker stays.
    pub(super) fn add(&mut self, notice: Notice, waker: &Waker) -> Option<Waker> {
        match notice {
            Notice::Answered(id) => self.commands.set(id, waker),
            Notice::Waited(id) => self.waits.set(id, waker),
            _ => {
                if !self.launches.iter().any(|(other, known)| *other == notice && known.will_wake(waker)) {
                    self.launches.push((notice, waker.clone()));
                }
                None
            }
        }
    }

    /// Moves the wakers of the tasks that wait for a notice.
    pub(super) fn take(&mut self, notice: Notice, awake: &mut Vec<Waker>) {
        match notice {
            Notice::Answered(id) => awake.extend(self.commands.take(id)),
            Notice::Waited(id) => awake.extend(self.waits.take(id)),
            _ => self.launches.retain(|(other, waker)| {
                let is_due = *other == notice;
                awake.extend(is_due.then(|| waker.clone()));
                !is_due
            }),
        }
    }

    /// Moves all wakers.
    pub(super) fn take_all(&mut self, awake: &mut Vec<Waker>) {
        awake.extend(self.commands.0.drain(..).map(|(_, waker)| waker));
        awake.extend(self.waits.0.drain(..).map(|(_, waker)| waker));
        awake.extend(self.launches.drain(..).map(|(_, waker)| waker));
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
