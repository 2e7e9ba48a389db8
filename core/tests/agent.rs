//! Tests of the guest agent dialect: it synchronizes despite stale output, and each reply reaches its own command. The
//! agent's messages are those of qemu-ga 7.2.

use crate::rig::{Rig, secs};
use proptest::collection::vec;
use proptest::prelude::*;
use qemu_machine_core::{
    Address, Channel, CommandError, Config, Deadline, Dialect, FOREVER, Input, LaunchError, LaunchFailure, Limits,
    Liveness, Machine, Peer, Phase, Progress, State, Ticket, Value, json,
};

/// The error of qemu-ga for a delimiter, which begins no JSON value (measured with QEMU 7.2.22).
const STRAY: &str = r#"{"error": {"class": "GenericError", "desc": "JSON parse error, stray '\uFFFD'"}}"#;

const REFUSAL: &str = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n";

fn config() -> Config {
    Config::attach(Peer::Dial(Address::unix("/agent"))).speaking(Dialect::GuestAgent)
}

/// Returns a machine that is connected, and has asked for the number 1.
fn asked() -> Rig {
    let mut rig = Rig::launched(config());
    assert_eq!(sent(&mut rig), ask(1));
    rig
}

/// Returns a machine that is synchronized.
fn ready() -> Rig {
    let mut rig = asked();
    hears(&mut rig, &answer(1));
    assert_eq!(rig.vm.state(), State::Running);
    rig
}

/// Returns the request for a number. The delimiter is written as `~`, here and below.
fn ask(number: u64) -> String {
    format!("~{}", ask_in_step(number))
}

fn ask_in_step(number: u64) -> String {
    format!(r#"{{"execute":"guest-sync-delimited","arguments":{{"id":{number}}}}}"#)
}

/// Returns the answer of qemu-ga to it.
fn answer(number: u64) -> String {
    format!("{STRAY}\n~{{\"return\": {number}}}\n")
}

fn bytes(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| if byte == b'~' { 0xff } else { byte }).collect()
}

fn hears(rig: &mut Rig, text: &str) {
    rig.handle(Input::Received(Channel::Monitor, &bytes(text)));
}

fn sent(rig: &mut Rig) -> String {
    let bytes = rig.vm.outgoing(Channel::Monitor).to_vec();
    rig.vm.sent(Channel::Monitor, bytes.len());
    bytes.into_iter().map(|byte| if byte == 0xff { '~' } else { char::from(byte) }).collect()
}

fn stale(rig: &Rig) -> u64 {
    rig.vm.session().counters().stale
}

fn claim(rig: &mut Rig, ticket: &Ticket<&'static str>) -> Option<Result<Value, CommandError>> {
    rig.vm.claim(ticket)
}

