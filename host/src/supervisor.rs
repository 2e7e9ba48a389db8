//! Supervisor: the thread that starts processes, reaps those that were dropped or detached, and drives the machines
//! that no caller is driving.
//!
//! It starts with the first launch, and runs as long as the program. On Linux the kernel ends a process when the
//! *thread* that created it ends (`prctl(2)`, PR_SET_PDEATHSIG). Were a process created by the thread that launches its
//! machine, it would end with that thread; so the supervisor creates it. The supervisor performs no operation that may
//! block for long: the child executes its program by itself, and the supervisor does not wait for that. The longest is
//! the end of a process that other code reaps (`pidfd_info`), one second at most.
//!
//! Work that may block has supervisors of its own, with other threads: [`log_bound`](crate::log_bound) has one.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::home::Local;
use crate::lock::lock;
use crate::panic::caught;
use crate::sys::{Interest, Poll, Poller, Source};

/// How long the supervisor leaves a machine to its callers after it found one active. While calls follow each other,
/// they do not pay for passing the machine back and forth. After the last call, no byte stays unread for longer than
/// this.
const LEASE: Duration = Duration::from_millis(10);

/// A machine, or a process without an owner, that the supervisor drives while no caller does.
pub trait Supervised: Send + Sync {
    /// Returns the source that is ready when there is work to do.
    fn source(&self) -> Source<'_>;

    /// Does the work that is due, and returns when to call it next. If it blocks, so does everything else that the same
    /// supervisor drives. If it panics, it is called again after a lease.
    fn turn(&self, wake: Wake) -> Next;
}

/// Why the supervisor calls [`Supervised::turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "each implementation of `Supervised` handles each")]
pub enum Wake {
    /// The source is ready, or the deadline has passed.
    Ready,
    /// The lease has ended.
    Lease,
}

/// When the supervisor calls [`Supervised::turn`] next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the supervisor handles each")]
pub enum Next {
    /// When the source is ready, and at this time at the latest. `None` means without a deadline.
    Watch(Option<Instant>),
    /// After a lease of 10 milliseconds.
    Lease,
    /// When a caller has [armed](Supervisor::arm) it again.
    Unwatch,
    /// Never: the supervisor drops it.
    Drop,
}

/// Handle of the supervisor's thread.
#[derive(Debug)]
pub struct Supervisor {
    poller: Poller,
    inbox: Mutex<Vec<Job>>,
    next_token: AtomicU64,
    thread: OnceLock<ThreadId>,
}

enum Job {
    Run(Box<dyn FnOnce() + Send>),
    Supervise(u64, Arc<dyn Supervised>),
    Look(u64),
    Lease(u64),
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Run(_) => "Run",
            Self::Supervise(..) => "Supervise",
            Self::Look(..) => "Look",
            Self::Lease(..) => "Lease",
        })
    }
}

impl Supervisor {
    /// Returns the supervisor of this process, and starts it at the first call.
    ///
    /// # Errors
    ///
    /// When the thread or its descriptors cannot be created.
    pub fn get() -> io::Result<Arc<Self>> {
        // After a fork of this program, the child has only the thread that forked (`fork(2)`), and so needs a supervisor
        // of its own.
        static SUPERVISOR: LazyLock<Local<Option<Arc<Supervisor>>>> = LazyLock::new(|| Local::new(None, || None));
        let mut known = SUPERVISOR.lock();
        if let Some(supervisor) = known.as_ref() {
            return Ok(Arc::clone(supervisor));
        }
        let supervisor = Self::start("qemu-supervisor")?;
        *known = Some(Arc::clone(&supervisor));
        Ok(supervisor)
    }

    /// Starts another supervisor, whose thread has this name. It runs as long as the program.
    pub(crate) fn start(name: &str) -> io::Result<Arc<Self>> {
        let supervisor = Arc::new(Self {
            poller: Poller::new()?,
            inbox: Mutex::new(Vec::with_capacity(4)),
            next_token: AtomicU64::new(0),
            thread: OnceLock::new(),
        });
        let thread = Thread {
            supervisor: Arc::clone(&supervisor),
            supervised: BTreeMap::new(),
            next: None,
            jobs: Vec::with_capacity(4),
        };
        std::thread::Builder::new().name(name.into()).spawn(move || thread.run())?;
        Ok(supervisor)
    }

    /// Runs a closure on the supervisor's thread, and returns its result. Do not call it under a lock that a turn of a
    /// supervised item takes: that deadlocks.
    ///
    /// # Errors
    ///
    /// When the closure panicked.
    pub fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        if self.thread.get() == Some(&std::thread::current().id()) {
            return Ok(act());
        }
        let (result, received) = channel();
        // The caller waits for the result, so sending it cannot fail.
        self.run_later(move || drop(result.send(act())));
        received.recv().map_err(io::Error::other)
    }

    /// Runs a closure on the supervisor's thread, without waiting for it.
    pub(crate) fn run_later(&self, act: impl FnOnce() + Send + 'static) {
        self.post(Job::Run(Box::new(act)));
    }

    /// Adds an item to supervise, and returns its token. The supervisor does not call it before it is
    /// [armed](Self::arm).
    ///
    /// # Errors
    ///
    /// When its source cannot be watched.
    pub fn supervise(&self, supervised: Arc<dyn Supervised>) -> io::Result<u64> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        self.poller.add(supervised.source(), token, Interest::None)?;
        self.post(Job::Supervise(token, supervised));
        Ok(token)
    }

    /// Watches the source of an item once more: the supervisor calls the item as soon as the source is ready.
    pub fn arm(&self, token: u64, source: Source<'_>) {
        self.poller.modify(source, token, Interest::ReadOnce);
    }

    /// Leaves an item to its callers, and calls it when the lease of 10 milliseconds has ended.
    pub fn lease(&self, token: u64, source: Source<'_>) {
        self.poller.modify(source, token, Interest::None);
        self.post(Job::Lease(token));
    }

    /// Calls an item soon, without waiting for its source: its deadline has changed, or it can be dropped.
    pub fn look(&self, token: u64) {
        self.post(Job::Look(token));
    }

    fn post(&self, job: Job) {
        lock(&self.inbox).push(job);
        self.poller.wake();
    }
}

