//! Stories of rows 25 to 30: how a machine ends, which rungs are tried, and what the outcome reports.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use qemu_machine_blocking::Vm;
use qemu_machine_core::{
    Address, Cause, Config, ExitStatus, Peer, Rung, Shutdown, SignalName, State, Wait, WaitError, json,
};
use qemu_machine_tests::guest::{self, GREETING, HANGING, ImageFile, Letter};
use qemu_machine_tests::leak_check::{Scratch, Watched, descendants, send, stop};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

use super::{LONG, bytes, empty};
use crate::hosted::Hosted;
use crate::left_out::dialling;
use crate::rows;

/// A ladder that ends after 300 ms.
fn quick() -> Shutdown {
    Shutdown::within(Duration::from_millis(300))
}

fn row_25_a_machine_that_ended_by_itself_is_no_error<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    send(machine.pid().expect("the process runs"), Signal::TERM);
    let outcome = machine.wait(LONG).expect("the machine ends");
    assert_eq!(machine.shutdown(Shutdown::default()), Ok(outcome.clone()), "a machine that ended needs no shutdown");
    assert_eq!((machine.kill(), machine.state()), (Ok(outcome), State::Ended));
}

/// A stopped process handles neither `quit` nor SIGTERM: only SIGKILL ends it, also behind each kind of wrapper.
fn row_25_the_ladder_ends_stopped_processes_behind_every_wrapper<H: Hosted>() {
    for wrapper in [&["env"][..], &["timeout", "60"], &["nice"], &["sh", "-c", "\"$@\"; exit $?", "sh"]] {
        let mut machine = H::launch(empty().wrapper(wrapper.iter().copied())).expect("QEMU starts");
        let pid = machine.pid().expect("the process runs");
        let all: Vec<_> = descendants(pid).iter().map(|process| process.pid).chain([pid]).collect();
        let watched: Vec<_> = all.iter().map(|pid| Watched::new(*pid).expect("the process runs")).collect();
        all.iter().for_each(|pid| send(*pid, Signal::STOP));
        let outcome = machine.shutdown(quick()).expect("the machine was launched");
        assert_eq!(
            (outcome.cause, outcome.rungs),
            (Cause::Asked(Rung::Kill), vec![Rung::Quit, Rung::Terminate, Rung::Kill])
        );
        watched.iter().for_each(|process| process.assert_ends_within(PATIENCE));
    }
}

/// QEMU's main loop reads a FIFO whose writer writes nothing, so QEMU handles no commands.
fn row_25_a_blocked_main_loop_is_ended<H: Hosted>() {
    let scratch = Scratch::create();
    let (socket, fifo) = (scratch.path().join("qmp"), scratch.path().join("fifo"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .expect("it can be made");
    let option = format!("unix:{},server=on,wait=off", socket.display());
    let mut machine = H::launch(empty().args(["-qmp", &option])).expect("QEMU starts");
    let other = Vm::attach(Peer::Dial(Address::unix(bytes(&socket))), LONG).expect("the socket is open");
    let node = json!({"driver": "blkdebug", "node-name": "x", "config": fifo.to_string_lossy(),
        "image": {"driver": "null-co"}});
    std::thread::scope(|threads| {
        let blocked = threads.spawn(|| other.execute(("blockdev-add", node)));
        // QEMU's open of the FIFO returns when this one does (`fifo(7)`). While the writer is open, QEMU's read blocks.
        let writer = std::fs::OpenOptions::new().write(true).open(&fifo).expect("QEMU opens it for reading");
        let outcome = machine.shutdown(quick()).expect("the machine was launched");
        // SIGTERM interrupts the read if the kernel delivers it to the main thread (`signal(7)`).
        assert!(matches!(outcome.cause, Cause::Asked(Rung::Terminate | Rung::Kill)), "{outcome}");
        assert!(outcome.rungs.starts_with(&[Rung::Quit, Rung::Terminate]), "the quit was not read: {outcome}");
        drop(writer);
        blocked.join().expect("the thread does not panic").expect_err("QEMU ends before it replies");
    });
}

fn guest(image: &ImageFile) -> Config {
    Config::new(qemu()).args(["-accel", "tcg"]).args(guest::arguments(image.path())).serial("tty")
}

fn row_25_a_guest_that_ignores_the_power_button<H: Hosted>() {
    let image = ImageFile::create().expect("the image can be written");
    let mut machine = H::launch(guest(&image)).expect("QEMU starts");
    let hit = machine.wait_for(Wait::text("tty", GREETING));
    machine.console_write("tty", &char::from(Letter::Hang.byte()).to_string()).expect("the console accepts the input");
    machine.wait_any(&hit.mark, &[Wait::text("tty", HANGING)], LONG).expect("the guest hangs");
    let mark = machine.mark();
    let how = Shutdown::default().power_down(Duration::from_millis(100));
    let outcome = machine.shutdown(how).expect("the machine was launched");
    assert_eq!((outcome.cause, outcome.rungs), (Cause::Asked(Rung::Quit), vec![Rung::PowerDown, Rung::Quit]));
    machine.wait_any(&mark, &[Wait::event("POWERDOWN")], Duration::ZERO.into()).expect("the power button was pressed");
}

fn row_25_consoles_are_read_to_their_end<H: Hosted>() {
    let image = ImageFile::create().expect("the image can be written");
    let mut machine = H::launch(guest(&image)).expect("QEMU starts");
    machine.wait_for(Wait::text("tty", GREETING));
    // The guest echoes the text before it powers off.
    machine.console_write("tty", "ABCDEFGH").expect("the console accepts the input");
    machine
        .console_write("tty", &char::from(Letter::PowerOff.byte()).to_string())
        .expect("the console accepts the input");
    let outcome = machine.wait(LONG).expect("the guest powers off");
    assert!(
        outcome.consoles[0].1.contains("ABCDEFGH") && outcome.consoles[0].1.ends_with("powering off\r\n"),
        "{outcome}"
    );
}

fn row_26_a_kill_is_reported_as_a_kill<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let process = Watched::new(machine.pid().expect("the process runs")).expect("the process runs");
    let outcome = machine.kill().expect("the machine was launched");
    process.assert_ends_within(PATIENCE);
    let killed = Some(ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false });
    assert_eq!((outcome.cause, outcome.exit), (Cause::Asked(Rung::Kill), killed));
}

