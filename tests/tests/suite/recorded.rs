//! Stories of records: a real run replays, and a mock that is made of its record replies instead of QEMU.

use qemu_machine_blocking::{descriptor, play};
use qemu_machine_core::record::{Mock, Record};
use qemu_machine_core::{Config, Deadline, LaunchError, Mark, Peer, Shutdown, Value, Wait};
use qemu_machine_tests::guest::{self, ImageFile};
use qemu_machine_tests::{PATIENCE, qemu};

use crate::harness::Harness;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

/// The commands that QEMU and the mock execute.
const QUESTIONS: [&str; 5] = ["query-status", "stop", "query-status", "no-such-command", "query-block"];

fn ask<H: Harness>(machine: &mut H) -> Vec<Result<Value, String>> {
    QUESTIONS.iter().map(|question| machine.execute(question, LONG).map_err(|error| error.to_string())).collect()
}

fn a_real_run_replays_and_is_played_without_a_qemu<H: Harness>() {
    let image = ImageFile::create().expect("the image can be written");
    let config = Config::new(qemu()).args(["-accel", "tcg"]).args(guest::arguments(image.path())).serial("tty");
    let mut machine = H::launch(config.recorded()).expect("QEMU starts");
    let greeted = machine.wait_any(&Mark::default(), &[Wait::text("tty", guest::GREETING)], LONG);
    greeted.expect("the guest greets");
    let answers = ask(&mut machine);
    assert!(answers.iter().filter(|answer| answer.is_ok()).count() == 4, "{answers:?}");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");

    let record: Record = outcome.record.as_deref().expect("the run is recorded").parse().expect("a valid record");
    let replayed = record.replay().expect("the same run");
    assert_eq!(replayed.outcome().map(ToString::to_string), Some(outcome.to_string()));

    let client = play(Mock::new(&record)).expect("a socket and a thread");
    let mut played = H::launch(Config::attach(Peer::Connected(descriptor(client)))).expect("the peer greets");
    assert_eq!(ask(&mut played), answers);
    played.wait_any(&Mark::default(), &[Wait::event("STOP")], LONG).expect("it stopped");
    let beyond = played.execute("query-status", LONG).expect_err("the record has two replies").to_string();
    assert_eq!(beyond, "`query-status` was refused: GenericError: the record has no further `query-status`");
    played.shutdown(Shutdown::default()).expect("the mock closes the connection after quit");
}

fn a_launch_that_failed_can_be_read_and_replayed<H: Harness>() {
    let config = Config::new(qemu()).args(["-device", "no-such-device", "-name", "g4711"]).recorded();
    let error = H::launch(config).map(drop).expect_err("there is no such device");
    let LaunchError::Failed { outcome, .. } = &error else { panic!("{error}") };
    let mut record: Record = outcome.record.as_deref().expect("the run is recorded").parse().expect("a valid record");
    assert_eq!(record.redact("g4711"), Ok(1), "the configuration");
    let timeline = record.timeline().to_string();
    assert!(timeline.contains("'no-such-device' is not a valid device model name"), "{timeline}");
    assert!(!timeline.contains("4711"), "{timeline}");
    assert!(record.replay().is_ok_and(|machine| machine.launch_failure().is_some()));
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_real_run_replays_and_is_played_without_a_qemu
            a_launch_that_failed_can_be_read_and_replayed
        }
    };
}

rows!(stories);
