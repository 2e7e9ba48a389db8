//! Tests of several subscriptions: each receives the events that its filter matches, in order, within its bound, and
//! counts exactly what it missed.

use std::time::Duration;

use crate::rig::ticks::{limits, tick};
use crate::rig::{GREETING, Rig, SIGKILL, at, config, secs};
use qemu_machine_core::{
    Channel, Config, ExitStatus, FOREVER, Found, Input, Limits, Machine, Mark, Misuse, Moment, Notice, Wait, WaitError,
    Why, json,
};

#[test]
fn events_come_in_order_and_match_the_filter() {
    let mut rig = Rig::ready(config());
    let start = rig.vm.mark();
    let all = rig.subscribe(&start, [Wait::any_event()]);
    let names = rig.subscribe(&start, [Wait::event("C"), Wait::event("A")]);
    let data = rig.subscribe(&start, [Wait::any_event().with(json!({"n": 1})), Wait::event("C").with(json!({"n": 5}))]);
    let none = rig.subscribe(&start, [Wait::event("A").with(json!({"n": 9}))]);
    rig.ticks("ABCABC");
    assert_eq!(rig.vm.next_event(all).map(|event| event.to_string()).as_deref(), Some(r#"A {"n": 0}"#));
    assert_eq!(rig.queued(all), "BCABC");
    assert_eq!((rig.queued(names), rig.queued(data), rig.queued(none)), ("ACAC".into(), "BC".into(), String::new()));
    assert_eq!(rig.vm.next_event(all), None, "each event is returned once");
}

#[test]
fn an_event_that_several_patterns_match_comes_once() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::event("A"), Wait::any_event(), Wait::event("A")]);
    rig.ticks("A");
    assert_eq!(rig.queued(id), "A");
}

#[test]
fn g09_beyond_the_bound_the_oldest_are_dropped_and_counted() {
    let mut rig = Rig::ready(config().limits(limits(100, 3)));
    let start = rig.vm.mark();
    let (slow, picky) = (rig.subscribe(&start, [Wait::any_event()]), rig.subscribe(&start, [Wait::event("A")]));
    rig.ticks("ABC");
    assert_eq!(rig.vm.missed_events(slow), 0, "as many as fit");
    rig.ticks("D");
    assert_eq!(
        (rig.vm.missed_events(slow), rig.vm.missed_events(picky)),
        (1, 0),
        "an event that does not match is not missed"
    );
    assert_eq!(rig.vm.next_event(slow).unwrap().name(), "B");
    rig.ticks("EAF");
    assert_eq!((rig.vm.missed_events(slow), rig.queued(slow)), (3, "EAF".into()));
    assert_eq!((rig.vm.missed_events(picky), rig.queued(picky)), (0, "AA".into()));
    assert_eq!(rig.vm.missed_events(slow), 3, "reading the queue does not change the count");
}

#[test]
fn an_event_larger_than_the_bound_is_still_delivered() {
    let mut rig = Rig::ready(config().limits(limits(100, 3)));
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    rig.ticks("AB");
    rig.says(&format!(r#"{{"event": "LARGE", "data": {{"text": "{}"}}}}"#, "x".repeat(9999)));
    assert_eq!((rig.vm.missed_events(id), rig.vm.next_event(id).unwrap().name()), (2, "LARGE"));
    rig.ticks("CDE");
    assert_eq!((rig.vm.missed_events(id), rig.queued(id)), (2, "CDE".into()));
}

/// A subscription from a mark also queues events since then, as far as the history goes; evicted events are counted
/// apart.
#[test]
fn the_past_is_queued_from_the_mark_on() {
    let mut rig = Rig::ready(config().limits(limits(4, 3)));
    let start = rig.vm.mark();
    rig.ticks("AB");
    let mark = rig.vm.mark();
    rig.ticks("CD");
    let id = rig.subscribe(&mark, [Wait::any_event()]);
    assert_eq!((rig.times_queued(id), rig.vm.evicted_events(id), rig.queued(id)), (1, 0, "CD".into()));
    let now = rig.vm.mark();
    let id = rig.subscribe(&now, [Wait::any_event()]);
    assert_eq!((rig.times_queued(id), rig.queued(id)), (0, String::new()));
    rig.ticks("EFG");
    let id = rig.subscribe(&start, [Wait::any_event()]);
    assert_eq!(
        (rig.vm.evicted_events(id), rig.vm.missed_events(id)),
        (3, 1),
        "of seven events, four are in the history"
    );
    rig.ticks("H");
    assert_eq!((rig.vm.evicted_events(id), rig.vm.missed_events(id), rig.queued(id)), (3, 2, "FGH".into()));
}

#[test]
fn a_queue_that_was_empty_is_announced() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::event("A")]);
    rig.ticks("B");
    assert_eq!(rig.times_queued(id), 0);
    rig.ticks("AA");
    assert_eq!(rig.times_queued(id), 1, "the queue was not empty");
    rig.vm.next_event(id);
    rig.ticks("A");
    assert_eq!(rig.times_queued(id), 1, "still");
    assert_eq!(rig.queued(id), "AA");
    rig.ticks("A");
    assert_eq!(rig.times_queued(id), 2);
    assert!(rig.notices.ends_with(&[Notice::Event(4), Notice::Queued(id)]), "{:?}", rig.notices);
}

