//! Stories of subscriptions: each has its own queue, read with and without waiting. They run on every row, also in the
//! simulated world.

use qemu_machine_core::{Event, Limits, Mark, Shutdown, Wait, json};
use qemu_machine_tests::scripted::Script;

use crate::harness::{Harness, Transcript};
use crate::rows;
use crate::scripted::{LONG, SHORT, config, launched};

/// An event as the monitor sends it.
const TICK: &str = r#"{"event": "TICK"}"#;

fn row_22_queued_events_come_at_once_and_oldest_first<H: Harness>() -> Transcript {
    let script = Script::launched().hear().event("A").event("B").event("C").reply("1").hear().event("D").reply("2");
    let (mut told, mut machine) = launched::<H>(script.obey());
    let mark = machine.mark();
    let mut events = machine.subscribe(&mark, &[Wait::any_event()]).expect("the filter names events");
    told.queued(&machine.queued(&mut events));
    for command in ["first", "second"] {
        told.reply(&machine.execute(command, LONG));
        told.queued(&machine.queued(&mut events));
    }
    told.queued(&machine.queued(&mut events));
    told.outcome(machine.shutdown(Shutdown::default()));
    told
}

fn row_22_the_next_event_is_waited_for<H: Harness>() -> Transcript {
    let script = Script::launched().hear().reply("{}").event("A").event("OTHER").event("B").obey();
    let (mut told, mut machine) = launched::<H>(script);
    let mark = machine.mark();
    let mut events = machine.subscribe(&mark, &[Wait::event("A"), Wait::event("B")]).expect("the filter names events");
    told.received(machine.next(&mut events, SHORT.into()));
    told.reply(&machine.execute("act", LONG));
    for _ in 0..2 {
        told.received(machine.next(&mut events, LONG));
    }
    told.received(machine.next(&mut events, SHORT.into()));
    told.outcome(machine.kill());
    told
}

fn row_22_the_past_comes_before_the_present<H: Harness>() -> Transcript {
    let script = Script::launched().hear().event("OLD").reply("1").hear().event("NEW").reply("2").obey();
    let (mut told, mut machine) = launched::<H>(script);
    told.reply(&machine.execute("first", LONG));
    let mut events = machine.subscribe(&Mark::default(), &[Wait::any_event()]).expect("the filter names events");
    told.reply(&machine.execute("second", LONG));
    told.received(machine.next(&mut events, LONG));
    told.queued(&machine.queued(&mut events));
    told.outcome(machine.kill());
    told
}

fn row_22_queued_events_come_before_the_end<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().hear().event("A").event("B").exit(3));
    let mark = machine.mark();
    let mut events = machine.subscribe(&mark, &[Wait::any_event()]).expect("the filter names events");
    told.reply(&machine.execute("deadly", LONG));
    told.outcome(machine.wait(LONG));
    for _ in 0..3 {
        told.received(machine.next(&mut events, LONG));
    }
    told
}

fn row_34_subscriptions_have_filters_of_their_own<H: Harness>() -> Transcript {
    let mut script = Script::launched().hear();
    for (name, data) in [("A", 1), ("B", 1), ("A", 2), ("C", 2)] {
        script = script.say(&format!("{{\"event\": \"{name}\", \"data\": {{\"n\": {data}}}}}\r\n"));
    }
    let (mut told, mut machine) = launched::<H>(script.reply("{}").obey());
    let mark = machine.mark();
    let second = Wait::any_event().with(json!({"n": 2}));
    let filters = [vec![Wait::event("A")], vec![Wait::event("C"), Wait::event("B")], vec![second]];
    let subscriptions = filters.map(|filter| machine.subscribe(&mark, &filter).expect("the filter names events"));
    told.reply(&machine.execute("act", LONG));
    for mut events in subscriptions {
        told.queued(&machine.queued(&mut events));
    }
    told.outcome(machine.shutdown(Shutdown::default()));
    told
}

