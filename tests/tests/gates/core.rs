//! Tests of the allocations of the core, and of the bytes that it examines, for a command, an event and a long reply.

use std::time::Duration;

use qemu_machine_core::wire::{Frame, Framer, Message};
use qemu_machine_core::{
    Channel, Config, Deadline, Descriptor, Effect, Input, Limits, Machine, Mark, Moment, Peer, Prepared,
    SubscriptionId, Wait, WithRawReply, json,
};
use qemu_machine_tests::null::{EVENTS, GREETING, STATUS, schema_of};

use super::allocations_for_each;

const NOW: Moment = Moment::ORIGIN;
const LONG: Deadline = Deadline::after(Duration::from_secs(60));

/// An attached machine whose monitor is ready.
#[deny(clippy::wildcard_enum_match_arm, reason = "a driver that forgets an effect does not compile")]
fn ready() -> Machine {
    let mut machine =
        Machine::new(Config::attach(Peer::Connected(Descriptor::new(())))).expect("the configuration is valid");
    machine.launch(NOW).expect("the launch succeeds");
    while let Some(effect) = machine.poll_effect() {
        match effect {
            Effect::Prepare(_) => machine.handle(NOW, Input::Prepared(Prepared::default())),
            Effect::Open(channel) => machine.handle(NOW, Input::Opened(channel)),
            Effect::Spawn(_)
            | Effect::Close(_)
            | Effect::Signal(_)
            | Effect::ReadLog { .. }
            | Effect::Detach
            | Effect::Companion(..)
            | Effect::Remove => unreachable!("an attached machine that becomes ready needs no {effect:?}"),
        }
    }
    receive(&mut machine, GREETING);
    send(&mut machine);
    receive(&mut machine, b"{\"return\": {}, \"id\": 0}\r\n");
    assert_eq!(machine.launched(), Some(Ok(())));
    machine
}

fn receive(machine: &mut Machine, bytes: &[u8]) {
    machine.handle(NOW, Input::Received(Channel::Monitor, bytes));
    while machine.poll_notice().is_some() {}
}

/// Sends the outgoing bytes, and returns the id of their only command: its last digit.
fn send(machine: &mut Machine) -> u8 {
    let request = machine.outgoing(Channel::Monitor);
    let (length, id) = (request.len(), request[request.len() - 2]);
    machine.sent(Channel::Monitor, length);
    id
}

/// A reply, and the position of its id.
fn reply(value: &[u8]) -> (Vec<u8>, usize) {
    let mut reply = [b"{\"return\": ", value, b", \"id\": "].concat();
    let id = reply.len();
    reply.extend_from_slice(b"0}\r\n");
    (reply, id)
}

/// Executes one command, from the request to reading its reply in place.
fn command(machine: &mut Machine, (reply, id): &mut (Vec<u8>, usize)) {
    let ticket = machine.execute(NOW, &WithRawReply("query-status"), LONG).expect("the command is accepted");
    reply[*id] = send(machine);
    receive(machine, reply);
    let payload = machine.claim(&ticket).expect("the monitor answers").expect("it is not refused");
    assert!(reply[b"{\"return\": ".len()..].starts_with(payload.as_bytes()));
}

#[test]
fn a_command_whose_reply_is_read_in_place_allocates_nothing() {
    let (mut machine, mut reply) = (ready(), reply(STATUS));
    (0..100).for_each(|_| command(&mut machine, &mut reply));
    let each = allocations_for_each(1000, || command(&mut machine, &mut reply));
    assert_eq!(each.to_string(), "0");
}

/// The two allocations are the buffer, which is freed with the reply, and its shared handle. For a reply in several
/// reads the buffer doubles.
#[test]
fn a_long_reply_read_in_place_allocates_twice() {
    let (mut machine, mut reply) = (ready(), reply(&schema_of(207 << 10)));
    (0..10).for_each(|_| command(&mut machine, &mut reply));
    let each = allocations_for_each(10, || command(&mut machine, &mut reply));
    assert!(each <= 2.0, "{each}");
}

#[test]
fn an_event_that_is_only_parsed_allocates_nothing() {
    let mut framer = Framer::new(64 << 10);
    let mut look = |event| {
        framer.push(event);
        let Some(Frame::Message(frame)) = framer.next_frame() else { unreachable!("it is a message") };
        assert!(matches!(Message::read(&frame), Ok(Message::Event(_))));
    };
    EVENTS.into_iter().for_each(&mut look);
    for event in EVENTS {
        assert_eq!(allocations_for_each(100, || look(event)).to_string(), "0");
    }
}

fn events(machine: &mut Machine, flood: &[u8], subscription: Option<SubscriptionId>) {
    receive(machine, flood);
    if let Some(subscription) = subscription {
        let taken = std::iter::from_fn(|| machine.next_event(subscription)).count();
        assert_eq!(taken, FLOOD);
    }
}

/// The number of events in 64 KiB, the size of one read.
const FLOOD: usize = 340;

fn flood() -> Vec<u8> {
    (0..FLOOD).flat_map(|number| EVENTS[number % 2]).copied().collect()
}

