//! Stories of held guests: guests that end at once, snapshots, records, debuggers, and callers that start the guest.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qemu_machine_blocking::descriptor;
use qemu_machine_core::{Cause, Config, Deadline, Event, ExitStatus, Found, Mark, Shutdown, Wait};
use qemu_machine_tests::guest::{self, ImageFile, Letter, tiny};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

/// Deadline of what must happen: longer than it ever takes.
const LIMIT: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

const LONG: Deadline = Deadline::after(LIMIT);

/// The guest that ends with a value of its own, for stories that must not run it.
const DEBUG_EXIT: &tiny::Tiny = &tiny::GUESTS[0];

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

/// The end of a machine: the cause, and how the process ended.
type End = (Cause, Option<ExitStatus>);

/// Launches the guest, and returns how it ends.
fn end<H: Hosted>(guest: &tiny::Tiny, config: Config) -> End {
    let mut machine = H::launch(config).unwrap_or_else(|error| panic!("{}: {error}", guest.name));
    let outcome = machine.wait(LONG).unwrap_or_else(|error| panic!("{}: {error}", guest.name));
    (outcome.cause, outcome.exit)
}

fn assert_own(guest: &tiny::Tiny, (cause, exit): &End) {
    assert!(guest.causes.contains(cause), "{}: {cause}", guest.name);
    assert_eq!(*exit, Some(ExitStatus::Code(guest.exit_code)), "{}: {cause}", guest.name);
}

/// Returns the state of the guest, in QEMU's words.
fn status<H: Hosted>(machine: &mut H) -> String {
    let reply = machine.execute("query-status", LONG).expect("the monitor answers");
    reply["status"].as_str().expect("it is text").to_owned()
}

/// Asserts that the guest has not run, and ends once it is continued.
fn ends_after_cont<H: Hosted>(mut machine: H, state: &str) {
    assert_eq!(status(&mut machine), state);
    // The guest may end before QEMU replies.
    let _ = machine.execute("cont", LONG);
    assert_eq!(machine.wait(LONG).expect("the guest ends").cause, DEBUG_EXIT.causes[0]);
}

fn g27_a_guest_that_ends_at_once_ends_the_same_way_each_time<H: Hosted>() {
    for guest in &tiny::GUESTS {
        let image = guest.image().expect("the image can be written");
        let ends: Vec<_> = (0..5).map(|_| end::<H>(guest, guest.config(&image))).collect();
        assert_own(guest, &ends[0]);
        assert!(ends.iter().all(|end| *end == ends[0]), "{}: {ends:?}", guest.name);
    }
}

/// The guest starts at once, and may end before the monitor is ready.
fn g27_a_guest_that_ends_during_the_launch_is_named<H: Hosted>() {
    let image = DEBUG_EXIT.image().expect("the image can be written");
    for _ in 0..5 {
        match H::launch(DEBUG_EXIT.config(&image).autostart()) {
            Ok(mut machine) => assert_eq!(machine.wait(LONG).expect("the guest ends").cause, DEBUG_EXIT.causes[0]),
            Err(error) => {
                let text = error.to_string();
                let end = "launch failed: the guest exited (isa-debug-exit, value 0x15), and QEMU ended ";
                assert!(text.starts_with(end) && text.contains(": without `Config::autostart`, "), "{text}");
            }
        }
    }
}

/// A machine is launched again with the guest held as well.
fn g27_a_guest_that_ends_at_once_ends_the_same_way_after_a_relaunch<H: Hosted>() {
    let guest = &tiny::GUESTS[2];
    let image = guest.image().expect("the image can be written");
    let mut machine = H::launch(guest.config(&image)).expect("QEMU starts");
    for _ in 0..5 {
        assert_eq!(machine.wait(LONG).expect("the guest ends").cause, guest.causes[0]);
        machine.relaunch().expect("QEMU starts again");
    }
    assert_eq!(machine.wait(LONG).expect("the guest ends").cause, guest.causes[0]);
}

fn g27_the_events_of_the_start_are_not_delivered<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    assert_eq!(status(&mut machine), "running");
    let mut events = machine.subscribe(&Mark::default(), &[Wait::any_event()]).expect("there is a monitor");
    let mut next = |machine: &mut H| machine.next(&mut events, LONG).map(|event: Event| event.name().to_owned());
    for (command, event) in [("stop", "STOP"), ("cont", "RESUME"), ("stop", "STOP")] {
        machine.execute(command, LONG).expect("the monitor answers");
        assert_eq!(next(&mut machine).expect("an event follows"), event);
    }
    let things = [Wait::event("RESUME"), Wait::event("STOP")];
    let first = machine.wait_any(&Mark::default(), &things, LONG).expect("it has stopped");
    assert!(matches!(first.found, Found::Event(event) if event.name() == "STOP"), "the first event in the history");
}