fn row_34_a_slow_subscription_counts_the_events_that_it_missed<H: Harness>() -> Transcript {
    let line = format!("{TICK}\r\n");
    let script = (0..5).fold(Script::launched(), |script, _| script.hear().say(&line).reply("{}")).obey();
    let mut limits = Limits::default();
    limits.subscription = 2 * (TICK.len() + Event::OVERHEAD);
    let mut told = Transcript::default();
    let mut machine =
        told.launched(H::launch(config(script).limits(limits))).expect("the script greets and negotiates");
    let mark = machine.mark();
    let [mut quick, mut slow] =
        [(); 2].map(|()| machine.subscribe(&mark, &[Wait::event("TICK")]).expect("the filter names events"));
    for _ in 0..5 {
        told.reply(&machine.execute("tick", LONG));
        told.received(machine.next(&mut quick, LONG));
    }
    for events in [&mut quick, &mut slow] {
        told.note(format!("missed: {}", machine.missed(events)));
        told.queued(&machine.queued(events));
    }
    told.outcome(machine.kill());
    told
}

fn row_34_an_ended_subscription_costs_the_other_nothing<H: Harness>() -> Transcript {
    let script = Script::launched().hear().event("A").reply("{}").event("B").obey();
    let (mut told, mut machine) = launched::<H>(script);
    let mark = machine.mark();
    let [one, mut other] =
        [(); 2].map(|()| machine.subscribe(&mark, &[Wait::any_event()]).expect("the filter names events"));
    told.reply(&machine.execute("act", LONG));
    machine.unsubscribe(one);
    for _ in 0..2 {
        told.received(machine.next(&mut other, LONG));
    }
    told.outcome(machine.kill());
    told
}

fn row_34_only_events_can_be_subscribed_to<H: Harness>() -> Transcript {
    let mut limits = Limits::default();
    limits.subscriptions = 1;
    let mut told = Transcript::default();
    let config = config(Script::launched().obey()).limits(limits);
    let mut machine = told.launched(H::launch(config)).expect("the script greets and negotiates");
    for filter in [vec![], vec![Wait::any_event(), Wait::end()], vec![Wait::text("tty", "login: ")]] {
        told.refused(machine.subscribe(&Mark::default(), &filter));
    }
    let first = machine.subscribe(&Mark::default(), &[Wait::any_event()]);
    told.refused(machine.subscribe(&Mark::default(), &[Wait::any_event()]));
    machine.unsubscribe(first.expect("there is room for one"));
    told.note(machine.subscribe(&Mark::default(), &[Wait::any_event()]).is_ok());
    told.outcome(machine.kill());
    told
}

/// The stories, each with its transcript on every row.
macro_rules! stories {
    ($harness:ty) => {
        crate::each! { $harness:
            row_22_queued_events_come_at_once_and_oldest_first [
                "launched", "queued: []", "reply: 1", "queued: [A, B, C]", "reply: 2", "queued: [D]", "queued: []",
                "end: ended by the caller (quit)", "end: exit status 0",
            ]
            row_22_the_next_event_is_waited_for [
                "launched", "the deadline passed before the wait found anything", "reply: {}",
                "received: A", "received: B", "the deadline passed before the wait found anything",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            row_22_the_past_comes_before_the_present [
                "launched", "reply: 1", "reply: 2", "received: OLD", "queued: [NEW]",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            row_22_queued_events_come_before_the_end [
                "launched", "no reply: the monitor was closed after the command was sent",
                "end: QEMU exited (status 3)", "end: exit status 3", "end: 1 without a reply",
                "received: A", "received: B", "the machine ended first",
                "end: QEMU exited (status 3)", "end: exit status 3", "end: 1 without a reply",
            ]
            row_34_subscriptions_have_filters_of_their_own [
                "launched", "reply: {}",
                "queued: [A {\"n\": 1}, A {\"n\": 2}]",
                "queued: [B {\"n\": 1}, C {\"n\": 2}]",
                "queued: [A {\"n\": 2}, C {\"n\": 2}]",
                "end: ended by the caller (quit)", "end: exit status 0",
            ]
            row_34_a_slow_subscription_counts_the_events_that_it_missed [
                "launched", "reply: {}", "received: TICK", "reply: {}", "received: TICK", "reply: {}", "received: TICK",
                "reply: {}", "received: TICK", "reply: {}", "received: TICK",
                "missed: 0", "queued: []", "missed: 3", "queued: [TICK, TICK]",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            row_34_an_ended_subscription_costs_the_other_nothing [
                "launched", "reply: {}", "received: A", "received: B",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            row_34_only_events_can_be_subscribed_to [
                "launched", "the subscription names no event: `Wait::any_event` matches every event",
                "a subscription queues only events", "a subscription queues only events",
                "more than 1 subscriptions at once (`Limits::subscriptions`): end one first", "true",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
        }
    };
}

rows!(stories, in_world);
