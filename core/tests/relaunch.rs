//! Tests of relaunching a machine: nothing of one run reaches the next.

use crate::rig::{GREETING, Rig, SIGKILL, config};
use qemu_machine_core::{
    Cause, Channel, CommandError, Effect, ExitStatus, FOREVER, Found, Input, LaunchFailure, Limits, Misuse, Notice,
    Phase, Prepared, Progress, State, Wait,
};

/// A machine after a run with events, console output, console input, a log, half a message, and a failed signal.
fn used() -> Rig {
    let mut rig = Rig::ready(config());
    rig.log = b"old log\n".to_vec();
    rig.happens("OLD");
    rig.prints("old text");
    rig.vm.console_write(rig.now, "tty", b"old input").unwrap();
    rig.says("{\"half a mess");
    rig.failing = |effect| matches!(effect, Effect::Signal(_));
    rig.kill();
    rig.failing = |_| false;
    rig.shuts_down("host-qmp-quit");
    rig.dies(SIGKILL);
    rig
}

#[test]
fn the_next_run_begins_with_nothing() {
    let mut rig = used();
    assert_eq!(rig.outcome().cause, Cause::Unkillable, "the signal could not be sent");
    rig.log.clear();
    rig.launch();
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Launching(Phase::Greeting), None));
    assert_eq!((rig.vm.outcome(), rig.vm.greeting()), (None, None));
    assert_eq!(rig.vm.history().first(), rig.vm.history().end());
    assert_eq!(rig.vm.console_since("tty", &rig.vm.mark()), Ok(&b""[..]));
    assert_eq!(rig.vm.console("tty").unwrap().since(0), b"");
    assert_eq!((rig.vm.outgoing(Channel::Console(0)), rig.vm.outgoing(Channel::Monitor)), (&b""[..], &b""[..]));
    rig.negotiate(GREETING);
    let outcome = rig.dies(ExitStatus::Code(3));
    assert_eq!((outcome.cause, outcome.exit), (Cause::Exit(3), Some(ExitStatus::Code(3))));
    assert_eq!((outcome.log.as_str(), outcome.last_events.len(), outcome.unanswered), ("", 0, 0));
    assert_eq!((outcome.consoles[0].1.as_str(), outcome.faults.len()), ("", 0));
}

/// Notices that were not popped in the previous run stay only if their result can still be claimed.
#[test]
fn the_next_run_reports_only_claimable_results_of_the_previous_run() {
    let mut rig = Rig::ready(config());
    let unanswered = rig.issue("a");
    let from = rig.vm.mark();
    let text = rig.vm.wait(rig.now, &from, [Wait::text("tty", "text")], FOREVER).unwrap();
    let now = rig.now;
    rig.vm.handle(now, Input::Received(Channel::Console(0), b"text"));
    rig.vm.handle(now, Input::Exited(SIGKILL));
    rig.vm.handle(now, Input::Closed(Channel::Console(0)));
    rig.vm.handle(now, Input::Closed(Channel::Monitor));
    // The effects are carried out, and no notice is popped.
    while let Some(effect) = rig.vm.poll_effect() {
        rig.answer(&effect);
    }
    assert_eq!((rig.vm.state(), rig.vm.has_outputs()), (State::Ended, true));
    rig.vm.launch(now).unwrap();
    let told: Vec<_> = core::iter::from_fn(|| rig.vm.poll_notice()).collect();
    assert_eq!(told, [Notice::Waited(text), Notice::Answered(unanswered.id())]);
    assert_eq!(rig.claim(&unanswered), Some(Err(CommandError::Disconnected(Progress::Sent))));
    assert!(matches!(rig.vm.claim_wait(text), Some(Ok(hit)) if hit.text().is_some_and(|text| *text == "text")));
}

#[test]
fn a_failed_launch_can_be_followed_by_a_good_one() {
    let mut rig = Rig::launched(config());
    rig.dies(ExitStatus::Code(1));
    assert!(rig.vm.launched().unwrap().is_err());
    rig.launch();
    rig.negotiate(GREETING);
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Running, Some(Ok(()))));
    assert_eq!(rig.dies(ExitStatus::Code(0)).cause, Cause::Exit(0));
    assert_eq!(rig.vm.launched(), Some(Ok(())));
}

#[test]
fn preparations_of_the_previous_run_are_gone() {
    let mut rig = used();
    rig.held = |effect| matches!(effect, Effect::Prepare(_));
    rig.launch();
    assert_eq!(rig.vm.prepared(), &Prepared::default());
}