fn row_27_the_caller_decides_after_a_wait_timed_out<H: Hosted>() {
    let image = ImageFile::create().expect("the image can be written");
    let mut machine = H::launch(guest(&image)).expect("QEMU starts");
    machine.wait_for(Wait::text("tty", GREETING));
    assert_eq!(machine.wait(Duration::from_millis(20).into()), Err(WaitError::TimedOut));
    machine.execute("query-status", LONG).expect("it runs on");
    machine
        .console_write("tty", &char::from(Letter::PowerOff.byte()).to_string())
        .expect("the console accepts the input");
    assert_eq!(machine.wait(LONG).expect("the guest powers off").cause, Cause::PowerOff);
    // Python's `QEMUMachine` kills a machine that did not end in time.
    machine.relaunch().expect("QEMU starts again");
    let outcome = machine.wait(Duration::from_millis(20).into()).or_else(|_| machine.kill());
    assert_eq!(outcome.expect("the machine was launched").cause, Cause::Asked(Rung::Kill));
}

fn row_28_the_outcome_reports_that_a_signal_was_needed<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    stop(machine.pid().expect("the process runs"));
    let outcome = machine.shutdown(quick()).expect("the machine was launched");
    let text = outcome.to_string();
    assert!(text.starts_with("ended by the caller (SIGKILL)\n  process: signal 9 (SIGKILL)\n"), "{text}");
    assert!(text.contains("\n  tried: quit, SIGTERM, SIGKILL"), "{text}");
}

fn row_29_foreign_signals_and_their_senders_are_reported<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    send(machine.pid().expect("the process runs"), Signal::INT);
    let Cause::Signal { number, sender } = machine.wait(LONG).expect("the machine ends").cause else {
        panic!("it was a signal")
    };
    assert_eq!(number, Some(2));
    assert!(sender.is_some_and(|sender| sender.starts_with(&format!("pid {} (", std::process::id()))));
    for (signal, number) in [(Signal::KILL, 9), (Signal::SEGV, 11), (Signal::ABORT, 6)] {
        machine.relaunch().expect("QEMU starts again");
        send(machine.pid().expect("the process runs"), signal);
        let outcome = machine.wait(LONG).expect("the machine ends");
        assert_eq!(outcome.cause, Cause::Signal { number: Some(number), sender: None });
        let Some(ExitStatus::Signal { number: told, .. }) = outcome.exit else { panic!("{outcome}") };
        assert_eq!(told, number);
    }
}

fn row_30_dropping_a_machine_leaves_nothing_behind<H: Hosted>() {
    let scratch = Scratch::create();
    let config = || {
        let config = dialling(empty()).temporary_directory(bytes(scratch.path()));
        config.monitor(qemu_machine_core::Monitor::Socket)
    };
    let mut machine = H::launch(config()).expect("QEMU starts");
    let process = Watched::new(machine.pid().expect("the process runs")).expect("the process runs");
    drop(machine);
    process.assert_ends_within(PATIENCE);
    assert_eq!(scratch.entries(), [""; 0]);

    let mut watched = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut machine = H::launch(config()).expect("QEMU starts");
        watched = Some(Watched::new(machine.pid().expect("the process runs")).expect("the process runs"));
        std::panic::resume_unwind(Box::new("a test that fails"));
    }));
    assert!(panicked.is_err());
    watched.expect("the machine was launched").assert_ends_within(PATIENCE);
    assert_eq!(scratch.entries(), [""; 0]);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_25_a_machine_that_ended_by_itself_is_no_error
            row_25_the_ladder_ends_stopped_processes_behind_every_wrapper
            row_25_a_blocked_main_loop_is_ended
            row_25_a_guest_that_ignores_the_power_button
            row_25_consoles_are_read_to_their_end
            row_26_a_kill_is_reported_as_a_kill
            row_27_the_caller_decides_after_a_wait_timed_out
            row_28_the_outcome_reports_that_a_signal_was_needed
            row_29_foreign_signals_and_their_senders_are_reported
            row_30_dropping_a_machine_leaves_nothing_behind
        }
    };
}

rows!(stories, strict);
