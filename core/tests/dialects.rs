//! Tests of unreadable messages in every dialect: they fail the command that they answer and no other, also if replies
//! have no id, or the command was disowned.

use crate::rig::{Rig, config, secs};
use qemu_machine_core::{
    Channel, CommandError, CommandId, Config, Descriptor, Dialect, FOREVER, Input, Limits, Payload, Peer,
    ProtocolError, State,
};

const LIMIT: usize = 100;

/// Returns an attached machine that is ready.
fn attached(dialect: Dialect) -> Rig {
    let mut limits = Limits::default();
    limits.message = LIMIT;
    let peer = Peer::Connected(Descriptor::new(()));
    let mut rig = Rig::launched(Config::attach(peer).speaking(dialect).limits(limits));
    if dialect == Dialect::GuestAgent {
        syncs(&mut rig);
    }
    assert_eq!(rig.vm.state(), State::Running);
    rig
}

fn take_text(rig: &mut Rig) -> String {
    let bytes = rig.vm.outgoing(Channel::Monitor).to_vec();
    rig.vm.sent(Channel::Monitor, bytes.len());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The agent repeats the number that it is asked for.
fn syncs(rig: &mut Rig) {
    let asked = take_text(rig);
    let number = asked.rsplit("\"id\":").next().unwrap().trim_end_matches('}');
    let answer = [b"\xff{\"return\": ".as_slice(), number.as_bytes(), b"}\n"].concat();
    rig.handle(Input::Received(Channel::Monitor, &answer));
}

fn answer(rig: &mut Rig, id: CommandId) -> Option<Result<String, CommandError>> {
    let answer = rig.vm.take(id)?;
    Some(answer.map(|payload: Payload| payload.as_str().to_owned()))
}

fn assert_broken(rig: &mut Rig, id: CommandId) {
    let answer = answer(rig, id);
    assert!(matches!(answer, Some(Err(CommandError::Broken(_)))), "{answer:?}");
}

#[test]
fn a_qtest_line_beyond_the_limit_fails_one_command() {
    let mut rig = attached(Dialect::Qtest);
    let lines = ["readb 1", "readb 2", "readb 3"];
    let ids = lines.map(|line| rig.vm.execute_line(rig.now, line, FOREVER).unwrap().id());
    rig.says(&"x".repeat(LIMIT + 1));
    assert_broken(&mut rig, ids[0]);
    rig.says("OK 0x2");
    rig.says("OK 0x3");
    assert_eq!(answer(&mut rig, ids[1]), Some(Ok("\"0x2\"".into())));
    assert_eq!(answer(&mut rig, ids[2]), Some(Ok("\"0x3\"".into())));
}

/// Old agents do not echo ids.
#[test]
fn an_unreadable_reply_of_an_agent_fails_one_command() {
    for bad in ["garbage", &"x".repeat(LIMIT + 1)] {
        let mut rig = attached(Dialect::GuestAgent);
        let ids = ["guest-a", "guest-b"].map(|name| rig.vm.execute(rig.now, &name, FOREVER).unwrap().id());
        assert!(take_text(&mut rig).contains("guest-a"));
        rig.says(bad);
        assert_broken(&mut rig, ids[0]);
        // The true reply to that command does not count as the reply to the next.
        rig.says(r#"{"return": "a"}"#);
        syncs(&mut rig);
        assert!(take_text(&mut rig).contains("guest-b"));
        rig.says(r#"{"return": "b"}"#);
        assert_eq!(answer(&mut rig, ids[1]), Some(Ok("\"b\"".into())));
    }
}

/// A command may time out because its reply is so large that it takes too long.
#[test]
fn a_late_reply_of_an_agent_beyond_the_limit_ends_nothing() {
    let mut rig = attached(Dialect::GuestAgent);
    let late = rig.vm.execute(rig.now, &"guest-file-read", secs(1).into()).unwrap().id();
    rig.pass(secs(1));
    assert!(matches!(answer(&mut rig, late), Some(Err(CommandError::TimedOut(..)))));
    rig.says(&"x".repeat(LIMIT + 1));
    assert_eq!((rig.vm.state(), rig.vm.session().counters().too_large), (State::Running, 1));
    syncs(&mut rig);
    let next = rig.vm.execute(rig.now, &"guest-ping", FOREVER).unwrap().id();
    rig.says(r#"{"return": {}}"#);
    assert_eq!(answer(&mut rig, next), Some(Ok("{}".into())));
}

/// Before the synchronization, a message beyond the limit was for another client.
#[test]
fn an_agent_may_begin_with_a_message_beyond_the_limit() {
    let peer = Peer::Connected(Descriptor::new(()));
    let mut limits = Limits::default();
    limits.message = LIMIT;
    let mut rig = Rig::launched(Config::attach(peer).speaking(Dialect::GuestAgent).limits(limits));
    rig.says(&"x".repeat(LIMIT + 1));
    syncs(&mut rig);
    assert_eq!(rig.vm.state(), State::Running);
}

/// If such an error counted as unmatched, the command would keep its place, and the commands behind it would wait for
/// ever.
#[test]
fn an_error_without_an_id_may_be_for_a_raw_command_that_was_disowned() {
    let mut rig = Rig::ready_oob(config());
    let raw = rig.issue_raw(r#"{"execute": "x"}"#);
    let depth = qemu_machine_core::session::Session::IN_BAND_DEPTH;
    let others = rig.issue_many(depth).1;
    assert_eq!(others.len(), depth, "the raw one, and all but the last of the others");
    rig.vm.disown(raw.id());
    rig.says(r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#);
    let counters = rig.vm.session().counters();
    assert_eq!((counters.late, counters.nameless), (1, 0));
    assert_eq!(rig.take_ids().len(), 1, "there is a place for the last one");
}

/// The other commands of a monitor are matched by their ids.
#[test]
fn garbage_of_a_monitor_fails_its_oldest_command() {
    let mut rig = Rig::ready(config());
    let (tickets, ids) = rig.issue_many(2);
    rig.says("garbage");
    let answer = rig.vm.take(tickets[0].id());
    assert!(matches!(answer, Some(Err(CommandError::Broken(ProtocolError::Malformed { .. })))), "{answer:?}");
    rig.replies(ids[1]);
    assert_eq!(rig.claim(&tickets[1]), Some(Ok(ids[1].into())));
}