#[test]
fn g20_an_agent_is_ready_when_it_repeats_our_number_and_not_before() {
    let mut rig = asked();
    let early = rig.issue("guest-ping");
    for said in ["{\"return\": 1}\n", "{\"return\": {}, \"id\": 0}\n", "garbage\n", STRAY, "\n"] {
        hears(&mut rig, said);
        assert_eq!((rig.vm.state(), sent(&mut rig)), (State::Launching(Phase::Syncing), String::new()), "{said}");
    }
    hears(&mut rig, "~{\"return\": 1}\n");
    assert_eq!(sent(&mut rig), r#"{"execute":"guest-ping"}"#);
    assert_eq!((rig.vm.state(), stale(&rig), claim(&mut rig, &early)), (State::Running, 4, None));
}

#[test]
fn g20_a_message_with_another_number_is_ignored() {
    let mut rig = asked();
    for other in ["{\"return\": 0}", "{\"return\": -1}", "{\"return\": {}}", "{\"return\": \"1\"}", STRAY, "nonsense"] {
        hears(&mut rig, &format!("~{other}\n"));
        assert_eq!(rig.vm.state(), State::Launching(Phase::Syncing), "{other}");
    }
    hears(&mut rig, "~{\"return\": 1}\n");
    assert_eq!((rig.vm.state(), stale(&rig)), (State::Running, 6));
}

#[test]
fn g20_a_delimiter_ends_an_incomplete_message() {
    for garbage in ["{\"return\": \"half ", "{\n[[[", "text ~~ text ~", "~{\"ret", "~{\"return\": 1 ", "\\\"{"] {
        let mut rig = asked();
        hears(&mut rig, garbage);
        hears(&mut rig, "~{\"return\": 1}\n");
        assert_eq!(rig.vm.state(), State::Running, "{garbage}");
    }
}

/// Agents get no ids to echo.
#[test]
fn a_reply_without_an_id_belongs_to_the_command_in_flight() {
    let mut rig = ready();
    let [first, second] = ["guest-ping", "guest-info"].map(|name| rig.issue(name));
    assert_eq!(sent(&mut rig), r#"{"execute":"guest-ping"}"#, "one at a time");
    hears(&mut rig, "{\"return\": 1}\n");
    assert_eq!(sent(&mut rig), r#"{"execute":"guest-info"}"#);
    hears(&mut rig, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n");
    assert_eq!(claim(&mut rig, &first), Some(Ok(json!(1))));
    let Some(Err(CommandError::Refused(refusal))) = claim(&mut rig, &second) else { panic!("it was refused") };
    assert_eq!(refusal.to_string(), "`guest-info` was refused: GenericError: no");
}

/// An unreadable message may have been anything: the reply may still come, and must not reach the next command.
#[test]
fn an_unreadable_message_fails_the_command_in_flight_and_synchronizes_again() {
    for reply in ["", "{\"return\": 1}\n"] {
        let mut rig = ready();
        let [first, second] = ["guest-ping", "guest-info"].map(|name| rig.issue(name));
        sent(&mut rig);
        hears(&mut rig, &format!("{{\"return\": inf}}\n{reply}"));
        assert!(matches!(claim(&mut rig, &first), Some(Err(CommandError::Broken(_)))));
        assert_eq!(sent(&mut rig), ask(2));
        hears(&mut rig, &answer(2));
        assert_eq!(sent(&mut rig), r#"{"execute":"guest-info"}"#);
        hears(&mut rig, "{\"return\": 2}\n");
        assert_eq!(claim(&mut rig, &second), Some(Ok(json!(2))));
    }
}

#[test]
fn g20_the_late_reply_of_a_command_that_timed_out_is_dropped() {
    let mut rig = ready();
    let slow = rig.issue_within("guest-slow", secs(1));
    sent(&mut rig);
    let before = stale(&rig);
    rig.pass(secs(1));
    assert_eq!(claim(&mut rig, &slow), Some(Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown))));
    assert_eq!(sent(&mut rig), ask(2));
    let next = rig.issue("guest-ping");
    hears(&mut rig, "{\"return\": \"late\", \"id\": 0}\n");
    hears(&mut rig, "{\"return\": \"late and nameless\"}\n");
    assert_eq!((claim(&mut rig, &next), sent(&mut rig)), (None, String::new()), "not synchronized yet");
    hears(&mut rig, &answer(2));
    assert_eq!(sent(&mut rig), r#"{"execute":"guest-ping"}"#);
    hears(&mut rig, "{\"return\": \"in time\"}\n");
    assert_eq!((claim(&mut rig, &next), stale(&rig)), (Some(Ok(json!("in time"))), before + 3));
}

#[test]
fn the_reply_of_a_disowned_command_is_dropped() {
    let mut rig = ready();
    let [on_the_wire, waiting, wanted] = ["a", "b", "c"].map(|name| rig.issue(name));
    assert_eq!(sent(&mut rig), r#"{"execute":"a"}"#);
    for disowned in [&waiting, &on_the_wire] {
        rig.vm.disown(disowned.id());
    }
    assert_eq!(sent(&mut rig), ask(2));
    hears(&mut rig, "{\"return\": \"late\", \"id\": 0}\n");
    hears(&mut rig, &answer(2));
    assert_eq!(sent(&mut rig), r#"{"execute":"c"}"#, "the unsent disowned command is not sent");
    hears(&mut rig, "{\"return\": 3}\n");
    assert_eq!(claim(&mut rig, &wanted), Some(Ok(json!(3))));
}

/// No delimiter precedes the number: the agent would answer it with an error, which would count as a refusal.
#[test]
fn g20_a_command_without_a_success_reply_succeeds_when_the_number_after_it_is_repeated() {
    let mut rig = ready();
    let [silent, next] = ["guest-shutdown", "guest-ping"].map(|name| rig.issue(name));
    assert_eq!(sent(&mut rig), format!(r#"{{"execute":"guest-shutdown"}}{}"#, ask_in_step(2)));
    hears(&mut rig, "~{\"return\": 1}\n");
    assert_eq!(claim(&mut rig, &silent), None, "not our number");
    hears(&mut rig, "~{\"return\": 2}\n");
    assert_eq!(claim(&mut rig, &silent), Some(Ok(json!({}))));
    assert_eq!(sent(&mut rig), r#"{"execute":"guest-ping"}"#);
    hears(&mut rig, "{\"return\": {}}\n");
    assert_eq!(claim(&mut rig, &next), Some(Ok(json!({}))));
}

/// The reply to a command that the caller wrote is the whole message, as of any other.
#[test]
fn g20_a_raw_command_without_a_success_reply_succeeds_in_the_same_way() {
    let mut rig = ready();
    let silent = rig.issue_raw(r#"{"execute": "guest-\u0073hutdown"}"#);
    assert_eq!(sent(&mut rig), format!(r#"{{"execute": "guest-\u0073hutdown"}}{}"#, ask_in_step(2)));
    hears(&mut rig, "~{\"return\": 2}\n");
    assert_eq!(rig.claim_raw(&silent), Some(Ok(json!({"return": {}}))));
    let other = rig.issue_raw(r#"{"execute": "guest-ping"}"#);
    assert_eq!(sent(&mut rig), r#"{"execute": "guest-ping"}"#);
    hears(&mut rig, "{\"return\": {}}\n");
    assert_eq!(rig.claim_raw(&other), Some(Ok(json!({"return": {}}))));
}

#[test]
fn a_command_without_a_success_reply_may_be_refused() {
    let mut rig = ready();
    let [first, second, next] = ["guest-shutdown", "guest-suspend-ram", "guest-ping"].map(|name| rig.issue(name));
    sent(&mut rig);
    hears(&mut rig, REFUSAL);
    assert_eq!(claim(&mut rig, &first), None, "the number after it is on its way");
    hears(&mut rig, "~{\"return\": 2}\n");
    assert!(matches!(claim(&mut rig, &first), Some(Err(CommandError::Refused(_)))));
    assert_eq!(sent(&mut rig), format!(r#"{{"execute":"guest-suspend-ram"}}{}"#, ask_in_step(3)));
    assert_eq!(claim(&mut rig, &second), None);
    hears(&mut rig, "~{\"return\": 3}\n");
    assert_eq!(claim(&mut rig, &second), Some(Ok(json!({}))));
    hears(&mut rig, "{\"return\": {}}\n");
    assert_eq!(claim(&mut rig, &next), Some(Ok(json!({}))));
}

/// The agent has answered: whatever happens to the number behind the command, the refusal is the reply. The commands that
/// wait are sent, and none takes a late number for its own reply.
#[test]
fn a_refusal_of_a_command_without_a_success_reply_is_not_lost() {
    type End<'a> = &'a dyn Fn(&mut Rig);
    let ends: [(&str, Deadline, End); 4] = [
        ("the deadline", secs(3).into(), &|rig| rig.pass(secs(3))),
        ("the time of the request", FOREVER, &|rig| rig.pass(secs(5))),
        ("another error", FOREVER, &|rig| hears(rig, REFUSAL)),
        ("a line that is no JSON", FOREVER, &|rig| hears(rig, "{\"return\": x}\n")),
    ];
    for (what, deadline, end) in ends {
        let mut rig = ready();
        let silent = rig.vm.execute(rig.now, &"guest-shutdown", deadline).expect("it runs");
        let next = rig.issue("guest-ping");
        sent(&mut rig);
        hears(&mut rig, REFUSAL);
        assert_eq!(claim(&mut rig, &silent), None, "{what}");
        end(&mut rig);
        let reply = claim(&mut rig, &silent);
        assert!(matches!(reply, Some(Err(CommandError::Refused(_)))), "{what}: {reply:?}");
        if sent(&mut rig) == ask(3) {
            hears(&mut rig, &format!("~{{\"return\": 2}}\n{}", answer(3)));
            assert_eq!(sent(&mut rig), r#"{"execute":"guest-ping"}"#, "{what}");
        }
        hears(&mut rig, "~{\"return\": 2}\n{\"return\": {}}\n");
        assert_eq!(claim(&mut rig, &next), Some(Ok(json!({}))), "{what}");
    }
}

#[test]
fn a_refusal_of_a_command_without_a_success_reply_is_delivered_at_the_end_of_the_connection() {
    let mut rig = ready();
    let silent = rig.issue("guest-shutdown");
    sent(&mut rig);
    hears(&mut rig, REFUSAL);
    rig.closes(Channel::Monitor);
    assert!(matches!(claim(&mut rig, &silent), Some(Err(CommandError::Refused(_)))));
}

/// The caller of a raw command has the whole line, and one that disowned its command has nothing.
#[test]
fn a_refusal_that_is_held_is_the_line_of_a_raw_command_and_nothing_after_a_disowning() {
    let mut rig = ready();
    let raw = rig.issue_raw(r#"{"execute": "guest-shutdown"}"#);
    sent(&mut rig);
    hears(&mut rig, REFUSAL);
    hears(&mut rig, "~{\"return\": 2}\n");
    assert_eq!(rig.claim_raw(&raw), Some(Ok(json!({"error": {"class": "GenericError", "desc": "no"}}))));
    let silent = rig.issue("guest-shutdown");
    sent(&mut rig);
    hears(&mut rig, REFUSAL);
    rig.vm.disown(silent.id());
    assert_eq!(sent(&mut rig), ask(4));
    let next = rig.issue("guest-shutdown");
    hears(&mut rig, "~{\"return\": 3}\n~{\"return\": 4}\n");
    assert_eq!(sent(&mut rig), format!(r#"{{"execute":"guest-shutdown"}}{}"#, ask_in_step(5)));
    hears(&mut rig, "~{\"return\": 5}\n");
    assert_eq!(claim(&mut rig, &next), Some(Ok(json!({}))));
}

/// The guest may be off, or QEMU may have crashed. Only the machine itself shows which.
#[test]
fn a_close_without_a_reply_is_no_success() {
    let mut rig = ready();
    let silent = rig.issue("guest-shutdown");
    rig.closes(Channel::Monitor);
    assert_eq!(claim(&mut rig, &silent), Some(Err(CommandError::Disconnected(Progress::Sent))));
}

#[test]
fn g20_a_silent_agent_is_asked_again_until_the_deadline() {
    let mut rig = Rig::launched(config().launch_within(secs(12)));
    assert_eq!(sent(&mut rig), ask(1));
    for number in [2, 3] {
        rig.pass_exactly(secs(5));
        assert_eq!(sent(&mut rig), ask(number));
    }
    hears(&mut rig, "~{\"return\": 1}\n~{\"return\": 2}\n");
    assert_eq!(rig.vm.state(), State::Launching(Phase::Syncing), "only the last number counts");
    rig.pass(secs(2));
    let Some(Err(LaunchError::Failed { failure, .. })) = rig.vm.launched() else { panic!("{:?}", rig.vm) };
    assert_eq!(failure, LaunchFailure::TimedOut(Phase::Syncing));
    assert_eq!(rig.vm.deadline(), None);
}

#[test]
fn a_silent_agent_is_asked_again_only_while_a_command_waits() {
    let mut rig = ready();
    let _ = rig.issue_within("guest-slow", secs(1));
    sent(&mut rig);
    rig.pass(secs(1));
    assert_eq!(sent(&mut rig), ask(2));
    assert_eq!(rig.vm.deadline(), None, "no command waits");
    rig.pass(secs(60));
    assert_eq!(sent(&mut rig), "");
    let wanted = rig.issue("guest-ping");
    assert_eq!(sent(&mut rig), ask(3), "the last request is too long ago");
    rig.pass(secs(5) - core::time::Duration::from_nanos(1));
    assert_eq!(sent(&mut rig), "");
    rig.pass(core::time::Duration::from_nanos(1));
    assert_eq!(sent(&mut rig), ask(4));
    hears(&mut rig, &answer(4));
    hears(&mut rig, "{\"return\": {}}\n");
    assert_eq!(claim(&mut rig, &wanted), Some(Ok(json!({}))));
}

/// A stale message was for another client, so its length does not matter.
#[test]
fn g20_a_stale_message_beyond_the_limit_is_skipped() {
    let mut limits = Limits::default();
    limits.message = 64;
    let mut rig = Rig::launched(config().limits(limits));
    let long = "x".repeat(1000);
    hears(&mut rig, &format!("{long}\n~{long}\n~{{\"return\": 1}}\n"));
    assert_eq!((rig.vm.state(), rig.vm.session().counters().too_large), (State::Running, 2));
    sent(&mut rig);
    let _ = rig.issue_within("guest-slow", secs(1));
    rig.pass(secs(1));
    let next = rig.issue("guest-ping");
    hears(&mut rig, &format!("{long}\n~{{\"return\": 2}}\n{{\"return\": {{}}}}\n"));
    assert_eq!(claim(&mut rig, &next), Some(Ok(json!({}))));
}

/// Returns the answers and counters of a whole conversation that is received in these pieces.
fn conversation(pieces: &[&[u8]]) -> String {
    let mut rig = asked();
    let tickets = ["guest-ping", "guest-shutdown", "guest-info", "guest-sync"].map(|name| rig.issue(name));
    for piece in pieces {
        rig.handle(Input::Received(Channel::Monitor, piece));
    }
    let answers = tickets.map(|ticket| claim(&mut rig, &ticket));
    format!("{answers:?} {:?} {:?}", rig.vm.session().counters(), rig.vm.state())
}

#[test]
fn g20_the_result_does_not_depend_on_how_the_bytes_are_split() {
    let said = [
        "{\"return\": \"stale\", \"id\": 0}\n{\"half\": ",
        &answer(1),
        "{\"return\": {}}\n~{\"return\": 7}\n~{\"return\": 2}\n\n",
        "{\"return\": inf}\n{\"return\": \"~{\"return\": 7}\n~{\"return\": 3}\n{\"return\": []}\n",
    ]
    .concat();
    let said = bytes(&said);
    let whole = conversation(&[&said]);
    assert!(
        whole.contains("Err(Broken(Malformed { ") && whole.contains("Array []") && !whole.contains("None"),
        "{whole}"
    );
    assert_eq!(whole, conversation(&said.chunks(1).collect::<Vec<_>>()), "byte by byte");
    for cut in 0..said.len() {
        let (before, behind) = said.split_at(cut);
        assert_eq!(whole, conversation(&[before, behind]), "cut at {cut}");
    }
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "~",
        "\n",
        "{",
        "}",
        "\"",
        "{\"return\": ",
        "1",
        "2",
        "{\"return\": {}}\n",
        "{\"return\": {}, \"id\": 0}\n",
        "~{\"return\": 1}\n",
        "~{\"return\": 2}\n",
        "~{\"return\": 3}\n",
        "{\"event\": \"X\"}\n",
        STRAY,
    ];
    prop_oneof![proptest::sample::select(known.to_vec()).prop_map(bytes), vec(any::<u8>(), 0..20)]
}

proptest! {
    /// Nothing panics, and each command has exactly one answer when the connection is closed.
    #[test]
    fn any_bytes_of_an_agent_are_handled(said in vec((pieces(), 0..4_u64), 0..40)) {
        let mut rig = Rig::launched(config().launch_within(FOREVER));
        let mut tickets = Vec::new();
        for (piece, what) in said {
            rig.handle(Input::Received(Channel::Monitor, &piece));
            match what {
                0 => tickets.push(rig.issue_within("guest-ping", secs(7))),
                1 => tickets.push(rig.issue("guest-shutdown")),
                2 => rig.pass(secs(3)),
                _ => {}
            }
            sent(&mut rig);
        }
        rig.closes(Channel::Monitor);
        for ticket in tickets {
            prop_assert_eq!(rig.times_answered(ticket.id()), 1);
            prop_assert!(Machine::claim(&mut rig.vm, &ticket).is_some());
        }
    }
}
