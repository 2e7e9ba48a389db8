//! Stories of liveness: the error of a command that timed out says whether QEMU was busy or stuck.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use qemu_machine_blocking::Vm;
use qemu_machine_core::session::Session;
use qemu_machine_core::{
    Address, CommandError, Config, Deadline, FOREVER, Liveness, Peer, Progress, Wait, WaitError, json,
};
use qemu_machine_tests::leak_check::{Scratch, bytes, send, stop};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

/// The deadline of a command. The heartbeat is sent after half of it, and the rest is enough for a reply on a busy
/// host.
const BUDGET: Deadline = Deadline::after(Duration::from_secs(2));

/// A QEMU with a second monitor, and a FIFO that blocks its main loop.
struct Blocked {
    scratch: Scratch,
}

impl Blocked {
    fn new() -> Self {
        let scratch = Scratch::create();
        let blocked = Self { scratch };
        let made = Command::new("mkfifo").arg(blocked.fifo()).status();
        assert!(made.is_ok_and(|status| status.success()));
        blocked
    }

    fn config(&self) -> Config {
        let option = format!("unix:{},server=on,wait=off", self.socket().display());
        Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S", "-qmp", &option])
    }

    fn socket(&self) -> PathBuf {
        self.scratch.path().join("qmp")
    }

    /// Blocks the main loop from the second monitor: QEMU opens a FIFO that has no writer (`fifo(7)`).
    fn block(&self) -> Vm {
        let other = Vm::attach(Peer::Dial(Address::unix(bytes(&self.socket()))), LONG).expect("the socket is open");
        let node = json!({"driver": "blkdebug", "image": {"driver": "null-co"}, "config": self.fifo().to_str(), "node-name": "x"});
        let blocked = other.execute_by(("blockdev-add", node), BUDGET);
        assert_eq!(blocked, Err(CommandError::TimedOut(Progress::Sent, Liveness::Busy)));
        other
    }

    /// Unblocks the main loop.
    fn unblock(&self) {
        drop(File::create(self.fifo()).expect("QEMU reads"));
    }

    fn fifo(&self) -> PathBuf {
        self.scratch.path().join("fifo")
    }
}

fn g22_a_blocked_main_loop_is_busy_and_out_of_band_gets_through<H: Hosted>() {
    let blocked = Blocked::new();
    let mut machine = H::launch(blocked.config()).expect("QEMU starts");
    let other = blocked.block();
    let count = Session::IN_BAND_DEPTH + 5;
    let mut errors: Vec<_> =
        machine.execute_all(&vec!["query-status"; count], BUDGET).into_iter().map(Result::unwrap_err).collect();
    errors.sort_by_key(ToString::to_string);
    let expected = |index| if index < Session::IN_BAND_DEPTH { Progress::Sent } else { Progress::Unsent };
    let expected: Vec<_> = (0..count).map(|index| CommandError::TimedOut(expected(index), Liveness::Busy)).collect();
    assert_eq!(errors, expected, "no more than seven are sent, and the heartbeat overtakes them");
    blocked.unblock();
    machine.execute("query-status", LONG).expect("late replies reach no other command");
    other.execute_by("query-status", LONG).expect("the other monitor goes on as well");
}

fn g22_a_stopped_qemu_is_stuck_and_a_dead_one_is_gone<H: Hosted>() {
    let mut machine = H::launch(Blocked::new().config()).expect("QEMU starts");
    let pid = machine.pid().expect("the process runs");
    stop(pid);
    let stuck = machine.execute("query-status", BUDGET);
    assert_eq!(stuck, Err(CommandError::TimedOut(Progress::Sent, Liveness::Stuck)));
    send(pid, Signal::CONT);
    machine.execute("query-status", LONG).expect("the late reply to the heartbeat reaches no other command");
    stop(pid);
    send(pid, Signal::KILL);
    let dead = machine.execute("query-status", LONG);
    assert!(matches!(dead, Err(CommandError::Disconnected(_))), "{dead:?}");
}

/// A timer that was set for an earlier deadline has passed while nothing was due. The next deadline is observed all the same.
fn a_deadline_after_an_idle_time_is_observed<H: Hosted>() {
    let mut machine = H::launch(Config::new(qemu()).args(["-machine", "none", "-nodefaults"])).expect("QEMU starts");
    let (short, begun) = (Duration::from_millis(100), Instant::now());
    machine.execute("query-status", short.into()).map_or_else(|error| println!("{error}"), |_| ());
    // Commands without a deadline, until the timer has passed.
    while begun.elapsed() < 2 * short {
        machine.execute("query-status", FOREVER).expect("the monitor answers");
    }
    let mark = machine.mark();
    let never = machine.wait_any(&mark, &[Wait::event("NEVER")], short.into());
    assert!(matches!(never, Err(WaitError::TimedOut)), "{never:?}");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_deadline_after_an_idle_time_is_observed
            g22_a_blocked_main_loop_is_busy_and_out_of_band_gets_through
            g22_a_stopped_qemu_is_stuck_and_a_dead_one_is_gone
        }
    };
}

rows!(stories, strict);
