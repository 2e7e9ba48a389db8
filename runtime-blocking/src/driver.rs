//! Decides who turns the crank of a machine: the caller that waits leads; when nobody waits, the supervisor does.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qemu_machine_core::{Config, HostFault, Input, Machine, Misuse, Moment, Service};

use crate::wires::{Poll, Ready, Wires};
use qemu_machine_host::{Clock, Host, Kept, Next, Supervisor, Wake, fault, try_lock};

/// A machine with its host side, shared by its callers and the supervisor.
#[derive(Debug)]
pub(crate) struct Driver {
    turn: Mutex<Turn>,
    /// Something happened, or the lead is free.
    changed: Condvar,
    poll: Arc<Poll>,
    supervisor: Arc<Supervisor>,
}

/// What whoever holds the lock may turn.
#[derive(Debug)]
struct Turn {
    machine: Machine,
    host: Host,
    wires: Wires,
    clock: Clock,
    token: u64,
    lead: Lead,
    /// How many callers wait for another to lead.
    followers: usize,
    watch: Watch,
    /// How often a caller looked at the descriptors.
    leads: u64,
    /// Nobody has a handle any more.
    abandoned: bool,
}

/// Who waits for the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Nobody,
    /// A caller, until then at most.
    Caller {
        until: Option<Moment>,
    },
}

/// What the supervisor does about the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// It looks when they are ready.
    Armed,
    /// It looks when the lease is over; so often callers had looked when the lease began.
    Leased { leads: u64 },
    /// It does not look: whoever leaves last arms it.
    Off,
}

impl Driver {
    pub(crate) fn new(machine: Machine) -> Result<Arc<Self>, HostFault> {
        let fault = |error| fault("watch a machine".into(), &error);
        let supervisor = Supervisor::get().map_err(fault)?;
        let poll = Arc::new(Poll::new().map_err(fault)?);
        let turn = Mutex::new(Turn {
            machine,
            host: Host::default(),
            wires: Wires(Arc::clone(&poll)),
            clock: Clock::new(),
            token: 0,
            lead: Lead::Nobody,
            followers: 0,
            watch: Watch::Off,
            leads: 0,
            abandoned: false,
        });
        let driver = Arc::new(Self { turn, changed: Condvar::new(), poll, supervisor });
        let token = driver.supervisor.keep(Arc::clone(&driver) as Arc<dyn Kept>).map_err(fault)?;
        driver.lock().token = token;
        Ok(driver)
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        // A caller that panicked while it held the lock left a machine that is as good as before its call.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something of the machine that nobody has to wait for. What is asked here and below runs under the lock, so
    /// it calls nothing that is the caller's: commands are encoded before, and replies read behind.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        let mut turn = self.lock();
        let now = turn.clock.now();
        let answer = ask(&mut turn.machine, now);
        self.settle(&mut turn, now);
        self.leave(turn);
        answer
    }

    /// Takes something that is there already. Nothing follows from that for the machine, or for whoever turns it.
    pub(crate) fn take<T>(&self, take: impl FnOnce(&mut Machine) -> T) -> T {
        take(&mut self.lock().machine)
    }

