//! Tests of batches: the notice that they await, and the answers of their commands.

use crate::rig::{Rig, config, secs};
use qemu_machine_core::{Batch, Command, CommandError, FOREVER, Limits, Misuse, Notice, Progress, Value, json};

fn sent<C: Command>(rig: &mut Rig, commands: impl IntoIterator<Item = C>) -> Batch<C> {
    let mut batch = Batch::new(commands);
    batch.send(&mut rig.vm, rig.now, FOREVER);
    rig.serve();
    batch
}

/// Returns whether the batch awaits the last notice of the machine.
fn awaits_last<C>(rig: &Rig, batch: &Batch<C>) -> bool {
    batch.awaits().is_some() && batch.awaits() == rig.notices.last().copied()
}

fn numbers(batch: Batch<&str>) -> Vec<Result<Value, CommandError>> {
    batch.into_replies().into_iter().map(|reply| reply.map(|reply| reply["n"].clone())).collect()
}

#[test]
fn a_batch_awaits_its_last_command_alone() {
    let mut rig = Rig::ready(config());
    let mut batch = sent(&mut rig, ["a", "b", "c"]);
    let ids = rig.take_ids();
    for id in &ids[..2] {
        rig.replies(*id);
        assert!(!awaits_last(&rig, &batch) && !batch.take_answers(&mut rig.vm));
    }
    rig.replies(ids[2]);
    assert!(awaits_last(&rig, &batch) && batch.take_answers(&mut rig.vm));
    assert_eq!(batch.awaits(), None);
    assert_eq!(numbers(batch), [0, 1, 2].map(|place| Ok(json!(ids[place]))));
    assert!(!rig.vm.has_unclaimed());
}

/// Replies to out-of-band commands overtake those that are in band.
#[test]
fn a_batch_awaits_next_the_last_command_that_has_no_answer() {
    let mut rig = Rig::ready_oob(config());
    let mut batch = sent(&mut rig, ["a", "b", "c", "d"]);
    let ids = rig.take_ids();
    for place in [3, 1] {
        rig.replies(ids[place]);
    }
    let third = batch.awaits();
    assert!(!batch.take_answers(&mut rig.vm) && batch.awaits() != third);
    let before = batch.awaits();
    assert!(!batch.take_answers(&mut rig.vm) && batch.awaits() == before, "it awaits the same until that is there");
    rig.refuses(ids[2]);
    assert!(awaits_last(&rig, &batch) && !batch.take_answers(&mut rig.vm));
    rig.replies(ids[0]);
    assert!(awaits_last(&rig, &batch) && batch.take_answers(&mut rig.vm));
    let replies = numbers(batch);
    assert!(matches!(&replies[2], Err(CommandError::Refused(_))), "{replies:?}");
    assert_eq!([0, 1, 3].map(|place| replies[place].clone()), [0, 1, 3].map(|place| Ok(json!(ids[place]))));
}

#[test]
fn commands_that_are_refused_are_answered_at_once() {
    let limits = |commands| {
        let mut limits = Limits::default();
        limits.commands = commands;
        config().limits(limits)
    };
    let mut rig = Rig::ready(limits(2));
    let mut batch = sent(&mut rig, ["a", "b", "c"]);
    let ids = rig.take_ids();
    assert_eq!((ids.len(), batch.take_answers(&mut rig.vm)), (2, false));
    ids.iter().for_each(|id| rig.replies(*id));
    assert!(batch.take_answers(&mut rig.vm));
    let refused = |limit| Err(CommandError::Misuse(Misuse::TooManyCommands(limit)));
    assert_eq!(numbers(batch), [Ok(json!(ids[0])), Ok(json!(ids[1])), refused(2)]);
    // None is left to await.
    let mut rig = Rig::ready(limits(0));
    let mut batch = sent(&mut rig, ["a", "b"]);
    assert_eq!((batch.awaits(), batch.take_answers(&mut rig.vm)), (None, true));
    assert_eq!(numbers(batch), [refused(0), refused(0)]);
    assert!(Batch::<&str>::default().take_answers(&mut rig.vm));
}

#[test]
fn g02_a_disowned_batch_keeps_the_answers_that_are_there() {
    let mut rig = Rig::ready(config());
    let mut batch = sent(&mut rig, ["a", "b"]);
    let ids = rig.take_ids();
    rig.replies(ids[0]);
    batch.disown(&mut rig.vm);
    assert_eq!(batch.awaits(), None);
    assert_eq!(numbers(batch), [Ok(json!(ids[0])), Err(CommandError::Cancelled)]);
    rig.replies(ids[1]);
    assert_eq!((rig.vm.session().counters().late, rig.vm.has_unclaimed()), (1, false));
}

#[test]
fn a_batch_that_was_not_sent_has_no_answers() {
    let mut rig = Rig::ready(config());
    let mut batch = Batch::new(["a", "b"]);
    assert_eq!((batch.awaits(), batch.take_answers(&mut rig.vm)), (None, false));
    assert_eq!(numbers(batch), [Err(CommandError::Cancelled), Err(CommandError::Cancelled)]);
}

/// The deadline of all passes at once, so the caller is woken once.
#[test]
fn g01_the_deadline_of_a_batch_answers_all_that_remain() {
    let mut rig = Rig::ready(config());
    let mut batch = Batch::new(["a", "b", "c"]);
    batch.send(&mut rig.vm, rig.now, secs(5).into());
    let ids = rig.take_ids();
    rig.replies(ids[0]);
    rig.pass(secs(5));
    assert!(awaits_last(&rig, &batch) && batch.take_answers(&mut rig.vm));
    let replies = numbers(batch);
    assert_eq!(replies[0], Ok(json!(ids[0])));
    assert!(replies[1..].iter().all(|reply| matches!(reply, Err(CommandError::TimedOut(Progress::Sent, _)))));
    assert!(matches!(rig.notices.last(), Some(Notice::Answered(_))));
}
