//! Decides who starts processes and who drives the machines that nobody is inside of: one thread, the supervisor.
//!
//! It begins with the first launch and lives as long as we do. The kernel ends a process when the thread that forked
//! it ends, so the supervisor is the one that forks: then "no orphans" holds whichever thread launched a machine.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use crate::clock::timespec;

/// How long the supervisor leaves a machine to its callers after it found one inside. While calls come thick and fast,
/// they pay nothing for handing the machine back and forth; when they stop, nothing that the machine says lies
/// unread for longer than this.
const LEASE: Duration = Duration::from_millis(10);

/// Something that the supervisor turns when nobody else does.
pub trait Kept: Send + Sync {
    /// Readable when there is something to do.
    fn source(&self) -> BorrowedFd<'_>;

    /// Does what there is to do.
    fn turn(&self, wake: Wake) -> Next;
}

/// Why something is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the supervisor handles each")]
pub enum Wake {
    /// Its source is readable, or its deadline passed.
    Ready,
    /// Its lease is over.
    Lease,
}

/// What the supervisor does with something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the supervisor handles each")]
pub enum Next {
    /// Watch it, and turn it at this time at the latest.
    Watch(Option<Instant>),
    /// Look again when a lease is over.
    Lease,
    /// Leave it to its callers; the last one arms it.
    Leave,
    /// Drop it.
    Drop,
}

/// The supervisor, as others see it.
#[derive(Debug)]
pub struct Supervisor {
    epoll: OwnedFd,
    wake: OwnedFd,
    inbox: Mutex<Vec<Job>>,
    /// Whose thread it is: a program that forks itself has no supervisor in the child.
    process: u32,
    next_token: AtomicU64,
}

enum Job {
    Run(Box<dyn FnOnce() + Send>),
    Keep(u64, Arc<dyn Kept>),
    Look(u64),
    Lease(u64),
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Run(_) => "Run",
            Self::Keep(..) => "Keep",
            Self::Look(..) => "Look",
            Self::Lease(..) => "Lease",
        })
    }
}

/// The source of the inbox in the supervisor's epoll.
const INBOX: u64 = 0;

impl Supervisor {
    /// The one supervisor of this process.
    pub fn get() -> io::Result<Arc<Self>> {
        static THE_KEEPER: Mutex<Option<Arc<Supervisor>>> = Mutex::new(None);
        let mut the_supervisor = THE_KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(supervisor) = the_supervisor.as_ref().filter(|supervisor| supervisor.process == std::process::id())
        {
            return Ok(Arc::clone(supervisor));
        }
        let supervisor = Arc::new(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            inbox: Mutex::new(Vec::new()),
            process: std::process::id(),
            next_token: AtomicU64::new(INBOX + 1),
        });
        epoll::add(&supervisor.epoll, &supervisor.wake, epoll::EventData::new_u64(INBOX), epoll::EventFlags::IN)?;
        let thread = Thread { supervisor: Arc::clone(&supervisor), kept: BTreeMap::new() };
        std::thread::Builder::new().name("qemu-supervisor".into()).spawn(move || thread.run())?;
        *the_supervisor = Some(Arc::clone(&supervisor));
        Ok(supervisor)
    }

    /// Does something on the supervisor's thread, and waits for it. Not to be called on that thread, nor while holding what
    /// something that is kept and armed needs for its turn.
    pub fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (answer, answered) = channel();
        // Whoever asked waits for the answer, so there is somebody to take it.
        self.tell(Job::Run(Box::new(move || drop(answer.send(act())))));
        answered.recv().map_err(io::Error::other)
    }

    /// Takes something into keeping. It is not turned before it is armed.
    pub fn keep(&self, kept: Arc<dyn Kept>) -> io::Result<u64> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let quiet = epoll::EventFlags::ONESHOT;
        epoll::add(&self.epoll, kept.source(), epoll::EventData::new_u64(token), quiet)?;
        self.tell(Job::Keep(token, kept));
        Ok(token)
    }

    /// Has something turned as soon as its source is readable.
    pub fn arm(&self, token: u64, source: BorrowedFd<'_>) {
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        // It fails only for a source that was never added or is gone, and then there is nothing to watch.
        let _ = epoll::modify(&self.epoll, source, epoll::EventData::new_u64(token), once);
    }

    /// Leaves something to its callers for the length of a lease, and looks again then.
    pub fn lease(&self, token: u64, source: BorrowedFd<'_>) {
        // As in `arm`.
        let _ = epoll::modify(&self.epoll, source, epoll::EventData::new_u64(token), epoll::EventFlags::ONESHOT);
        self.tell(Job::Lease(token));
    }

    /// Has something turned now: its deadline has changed, or it can be dropped.
    pub fn look(&self, token: u64) {
        self.tell(Job::Look(token));
    }

    fn tell(&self, job: Job) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(job);
        // Only a counter that is full refuses, and then the supervisor is awake anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The supervisor from inside.