    /// Looks at the machine, unless somebody is at it.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> Option<T> {
        try_lock(&self.turn).map(|turn| look(&turn.machine))
    }

    /// Asks something of the machine and waits for the answer. The machine bounds the wait.
    pub(crate) fn call<T, A>(
        &self,
        ask: impl FnOnce(&mut Machine, Moment) -> Result<T, Misuse>,
        mut answer: impl FnMut(&mut Machine, &T) -> Option<A>,
    ) -> Result<A, Misuse> {
        let mut turn = self.lock();
        let now = turn.clock.now();
        let asked = ask(&mut turn.machine, now)?;
        Ok(self.until(turn, now, |machine| answer(machine, &asked)))
    }

    /// Waits for an answer to what was asked before. The machine bounds the wait.
    pub(crate) fn wait_for<A>(&self, answer: impl FnMut(&mut Machine) -> Option<A>) -> A {
        let turn = self.lock();
        let now = turn.clock.now();
        self.until(turn, now, answer)
    }

    fn until<'a, A>(
        &'a self,
        mut turn: MutexGuard<'a, Turn>,
        mut now: Moment,
        mut answer: impl FnMut(&mut Machine) -> Option<A>,
    ) -> A {
        loop {
            self.settle(&mut turn, now);
            if let Some(answer) = answer(&mut turn.machine) {
                self.leave(turn);
                return answer;
            }
            // The clock is read once for each wake-up.
            (turn, now) = match turn.lead {
                Lead::Nobody => self.lead(turn, now),
                Lead::Caller { .. } => self.follow(turn),
            };
        }
    }

    /// Waits for the descriptors, without the lock, and reports what they bring.
    fn lead<'a>(&'a self, mut turn: MutexGuard<'a, Turn>, now: Moment) -> (MutexGuard<'a, Turn>, Moment) {
        turn.leads += 1;
        if turn.watch == Watch::Armed {
            // While calls come, the supervisor is not to be woken by what they wait for.
            turn.watch = Watch::Leased { leads: turn.leads };
            self.supervisor.lease(turn.token, self.poll.source());
        }
        let until = turn.machine.deadline().map(|(until, _)| until);
        let timeout = until.map(|until| until.since(now));
        turn.lead = Lead::Caller { until };
        drop(turn);
        let ready = self.poll.wait(timeout);
        let mut turn = self.lock();
        turn.lead = Lead::Nobody;
        let now = turn.absorb(ready);
        (turn, now)
    }

    /// Lets the leader do it.
    fn follow<'a>(&'a self, mut turn: MutexGuard<'a, Turn>) -> (MutexGuard<'a, Turn>, Moment) {
        turn.followers += 1;
        let mut turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        turn.followers -= 1;
        let now = turn.clock.now();
        (turn, now)
    }

    /// Does what the machine orders, sends what it says, and tells whom it may concern.
    fn settle(&self, turn: &mut Turn, now: Moment) {
        let news = turn.settle(now);
        if news && turn.followers > 0 {
            self.changed.notify_all();
        }
        if let Lead::Caller { until } = turn.lead {
            let earlier = |at: Moment| until.is_none_or(|until| at < until);
            if turn.machine.deadline().is_some_and(|(at, _)| earlier(at)) {
                self.poll.wake();
            }
        }
    }

    /// Goes out of the machine, and leaves it to somebody.
    fn leave(&self, mut turn: MutexGuard<'_, Turn>) {
        if turn.lead != Lead::Nobody {
            return;
        }
        if turn.followers > 0 {
            drop(turn);
            return self.changed.notify_all();
        }
        let deadline = turn.machine.deadline().is_some();
        if turn.watch == Watch::Off {
            turn.watch = Watch::Armed;
            self.supervisor.arm(turn.token, self.poll.source());
        }
        let token = turn.token;
        drop(turn);
        if deadline {
            // Only the supervisor can keep it now.
            self.supervisor.look(token);
        }
    }

    /// How to attach to a port of the machine.
    pub(crate) fn port(&self, port: Service) -> Result<Config, Misuse> {
        self.lock().host.port(port)
    }

    /// What the process has printed.
    pub(crate) fn read_log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.lock().host.read_log(limit)
    }

    /// The last handle is gone: ends the machine. The supervisor drops it, and does what could not be done on the spot.
    pub(crate) fn abandon(&self) {
        let mut turn = self.lock();
        let Turn { machine, host, clock, .. } = &mut *turn;
        host.end(machine, *clock);
        turn.abandoned = true;
        let token = turn.token;
        drop(turn);
        self.supervisor.look(token);
    }
}

impl Turn {
    /// Whether there is news for somebody.
    fn settle(&mut self, now: Moment) -> bool {
        self.host.serve(&mut self.machine, now, &mut self.wires);
        std::iter::from_fn(|| self.machine.poll_notice()).count() > 0
    }

    /// Reports what became ready, and says when that was.
    fn absorb(&mut self, ready: Ready) -> Moment {
        let now = self.clock.now();
        self.wires.absorb(ready, &mut self.host, &mut self.machine, now);
        self.machine.handle(now, Input::TimePassed);
        now
    }
}

/// The supervisor's side.
impl Kept for Driver {
    fn source(&self) -> BorrowedFd<'_> {
        self.poll.source()
    }

    fn turn(&self, wake: Wake) -> Next {
        // A caller is at it this very moment. The supervisor waits for nobody: others need it.
        let Some(mut turn) = try_lock(&self.turn) else { return Next::Lease };
        let inside = turn.lead != Lead::Nobody || turn.followers > 0;
        match (wake, inside, turn.watch) {
            (Wake::Ready, true, _) => {
                turn.watch = Watch::Leased { leads: turn.leads };
                return Next::Lease;
            }
            (Wake::Lease, _, Watch::Leased { leads }) if leads != turn.leads => {
                turn.watch = Watch::Leased { leads: turn.leads };
                return Next::Lease;
            }
            // One caller waits for long: whoever leaves last arms.
            (Wake::Lease, true, _) => {
                turn.watch = Watch::Off;
                return Next::Leave;
            }
            _ => {}
        }
        let ready = self.poll.wait(Some(Duration::ZERO));
        let now = turn.absorb(ready);
        self.settle(&mut turn, now);
        if turn.abandoned && turn.machine.outcome().is_some() {
            return Next::Drop;
        }
        turn.watch = Watch::Armed;
        let deadline = turn.machine.deadline();
        Next::Watch(deadline.and_then(|(until, _)| turn.clock.instant(until)))
    }
}