/// A retained event is copied once, for the history and a subscription together: without the copy it would keep the
/// whole read alive. The excess over one is the allocation for that read.
#[test]
fn an_event_that_is_retained_allocates_once() {
    let flood = flood();
    for subscribed in [false, true] {
        let mut machine = ready();
        let subscription = subscribed
            .then(|| machine.subscribe(&Mark::default(), [Wait::any_event()]).expect("the filter names events"));
        (0..50).for_each(|_| events(&mut machine, &flood, subscription));
        let each = allocations_for_each(50, || events(&mut machine, &flood, subscription)) / FLOOD as f64;
        assert!((1.0..=1.03).contains(&each), "{each}, with a subscription: {subscribed}");
    }
}

/// The bound is the limit of the history, and a quarter for the queue while it grows. A subscription shares its events
/// with the history and adds only its queue. Of tiny events, most of the memory is overhead.
#[test]
fn no_flood_of_events_takes_more_memory_than_its_bounds() {
    let tiny = b"{\"event\":\"A\"}\r\n".repeat(FLOOD);
    for (flood, subscribed, most) in
        [(&flood(), false, 1.4), (&flood(), true, 1.7), (&tiny, false, 1.4), (&tiny, true, 2.0)]
    {
        let mut machine = ready();
        let subscription = subscribed
            .then(|| machine.subscribe(&Mark::default(), [Wait::any_event()]).expect("the filter names events"));
        let counted = allocation_counter::measure(|| {
            (0..300_000 / FLOOD).for_each(|_| receive(&mut machine, flood));
        });
        let forgotten = machine.history().first();
        assert_eq!(machine.history().end() as usize, 300_000 / FLOOD * FLOOD);
        assert!(forgotten > 290_000, "evicted {forgotten}");
        let missed = subscription.map(|subscription| machine.missed_events(subscription));
        assert!(missed.is_none_or(|missed| missed > 290_000), "missed {missed:?}");
        let limit = Limits::default().events as f64;
        println!("{} of the limit, with a subscription: {subscribed}", counted.bytes_max as f64 / limit);
        assert!(
            counted.bytes_max as f64 <= most * limit,
            "{} bytes, with a subscription: {subscribed}",
            counted.bytes_max
        );
    }
}

/// An idle machine holds no buffer of the last long reply.
#[test]
fn the_memory_of_a_long_reply_is_freed_with_it() {
    let (mut machine, mut reply) = (ready(), reply(&schema_of(1 << 20)));
    let counted = allocation_counter::measure(|| command(&mut machine, &mut reply));
    assert!(counted.bytes_max >= 1 << 20, "{}", counted.bytes_max);
    assert!(counted.bytes_current <= 4 << 10, "{} bytes are left", counted.bytes_current);
}

#[test]
fn each_byte_is_examined_once_however_the_reads_are_cut() {
    let (reply, _) = reply(&schema_of(16 << 20));
    for piece in [64, 1000, 64 << 10] {
        let mut framer = Framer::new(64 << 20);
        let mut frames = 0;
        for piece in reply.chunks(piece) {
            framer.push(piece);
            frames +=
                std::iter::from_fn(|| framer.next_frame()).filter(|frame| matches!(frame, Frame::Message(_))).count();
        }
        assert_eq!((frames, framer.examined()), (1, reply.len() as u64), "in pieces of {piece}");
    }
}

/// Small events and replies arrive together with large messages, so that they share a receive buffer.
#[test]
fn g29_small_messages_beside_large_ones_retain_little_memory() {
    const LARGE: usize = 4 << 20;
    const LIMIT: i64 = 1 << 20;
    let large = [b"{\"return\": \"".as_slice(), &vec![b'x'; LARGE], b"\", \"id\": 77}\r\n"].concat();
    let event = |size: usize| {
        format!("{{\"event\": \"SMALL\", \"data\": {{\"text\": \"{}\"}}}}\r\n", "y".repeat(size)).into_bytes()
    };
    let mut machine = ready();
    let queue = machine.subscribe(&Mark::default(), [Wait::event("SMALL")]).expect("a filter is given");
    let mut tickets = Vec::new();
    let kept = allocation_counter::measure(|| {
        for size in [0, 60, 4_000, 4_096, 4_200, 20_000, 65_000, 200_000] {
            tickets.push(machine.execute(NOW, &WithRawReply("query-status"), LONG).expect("it is accepted"));
            let (mut reply, id) = reply(STATUS);
            reply[id] = send(&mut machine);
            receive(&mut machine, &[&*large, &event(size), &reply, &large, &event(size)].concat());
        }
    });
    assert!((400_000..2 * LIMIT).contains(&kept.bytes_current), "{kept:?}");
    assert!(tickets.iter().all(|ticket| machine.claim(ticket).is_some_and(|reply| reply.is_ok())));
    assert_eq!(std::iter::from_fn(|| machine.next_event(queue)).count(), 16);
    // The history keeps no event as large as the last two, and counts them.
    let mark = Mark::default();
    let wait =
        machine.wait(NOW, &mark, [Wait::event("SMALL").with(json!({"text": "none"}))], Deadline::after(Duration::ZERO));
    assert!(machine.claim_wait(wait.expect("it is accepted")).is_some_and(|result| result.is_err()));
    assert_eq!(machine.history().end() - machine.history().first(), 16);
    assert_eq!((machine.history().get(13).is_some(), machine.history().get(14).is_some()), (true, false));
}