struct Thread {
    supervisor: Arc<Supervisor>,
    kept: BTreeMap<u64, Entry>,
}

struct Entry {
    kept: Arc<dyn Kept>,
    /// When to turn it, and as what.
    at: Option<(Instant, Wake)>,
}

impl Thread {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let timeout = self.timeout();
            // Interrupted by a signal: go round again.
            let _ = epoll::wait(&self.supervisor.epoll, spare_capacity(&mut events), timeout.as_ref());
            for event in &events {
                match event.data.u64() {
                    INBOX => self.read_inbox(),
                    token => self.turn(token, Wake::Ready),
                }
            }
            self.turn_what_is_due();
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let next = self.kept.values().filter_map(|entry| entry.at).map(|(at, _)| at).min()?;
        Some(timespec(next.saturating_duration_since(Instant::now())))
    }

    fn read_inbox(&mut self) {
        let _ = rustix::io::read(&self.supervisor.wake, &mut [0_u8; 8]);
        let jobs = std::mem::take(&mut *self.supervisor.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        for job in jobs {
            match job {
                // What panics answers nothing, and that is noticed by whoever asked.
                Job::Run(act) => drop(catch_unwind(AssertUnwindSafe(act))),
                Job::Keep(token, kept) => drop(self.kept.insert(token, Entry { kept, at: None })),
                Job::Look(token) => self.turn(token, Wake::Ready),
                Job::Lease(token) => {
                    if let Some(entry) = self.kept.get_mut(&token) {
                        entry.at = Some((Instant::now() + LEASE, Wake::Lease));
                    }
                }
            }
        }
    }

    fn turn_what_is_due(&mut self) {
        let now = Instant::now();
        let due: Vec<(u64, Wake)> = self
            .kept
            .iter()
            .filter_map(|(token, entry)| entry.at.filter(|(at, _)| *at <= now).map(|(_, wake)| (*token, wake)))
            .collect();
        due.into_iter().for_each(|(token, wake)| self.turn(token, wake));
    }

    fn turn(&mut self, token: u64, wake: Wake) {
        let Some(entry) = self.kept.get_mut(&token) else { return };
        // The supervisor outlives a panic in one machine: with its thread, all other processes would end.
        let next = catch_unwind(AssertUnwindSafe(|| entry.kept.turn(wake))).unwrap_or(Next::Drop);
        entry.at = match next {
            Next::Watch(deadline) => {
                self.supervisor.arm(token, entry.kept.source());
                deadline.map(|at| (at, Wake::Ready))
            }
            Next::Lease => Some((Instant::now() + LEASE, Wake::Lease)),
            Next::Leave => None,
            Next::Drop => {
                let _ = epoll::delete(&self.supervisor.epoll, entry.kept.source());
                self.kept.remove(&token);
                return;
            }
        };
    }
}
