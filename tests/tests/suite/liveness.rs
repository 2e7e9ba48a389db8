//! Whether a command that ran out of time says what QEMU was doing, and whether what goes out of band gets through.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use qemu_machine_blocking::Vm;
use qemu_machine_core::session::Session;
use qemu_machine_core::{Address, CommandError, Config, Deadline, Liveness, Peer, Progress, json};
use qemu_machine_tests::leak_check::{Scratch, bytes, send, stop};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

/// What a command has. Half of it is more than a monitor needs to answer, however busy this computer is.
const BUDGET: Deadline = Deadline::after(Duration::from_secs(2));

/// A QEMU with a second monitor, and with something in its way.
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

    /// Blocks the main loop from the second monitor: it opens a file for reading that nobody writes to.
    fn block(&self) -> Vm {
        let other = Vm::attach(Peer::Dial(Address::unix(bytes(&self.socket()))), LONG).expect("it listens");
        let node = json!({"driver": "blkdebug", "image": {"driver": "null-co"}, "config": self.fifo().to_str(), "node-name": "x"});
        let blocked = other.execute_by(("blockdev-add", node), BUDGET);
        assert_eq!(blocked, Err(CommandError::TimedOut(Progress::Sent, Liveness::Busy)));
        other
    }

    /// And lets it go on.
    fn unblock(&self) {
        drop(File::create(self.fifo()).expect("QEMU reads"));
    }

    fn fifo(&self) -> PathBuf {
        self.scratch.path().join("fifo")
    }
}

fn g22_a_blocked_main_loop_is_busy_and_out_of_band_gets_through<H: Hosted>() {
    let blocked = Blocked::new();
    let mut machine = H::launch(blocked.config()).expect("it starts");
    let other = blocked.block();
    let count = Session::IN_BAND_DEPTH + 5;
    let mut errors: Vec<_> =
        machine.execute_all(&vec!["query-status"; count], BUDGET).into_iter().map(Result::unwrap_err).collect();
    errors.sort_by_key(ToString::to_string);
    let expected = |index| if index < Session::IN_BAND_DEPTH { Progress::Sent } else { Progress::Unsent };
    let expected: Vec<_> = (0..count).map(|index| CommandError::TimedOut(expected(index), Liveness::Busy)).collect();
    assert_eq!(errors, expected, "no more than seven are sent, and the question overtakes them");
    blocked.unblock();
    machine.execute("query-status", LONG).expect("it goes on, and late replies reach nobody");
    other.execute_by("query-status", LONG).expect("also for the other");
}

fn g22_a_stopped_qemu_is_stuck_and_a_dead_one_is_gone<H: Hosted>() {
    let mut machine = H::launch(Blocked::new().config()).expect("it starts");
    let pid = machine.pid().expect("it lives");
    stop(pid);
    let stuck = machine.execute("query-status", BUDGET);
    assert_eq!(stuck, Err(CommandError::TimedOut(Progress::Sent, Liveness::Stuck)));
    send(pid, Signal::CONT);
    machine.execute("query-status", LONG).expect("it goes on, and the answer to the question reaches nobody");
    stop(pid);
    send(pid, Signal::KILL);
    let dead = machine.execute("query-status", LONG);
    assert!(matches!(dead, Err(CommandError::Disconnected(_) | CommandError::Misuse(_))), "{dead:?}");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g22_a_blocked_main_loop_is_busy_and_out_of_band_gets_through
            g22_a_stopped_qemu_is_stuck_and_a_dead_one_is_gone
        }
    };
}

rows!(stories);