/// The supervisor's thread.
struct Thread {
    supervisor: Arc<Supervisor>,
    supervised: BTreeMap<u64, SupervisedEntry>,
    /// When the next item is to be called, or earlier: an item may have been called since, or be gone. `None` means that
    /// none has a time. All items are searched only when it has passed, since a thousand machines wake this thread
    /// thousands of times a second.
    next: Option<Instant>,
    /// Empty, with the room of earlier jobs.
    jobs: Vec<Job>,
}

struct SupervisedEntry {
    supervised: Arc<dyn Supervised>,
    /// When to call it, and why. `None` means only when its source is ready.
    at: Option<(Instant, Wake)>,
}

impl Thread {
    fn run(mut self) {
        // It is set once.
        let _ = self.supervisor.thread.set(std::thread::current().id());
        loop {
            let ready = self.supervisor.poller.wait(self.timeout());
            if ready.woken() {
                self.read_inbox();
            }
            for token in ready.tokens() {
                self.turn(*token, Wake::Ready);
            }
            self.turn_those_due();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.next?.saturating_duration_since(Instant::now()))
    }

    /// Sets when to call an item, and why.
    fn schedule(&mut self, token: u64, at: Option<(Instant, Wake)>) {
        let Some(entry) = self.supervised.get_mut(&token) else { return };
        entry.at = at;
        let times = [self.next, at.map(|(at, _)| at)];
        self.next = times.into_iter().flatten().min();
    }

    fn read_inbox(&mut self) {
        // The two vectors are swapped, so that both keep their room: a caller that posts a job then allocates nothing.
        let mut jobs = std::mem::take(&mut self.jobs);
        std::mem::swap(&mut *lock(&self.supervisor.inbox), &mut jobs);
        for job in jobs.drain(..) {
            match job {
                // A closure that panics sends no result, and its caller gets an error.
                Job::Run(act) => drop(caught(act)),
                Job::Supervise(token, supervised) => {
                    self.supervised.insert(token, SupervisedEntry { supervised, at: None });
                }
                Job::Look(token) => self.turn(token, Wake::Ready),
                Job::Lease(token) => self.schedule(token, Some((Instant::now() + LEASE, Wake::Lease))),
            }
        }
        self.jobs = jobs;
    }

    fn turn_those_due(&mut self) {
        let now = Instant::now();
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let due: Vec<(u64, Wake)> = self
            .supervised
            .iter()
            .filter_map(|(token, entry)| entry.at.filter(|(at, _)| *at <= now).map(|(_, wake)| (*token, wake)))
            .collect();
        // Those that are due get another time below, if they need one.
        let later = self.supervised.values().filter_map(|entry| entry.at).map(|(at, _)| at).filter(|at| *at > now);
        self.next = later.min();
        due.into_iter().for_each(|(token, wake)| self.turn(token, wake));
    }

    fn turn(&mut self, token: u64, wake: Wake) {
        let Some(entry) = self.supervised.get_mut(&token) else { return };
        // A panic in one machine must not end the thread: the kernel would end all processes that it forked. The machine
        // has another turn later; without one, a machine that no caller uses would have no driver.
        let next = caught(|| entry.supervised.turn(wake)).unwrap_or(Next::Lease);
        let at = match next {
            Next::Watch(deadline) => {
                self.supervisor.arm(token, entry.supervised.source());
                deadline.map(|at| (at, Wake::Ready))
            }
            Next::Lease => Some((Instant::now() + LEASE, Wake::Lease)),
            Next::Unwatch => None,
            Next::Drop => {
                self.supervisor.poller.remove(entry.supervised.source());
                let dropped = self.supervised.remove(&token);
                return drop(caught(|| drop(dropped)));
            }
        };
        self.schedule(token, at);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    /// An item whose first turn panics. The second one ends it, and its end panics as well.
    struct Panics {
        poller: Poller,
        turns: AtomicU64,
        turned: Mutex<Sender<u64>>,
    }

    impl Supervised for Panics {
        fn source(&self) -> Source<'_> {
            Source::Poller(&self.poller)
        }

        fn turn(&self, _: Wake) -> Next {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            lock(&self.turned).send(turn).unwrap();
            assert!(turn > 0, "the first turn");
            Next::Drop
        }
    }

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("dropped by the supervisor");
        }
    }

    #[test]
    fn an_item_that_panics_has_another_turn_and_does_not_end_the_thread() {
        let supervisor = Supervisor::start("panics").unwrap();
        let (turned, turns) = channel();
        let (poller, turned) = (Poller::new().unwrap(), Mutex::new(turned));
        let item = Panics { poller, turns: AtomicU64::new(0), turned };
        let token = supervisor.supervise(Arc::new(item)).unwrap();
        supervisor.look(token);
        let long = Duration::from_secs(60);
        assert_eq!(turns.recv_timeout(long), Ok(0));
        assert_eq!(turns.recv_timeout(long), Ok(1));
        assert!(turns.recv_timeout(long).is_err(), "dropped");
        assert_eq!(supervisor.run(|| 7).unwrap(), 7);
    }
}