#[test]
fn one_subscription_removes_nothing_from_another() {
    let mut rig = Rig::ready(config().limits(limits(100, 2)));
    let start = rig.vm.mark();
    let (one, other) = (rig.subscribe(&start, [Wait::any_event()]), rig.subscribe(&start, [Wait::any_event()]));
    for name in ["A", "B", "C", "D"] {
        rig.ticks(name);
        assert_eq!(rig.queued(one), name);
    }
    assert_eq!((rig.vm.missed_events(one), rig.vm.missed_events(other)), (0, 2));
    rig.vm.unsubscribe(one);
    rig.ticks("E");
    assert_eq!((rig.queued(one), rig.queued(other)), (String::new(), "DE".into()));
}

#[test]
fn g09_a_million_unread_events_stay_within_the_bound() {
    const MANY: u64 = 1_000_000;
    const AT_ONCE: u64 = 1000;
    let rig = Rig::ready(config().limits(limits(10, 100)));
    let mut machine = rig.vm.clone();
    let id = machine.subscribe(&Mark::default(), [Wait::any_event()]).unwrap();
    let piece = [&tick('A', 0)[..], b"\r\n"].concat().repeat(AT_ONCE as usize);
    for count in (AT_ONCE..=MANY).step_by(AT_ONCE as usize) {
        machine.handle(Moment::ORIGIN, Input::Received(Channel::Monitor, &piece));
        while machine.poll_notice().is_some() {}
        assert_eq!(machine.missed_events(id), count - 100);
    }
    assert_eq!(std::iter::from_fn(|| machine.next_event(id)).count(), 100);
}

#[test]
fn no_event_of_one_run_is_in_the_next() {
    let mut rig = Rig::ready(config().limits(limits(2, 2)));
    let old = rig.vm.mark();
    let early = rig.subscribe(&old, [Wait::any_event()]);
    rig.ticks("ABC");
    let late = rig.subscribe(&old, [Wait::event("C")]);
    rig.dies(SIGKILL);
    assert_eq!((rig.vm.missed_events(early), rig.vm.evicted_events(late)), (1, 1));
    assert_eq!(rig.next(late, secs(1)), Some(Ok("C".into())), "the queue can be read after the end");
    rig.launch();
    assert_eq!((rig.queued(early), rig.queued(late)), (String::new(), String::new()));
    assert_eq!((rig.vm.missed_events(early), rig.vm.evicted_events(late)), (0, 0));
    rig.negotiate(GREETING);
    rig.ticks("DC");
    assert_eq!((rig.queued(early), rig.queued(late)), ("DC".into(), "C".into()), "both subscriptions go on");
    let id = rig.subscribe(&old, [Wait::any_event()]);
    assert_eq!((rig.queued(id), rig.vm.evicted_events(id)), ("DC".into(), 0), "an old mark begins with the run");
}

