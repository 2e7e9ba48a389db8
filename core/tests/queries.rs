//! Tests of the queries of a machine, which return the present state exactly: its parts, counts and deadlines.

use crate::rig::{PID, Rig, at, config, secs};
use qemu_machine_core::lifecycle::{Intent, Link, Process};
use qemu_machine_core::session;
use qemu_machine_core::session::Session;
use qemu_machine_core::{
    Channel, CommandError, Dialect, Limits, Machine, Moment, Notice, Progress, Service, Shutdown, Wait,
};

fn counts(rig: &Rig) -> (usize, usize) {
    (rig.vm.session().commands(), rig.vm.session().in_flight())
}

#[test]
fn the_three_parts_of_a_run_can_be_read() {
    let mut rig = Rig::new(config());
    let parts = |rig: &Rig| (rig.vm.lifecycle().process(), rig.vm.lifecycle().link(), rig.vm.lifecycle().intent());
    assert_eq!(parts(&rig), (Process::Unborn, Link::Down, Intent::Idle));
    rig.launch();
    rig.negotiate(crate::rig::GREETING);
    assert_eq!(parts(&rig), (Process::Alive { pid: PID }, Link::Ready, Intent::Run));
    rig.pass(secs(1));
    rig.kill();
    assert_eq!(rig.vm.lifecycle().intent(), Intent::Killed { until: at(secs(11)) });
}

#[test]
fn a_notice_is_pending_until_it_is_taken() {
    let mut vm = Machine::new(config()).expect("a valid configuration");
    assert!(!vm.has_outputs());
    vm.launch(Moment::ORIGIN).expect("a machine that can be launched");
    assert!(vm.has_outputs(), "an effect");
    assert!(vm.poll_effect().is_some());
    assert!(!vm.has_outputs());
    let mut rig = Rig::ready(config());
    let ticket = rig.issue("stop");
    rig.vm.handle(rig.now, qemu_machine_core::Input::Received(Channel::Monitor, b"{\"return\": {}, \"id\": 1}\r\n"));
    assert!(rig.vm.has_outputs(), "a notice");
    assert_eq!(rig.vm.poll_notice(), Some(Notice::Answered(ticket.id())));
    assert!(!rig.vm.has_outputs());
}

/// A command that is answered out of order leaves the others in order, and the end of the monitor answers all of them.
#[test]
fn a_reply_that_overtakes_leaves_the_others_in_their_order() {
    let mut rig = Rig::ready(config());
    let (tickets, ids) = rig.issue_many(3);
    rig.replies(ids[1]);
    assert_eq!(counts(&rig), (2, 2));
    rig.closes(Channel::Monitor);
    assert_eq!(counts(&rig), (0, 0));
    let answered: Vec<_> = [1, 0, 2].into_iter().map(|nth: usize| Notice::Answered(tickets[nth].id())).collect();
    let notices = rig.notices.iter().filter(|notice| matches!(notice, Notice::Answered(_)));
    assert_eq!(notices.cloned().collect::<Vec<_>>(), answered);
    for nth in [0, 2] {
        assert_eq!(rig.claim(&tickets[nth]), Some(Err(CommandError::Disconnected(Progress::Sent))));
    }
}

#[test]
fn commands_that_time_out_together_are_answered_in_issue_order() {
    let mut rig = Rig::ready(config());
    // Ids are reused in a cycle: the first of these three is 9, and the next one is 0.
    for _ in 0..8 {
        let (_, ids) = rig.issue_many(1);
        rig.replies(ids[0]);
    }
    let tickets = [(); 3].map(|()| rig.issue_within("query-block", secs(10)));
    let ids = rig.take_ids();
    assert!(ids[0] > ids[1], "{ids:?}");
    rig.notices.clear();
    rig.pass(secs(10));
    let answered: Vec<_> = tickets.iter().map(|ticket| Notice::Answered(ticket.id())).collect();
    assert_eq!(rig.notices, answered);
}

/// There are 65536 ids, and an id in flight is not used twice.
#[test]
fn a_command_beyond_the_last_id_waits_for_one_to_come_back() {
    let mut limits = Limits::default();
    limits.commands = 70_000;
    let mut rig = Rig::ready(config().limits(limits));
    let (_tickets, mut ids) = rig.issue_many(65_537);
    assert_eq!(counts(&rig), (65_537, 65_536));
    let some = ids[7];
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 65_536);
    rig.replies(some);
    assert_eq!((rig.take_ids(), counts(&rig)), (vec![some], (65_536, 65_536)));
}

#[test]
fn the_heartbeat_is_not_counted_as_a_command() {
    let mut rig = Rig::ready_oob(config());
    let _slow = rig.issue_within("query-block", secs(10));
    rig.take_sent();
    rig.pass(secs(5));
    assert_eq!(rig.take_sent(), r#"{"exec-oob":"query-yank","id":2}"#);
    assert_eq!(counts(&rig), (1, 1));
    rig.closes(Channel::Monitor);
    assert_eq!(counts(&rig), (0, 0));
}

#[test]
fn a_session_names_its_next_deadline() {
    let mut rig = Rig::ready_oob(config());
    assert_eq!(rig.vm.session().deadline(), None);
    let slow = rig.issue_within("query-block", secs(10));
    assert_eq!(rig.vm.session().deadline(), Some(at(secs(5))), "half of the deadline");
    rig.vm.disown(slow.id());
    assert_eq!(rig.vm.session().deadline(), None);
}

/// The lowest bits of the number count the synchronisations of the session.
#[test]
fn a_guest_agent_is_synchronised_with_the_number_of_its_session() {
    let session = Session::new(&Limits::default()).speaking(Dialect::GuestAgent, 7 << 32);
    let session = session.step(Moment::ORIGIN, session::Input::Opened, &mut |_| ());
    let number = (7 << 24) + 1;
    let question = format!(r#"{{"execute":"guest-sync-delimited","arguments":{{"id":{number}}}}}"#);
    assert_eq!(session.outgoing().strip_prefix(b"\xFF"), Some(question.as_bytes()));
}

#[test]
fn each_service_has_its_dialect() {
    assert_eq!((Service::GuestAgent.dialect(), Service::Qtest.dialect()), (Dialect::GuestAgent, Dialect::Qtest));
}

#[test]
fn prepared_descriptors_can_be_read() {
    let mut rig = Rig::new(config());
    assert!(rig.vm.prepared().descriptors.is_empty());
    rig.launch();
    assert_eq!(rig.vm.prepared().descriptors.len(), 2, "the monitor's and the console's");
}

#[test]
fn a_wait_for_the_end_returns_the_outcome() {
    let mut rig = Rig::ready(config());
    let end = rig.vm.wait_for_end(rig.now, secs(60).into()).expect("a wait that makes sense");
    assert_eq!(rig.vm.claim_end(end), None);
    let mark = rig.vm.mark();
    let event = rig.wait(&mark, [Wait::event("STOP")]);
    rig.happens("STOP");
    let hit = rig.vm.claim_wait(event).expect("the event came").expect("an event");
    assert_eq!(hit.into_end().map(drop), Err(qemu_machine_core::WaitError::FoundOther));
    rig.shutdown(Shutdown::default());
    let outcome = rig.dies(crate::rig::SIGTERM);
    assert_eq!(rig.vm.claim_end(end), Some(outcome));
    assert_eq!(rig.vm.claim_end(end), None, "the outcome is returned once");
}