/// Ids on the wire start again in each run, but a new reply never answers an old ticket.
#[test]
fn an_old_ticket_is_not_answered_by_a_new_run() {
    let mut rig = Rig::ready(config());
    let (answered, unanswered) = (rig.issue("a"), rig.issue("b"));
    rig.replies(1);
    rig.dies(SIGKILL);
    assert_eq!(rig.claim(&unanswered), Some(Err(CommandError::Disconnected(Progress::Sent))));
    assert_eq!(rig.outcome().unanswered, 1);
    rig.launch();
    rig.negotiate(GREETING);
    let (tickets, ids) = rig.issue_many(2);
    assert_eq!(ids, [1, 2]);
    rig.replies(1);
    rig.replies(2);
    assert_eq!(rig.claim(&unanswered), None);
    assert_eq!((rig.claim(&tickets[0]), rig.claim(&tickets[1])), (Some(Ok(1)), Some(Ok(2))));
    assert!(answered.id() < unanswered.id() && unanswered.id() < tickets[0].id());
}

/// Another caller may relaunch the machine before the first one has claimed its answer.
#[test]
fn the_answers_of_the_previous_run_can_still_be_claimed() {
    let mut rig = Rig::ready(config());
    let (tickets, ids) = rig.issue_many(2);
    rig.replies(ids[0]);
    rig.dies(SIGKILL);
    rig.launch();
    rig.negotiate(GREETING);
    assert_eq!(rig.claim(&tickets[0]), Some(Ok(u64::from(ids[0]))));
    assert_eq!(rig.claim(&tickets[1]), Some(Err(CommandError::Disconnected(Progress::Sent))));
}

/// Unclaimed answers of the previous run take no room in the next.
#[test]
fn old_answers_do_not_count_in_a_new_run() {
    let mut few = Limits::default();
    few.commands = 2;
    let mut rig = Rig::ready(config().limits(few));
    let (_, ids) = rig.issue_many(2);
    ids.iter().for_each(|id| rig.replies(*id));
    rig.dies(SIGKILL);
    rig.launch();
    rig.negotiate(GREETING);
    let issued = rig.vm.execute(rig.now, &"x", FOREVER).map(|_| ());
    assert_eq!(issued, Ok(()));
}

#[test]
fn a_wait_of_the_previous_run_ended_with_it() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let wait = rig.wait(&mark, [Wait::event("NEW"), Wait::end()]);
    rig.dies(SIGKILL);
    rig.launch();
    rig.negotiate(GREETING);
    rig.happens("NEW");
    let hit = rig.vm.claim_wait(wait).unwrap().unwrap();
    assert!(matches!(hit.found, Found::End(outcome) if outcome.exit == Some(SIGKILL)));
    let wait = rig.wait(&mark, [Wait::end(), Wait::event("NEW")]);
    assert!(matches!(rig.vm.claim_wait(wait).unwrap().unwrap().found, Found::Event(_)));
}

#[test]
fn the_deadlines_of_the_previous_run_are_over() {
    let mut rig = Rig::ready(config());
    rig.closes(Channel::Monitor);
    rig.dies(SIGKILL);
    assert_eq!(rig.vm.deadline(), None);
    rig.pass(crate::rig::secs(3));
    rig.launch();
    let launch = rig.now.after(qemu_machine_core::Config::LAUNCH_WITHIN);
    assert_eq!(rig.vm.deadline().map(|(until, _)| until), Some(launch));
}

#[test]
fn a_launch_error_is_that_of_its_own_run() {
    let mut rig = Rig::launched(config());
    rig.dies(ExitStatus::Code(1));
    rig.launch();
    rig.says("garbage");
    rig.dies(SIGKILL);
    match rig.vm.launched() {
        Some(Err(qemu_machine_core::LaunchError::Failed { failure, .. })) => {
            assert!(matches!(failure, LaunchFailure::Broken(_)), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_machine_that_lives_cannot_be_launched() {
    let mut rig = Rig::ready(config());
    rig.handle(Input::TimePassed);
    assert_eq!(rig.vm.launch(rig.now), Err(Misuse::AlreadyLaunched));
    rig.exits(SIGKILL);
    assert_eq!(rig.vm.launch(rig.now), Err(Misuse::AlreadyLaunched), "not cleaned up yet");
    rig.closes_all();
    assert_eq!(rig.vm.launch(rig.now), Ok(()));
}