fn g27_callers_that_hold_the_guest_start_it<H: Hosted>() {
    let image = DEBUG_EXIT.image().expect("the image can be written");
    let wrapper = ["sh", "-c", "exec \"$@\" -S", "sh"];
    for config in [DEBUG_EXIT.config(&image).arg("-S"), DEBUG_EXIT.config(&image).wrapper(wrapper)] {
        ends_after_cont(H::launch(config).expect("QEMU starts"), "prelaunch");
    }
}

fn g27_a_guest_that_is_to_arrive_is_awaited<H: Hosted>() {
    let image = DEBUG_EXIT.image().expect("the image can be written");
    let config = DEBUG_EXIT.config(&image).args(["-incoming", "defer"]);
    let mut machine = H::launch(config).expect("QEMU starts");
    assert_eq!(status(&mut machine), "inmigrate");
}

/// QEMU stops the guest when it reads the first byte of a debugger (QEMU, `gdbstub`, `gdb_read_byte`).
fn g27_a_guest_that_a_debugger_has_stopped_is_not_continued<H: Hosted>() {
    let image = ImageFile::create().expect("the image can be written");
    let (mut debugger, inherited) = UnixStream::pair().expect("sockets are available");
    debugger.write_all(b"+").expect("the socket is open");
    let mut config = greeting(&image);
    let chardev = format!("socket,fd={},id=g", config.inherit_fd(descriptor(inherited)));
    let config = config.args(["-chardev", &chardev, "-gdb", "chardev:g"]);
    let mut machine = H::launch(config).expect("QEMU starts");
    assert_eq!(status(&mut machine), "paused");
    machine.execute("cont", LONG).expect("the monitor answers");
    assert_eq!(status(&mut machine), "running");
}

fn greeting(image: &ImageFile) -> Config {
    Config::new(qemu()).args(["-accel", "tcg"]).args(guest::arguments(image.path()))
}

/// A machine with the guest that greets, and a disk for its snapshots.
fn with_disk(image: &ImageFile, disk: &Path) -> Config {
    let drive = format!("if=none,id=disk,format=qcow2,file={}", disk.display());
    greeting(image).args(["-drive", &drive]).serial("tty")
}

fn g27_a_guest_from_a_snapshot_runs<H: Hosted>() {
    let (scratch, image) = (Scratch::create(), ImageFile::create().expect("the image can be written"));
    let disk = scratch.path().join("disk");
    let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1M").status();
    assert!(created.expect("qemu-img is installed").success());
    let mut machine = H::launch(with_disk(&image, &disk)).expect("QEMU starts");
    machine.wait_for(Wait::text("tty", guest::GREETING));
    let saved =
        machine.execute_raw(r#"{"execute": "human-monitor-command", "arguments": {"command-line": "savevm greeted"}}"#);
    assert_eq!(saved.expect("the monitor answers")["return"], "", "the snapshot is saved");
    machine.shutdown(Shutdown::within(LIMIT)).expect("it runs");
    let mut machine = H::launch(with_disk(&image, &disk).args(["-loadvm", "greeted"])).expect("QEMU starts");
    assert_eq!(status(&mut machine), "running");
    machine.console_write("tty", &char::from(Letter::PowerOff.byte()).to_string()).expect("it is open");
    machine.wait_for(Wait::text("tty", guest::POWERING_OFF));
    assert_eq!(machine.wait(LONG).expect("the guest ends").cause, Cause::PowerOff);
}

/// In a replay, the record replaces the guest's end if it is read first: each record ends with a shutdown by a signal
/// (QEMU, `replay/replay.c`, `replay_finish`), and has the guest's shutdown without its exit code (measured with QEMU
/// 7.2.22 and 10.0.13).
fn g27_a_recorded_execution_is_replayed<H: Hosted>() {
    let by_record = [Cause::Signal { number: None, sender: None }, Cause::PowerOff];
    for shift in ["auto", "7"] {
        for guest in &tiny::GUESTS {
            let (scratch, image) = (Scratch::create(), guest.image().expect("the image can be written"));
            let file = scratch.path().join("record");
            let launch = |mode| {
                let icount = format!("shift={shift},rr={mode},rrfile={}", file.display());
                end::<H>(guest, guest.config(&image).args(["-icount", &icount]))
            };
            let recorded = launch("record");
            assert_own(guest, &recorded);
            let replayed = launch("replay");
            let is_by_record = by_record.contains(&replayed.0) && replayed.1 == Some(ExitStatus::Code(0));
            assert!(replayed == recorded || is_by_record, "{}: {replayed:?}", guest.name);
        }
    }
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g27_a_guest_that_ends_at_once_ends_the_same_way_each_time
            g27_a_guest_that_ends_at_once_ends_the_same_way_after_a_relaunch
            g27_a_guest_that_ends_during_the_launch_is_named
            g27_the_events_of_the_start_are_not_delivered
            g27_callers_that_hold_the_guest_start_it
            g27_a_guest_that_is_to_arrive_is_awaited
            g27_a_guest_that_a_debugger_has_stopped_is_not_continued
            g27_a_guest_from_a_snapshot_runs
            g27_a_recorded_execution_is_replayed
        }
    };
}

rows!(stories, strict);