#[test]
fn a_subscription_may_begin_before_the_first_run() {
    let mut rig = Rig::new(config());
    let id = rig.subscribe(&Mark::default(), [Wait::event("A")]);
    assert_eq!(rig.vm.wait_for_event(rig.now, id, FOREVER).map(drop), Err(Misuse::NotLaunched));
    rig.launch();
    rig.ticks("A");
    rig.negotiate(GREETING);
    assert_eq!(rig.queued(id), "A");
}

#[test]
fn a_wait_for_the_next_event_ends_when_it_comes() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::event("A")]);
    let wait = rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap();
    rig.ticks("B");
    assert_eq!(rig.vm.claim_event(wait), None);
    rig.vm.handle(rig.now, Input::Received(Channel::Monitor, b"{\"event\": \"A\"}\n"));
    let notices: Vec<_> = std::iter::from_fn(|| rig.vm.poll_notice()).collect();
    assert_eq!(notices, [Notice::Event(1), Notice::Queued(id), Notice::Waited(wait)]);
    assert_eq!(rig.vm.claim_event(wait).unwrap().unwrap().name(), "A");
    assert_eq!((rig.vm.claim_event(wait), rig.vm.next_event(id)), (None, None), "the event is returned once");
}

/// Disowning a wait loses nothing: the event stays in the queue until it is read.
#[test]
fn a_disowned_wait_leaves_the_event() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let [before, behind] = [(); 2].map(|()| rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap());
    rig.vm.disown_wait(before);
    rig.ticks("A");
    rig.vm.disown_wait(behind);
    assert_eq!(rig.next(id, secs(0)), Some(Ok("A".into())));
}

#[test]
fn of_two_waits_for_one_event_only_one_returns_it() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let [one, other] = [(); 2].map(|()| rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap());
    rig.ticks("A");
    assert!(matches!(rig.vm.claim_event(other), Some(Ok(_))));
    assert_eq!(rig.vm.claim_event(one), Some(Err(WaitError::Taken)));
    let event = rig.wait(&Mark::default(), [Wait::any_event()]);
    assert_eq!(rig.vm.claim_event(event), Some(Err(WaitError::FoundOther)), "the wait is not for a subscription");
}

#[test]
fn the_deadline_ends_the_wait_and_not_the_subscription() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let wait = rig.vm.wait_for_event(rig.now, id, secs(3).into()).unwrap();
    assert_eq!(rig.vm.deadline(), Some((at(secs(3)), Why::Wait)));
    rig.pass(secs(3) - Duration::from_nanos(1));
    assert_eq!(rig.vm.claim_event(wait), None);
    rig.pass(Duration::from_nanos(1));
    assert_eq!((rig.vm.claim_event(wait), rig.vm.deadline()), (Some(Err(WaitError::TimedOut)), None));
    rig.ticks("A");
    assert_eq!(rig.next(id, secs(0)), Some(Ok("A".into())), "a queued event comes before the deadline");
    assert_eq!(rig.next(id, secs(0)), Some(Err(WaitError::TimedOut)));
}

#[test]
fn queued_events_come_before_the_end() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let wait = rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap();
    rig.ticks("AB");
    let outcome = Box::new(rig.dies(ExitStatus::Code(3)));
    assert_eq!(rig.vm.claim_event(wait).unwrap().unwrap().name(), "A");
    assert_eq!(rig.next(id, secs(1)), Some(Ok("B".into())));
    assert_eq!(rig.next(id, secs(1)), Some(Err(WaitError::Ended(outcome))));
}

#[test]
fn the_end_ends_a_wait_for_the_next() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::event("NEVER")]);
    let wait = rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap();
    rig.ticks("A");
    let outcome = Box::new(rig.dies(SIGKILL));
    assert_eq!(rig.vm.claim_event(wait), Some(Err(WaitError::Ended(outcome))));
}

#[test]
fn without_a_monitor_no_event_is_queued() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let next = rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap();
    let mixed = rig.wait(&Mark::default(), [Wait::queued(id), Wait::text("tty", "ok")]);
    rig.closes(Channel::Monitor);
    rig.pass(secs(5) - Duration::from_nanos(1));
    assert_eq!(rig.vm.claim_event(next), None, "the end of the process may explain it");
    rig.pass(Duration::from_nanos(1));
    assert_eq!(rig.vm.claim_event(next), Some(Err(WaitError::Disconnected)));
    assert_eq!(rig.next(id, secs(1)), Some(Err(WaitError::Disconnected)), "later waits fail at once");
    assert_eq!(rig.vm.claim_wait(mixed), None, "the console can still print");
    let mut never = Rig::launched(Config::new("qemu").autostart().without_monitor());
    let id = never.subscribe(&Mark::default(), [Wait::any_event()]);
    assert_eq!(never.next(id, secs(1)), Some(Err(WaitError::Disconnected)), "the machine never had a monitor");
}

#[test]
fn queued_events_come_before_the_end_of_the_monitor() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    rig.ticks("A");
    rig.closes(Channel::Monitor);
    rig.pass(secs(6));
    assert_eq!(rig.next(id, secs(0)), Some(Ok("A".into())));
    assert_eq!(rig.next(id, secs(0)), Some(Err(WaitError::Disconnected)));
}

#[test]
fn a_subscription_is_one_of_several_things_to_wait_for() {
    let mut rig = Rig::ready(config());
    let start = rig.vm.mark();
    let (one, other) = (rig.subscribe(&start, [Wait::event("A")]), rig.subscribe(&start, [Wait::event("B")]));
    let wait = rig.wait(&start, [Wait::queued(one), Wait::text("tty", "login"), Wait::queued(other)]);
    rig.ticks("B");
    let hit = rig.vm.claim_wait(wait).unwrap().unwrap();
    assert_eq!((hit.index, hit.found, hit.mark), (2, Found::Queued(other), start.clone()));
    assert_eq!(rig.queued(other), "B", "the event stays in the queue");
    let wait = rig.wait(&start, [Wait::queued(one), Wait::queued(other)]);
    rig.vm.unsubscribe(one);
    assert_eq!(rig.vm.claim_wait(wait), None, "the other subscription may still receive events");
    rig.vm.unsubscribe(other);
    assert_eq!(rig.vm.claim_wait(wait), Some(Err(WaitError::Unsubscribed)));
}

#[test]
fn a_subscription_that_was_ended_is_unknown() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let wait = rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap();
    rig.vm.unsubscribe(id);
    assert_eq!(rig.vm.poll_notice(), Some(Notice::Waited(wait)));
    assert_eq!(rig.vm.claim_event(wait), Some(Err(WaitError::Unsubscribed)));
    assert_eq!(rig.vm.wait_for_event(rig.now, id, FOREVER).map(drop), Err(Misuse::UnknownSubscription));
    rig.ticks("A");
    assert_eq!((rig.vm.next_event(id), rig.vm.missed_events(id)), (None, 0));
    let next = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    assert_ne!(id, next, "ids are not reused");
}

#[test]
fn a_filter_without_events_is_misuse() {
    let mut few = Limits::default();
    few.subscriptions = 2;
    let mut machine = Machine::new(config().limits(few)).unwrap();
    let mark = machine.mark();
    let one = machine.subscribe(&mark, [Wait::any_event()]).unwrap();
    let mut subscribe = |filter: Vec<Wait>| machine.subscribe(&mark, filter).map(drop);
    assert_eq!(subscribe(vec![]), Err(Misuse::EmptyFilter));
    for other in [Wait::text("tty", "x"), Wait::end(), Wait::queued(one)] {
        assert_eq!(subscribe(vec![Wait::any_event(), other]), Err(Misuse::NotAnEvent));
    }
    assert_eq!(Misuse::NotAnEvent.to_string(), "a subscription queues only events");
    assert_eq!(subscribe(vec![Wait::any_event()]), Ok(()), "refused subscriptions do not count");
    assert_eq!(subscribe(vec![Wait::any_event()]), Err(Misuse::TooManySubscriptions(2)));
    machine.unsubscribe(one);
    assert!(machine.subscribe(&mark, [Wait::any_event()]).is_ok());
}
