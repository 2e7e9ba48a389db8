//! Decides what several subscriptions of events get: each what it asked for, in order, within its bound, counted exactly.

mod rig;

use std::time::Duration;

use qemu_machine_core::{
    Channel, Config, ExitStatus, FOREVER, Found, Input, Limits, Machine, Mark, Misuse, Moment, Notice, Wait, WaitError,
    Why, json,
};
use rig::ticks::{limits, tick};
use rig::{GREETING, Rig, SIGKILL, at, config, secs};

#[test]
fn events_come_in_their_order_and_as_the_filter_wants() {
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
    assert_eq!(rig.vm.next_event(all), None, "each is given once");
}

#[test]
fn an_event_that_several_filters_want_comes_once() {
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
    assert_eq!((rig.vm.missed_events(slow), rig.vm.missed_events(picky)), (1, 0), "what it does not want is no loss");
    assert_eq!(rig.vm.next_event(slow).unwrap().name(), "B");
    rig.ticks("EAF");
    assert_eq!((rig.vm.missed_events(slow), rig.queued(slow)), (3, "EAF".into()));
    assert_eq!((rig.vm.missed_events(picky), rig.queued(picky)), (0, "AA".into()));
    assert_eq!(rig.vm.missed_events(slow), 3, "so far, whatever was taken since");
}

#[test]
fn an_event_larger_than_the_bound_is_given_all_the_same() {
    let mut rig = Rig::ready(config().limits(limits(100, 3)));
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    rig.ticks("AB");
    rig.says(&format!(r#"{{"event": "LARGE", "data": {{"text": "{}"}}}}"#, "x".repeat(9999)));
    assert_eq!((rig.vm.missed_events(id), rig.vm.next_event(id).unwrap().name()), (2, "LARGE"));
    rig.ticks("CDE");
    assert_eq!((rig.vm.missed_events(id), rig.queued(id)), (2, "CDE".into()));
}

/// Nothing is missed between acting and listening, as far as the history goes; what it has forgotten is counted apart.
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
    assert_eq!((rig.vm.evicted_events(id), rig.vm.missed_events(id)), (3, 1), "of seven, four are remembered");
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
    assert_eq!(rig.times_queued(id), 1, "it had something already");
    rig.vm.next_event(id);
    rig.ticks("A");
    assert_eq!(rig.times_queued(id), 1, "still");
    assert_eq!(rig.queued(id), "AA");
    rig.ticks("A");
    assert_eq!(rig.times_queued(id), 2);
    assert!(rig.notices.ends_with(&[Notice::Event(4), Notice::Queued(id)]), "{:?}", rig.notices);
}

#[test]
fn one_subscription_takes_nothing_from_another() {
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
fn g09_a_million_events_that_nobody_takes_stay_within_the_bound() {
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
fn nothing_of_one_run_leaks_into_the_next() {
    let mut rig = Rig::ready(config().limits(limits(2, 2)));
    let old = rig.vm.mark();
    let early = rig.subscribe(&old, [Wait::any_event()]);
    rig.ticks("ABC");
    let late = rig.subscribe(&old, [Wait::event("C")]);
    rig.dies(SIGKILL);
    assert_eq!((rig.vm.missed_events(early), rig.vm.evicted_events(late)), (1, 1));
    assert_eq!(rig.next(late, secs(1)), Some(Ok("C".into())), "it can be taken behind the end");
    rig.launch();
    assert_eq!((rig.queued(early), rig.queued(late)), (String::new(), String::new()));
    assert_eq!((rig.vm.missed_events(early), rig.vm.evicted_events(late)), (0, 0));
    rig.negotiate(GREETING);
    rig.ticks("DC");
    assert_eq!((rig.queued(early), rig.queued(late)), ("DC".into(), "C".into()), "they listen still");
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
fn waiting_for_the_next_is_over_when_it_comes() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::event("A")]);
    let wait = rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap();
    rig.ticks("B");
    assert_eq!(rig.vm.claim_event(wait), None);
    rig.vm.handle(rig.now, Input::Received(Channel::Monitor, b"{\"event\": \"A\"}\n"));
    let notices: Vec<_> = std::iter::from_fn(|| rig.vm.poll_notice()).collect();
    assert_eq!(notices, [Notice::Event(1), Notice::Queued(id), Notice::Waited(wait)]);
    assert_eq!(rig.vm.claim_event(wait).unwrap().unwrap().name(), "A");
    assert_eq!((rig.vm.claim_event(wait), rig.vm.next_event(id)), (None, None), "it is given once");
}

/// Whoever gives up loses nothing: the event stays where it is until somebody takes it.
#[test]
fn a_wait_that_is_forgotten_leaves_the_event() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let [before, behind] = [(); 2].map(|()| rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap());
    rig.vm.disown_wait(before);
    rig.ticks("A");
    rig.vm.disown_wait(behind);
    assert_eq!(rig.next(id, secs(0)), Some(Ok("A".into())));
}

#[test]
fn two_waits_for_one_event_do_not_both_get_it() {
    let mut rig = Rig::ready(config());
    let id = rig.subscribe(&Mark::default(), [Wait::any_event()]);
    let [one, other] = [(); 2].map(|()| rig.vm.wait_for_event(rig.now, id, FOREVER).unwrap());
    rig.ticks("A");
    assert!(matches!(rig.vm.claim_event(other), Some(Ok(_))));
    assert_eq!(rig.vm.claim_event(one), Some(Err(WaitError::Taken)));
    let event = rig.wait(&Mark::default(), [Wait::any_event()]);
    assert_eq!(rig.vm.claim_event(event), Some(Err(WaitError::FoundOther)), "it was not for a queue");
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
    assert_eq!(rig.next(id, secs(0)), Some(Ok("A".into())), "what is there comes before the deadline");
    assert_eq!(rig.next(id, secs(0)), Some(Err(WaitError::TimedOut)));
}

#[test]
fn what_is_queued_comes_before_the_end() {
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
    assert_eq!(rig.next(id, secs(1)), Some(Err(WaitError::Disconnected)), "at once from then on");
    assert_eq!(rig.vm.claim_wait(mixed), None, "the console can still print");
    let mut never = Rig::launched(Config::new("qemu").without_monitor());
    let id = never.subscribe(&Mark::default(), [Wait::any_event()]);
    assert_eq!(never.next(id, secs(1)), Some(Err(WaitError::Disconnected)), "it never had one");
}

#[test]
fn what_is_queued_comes_before_the_end_of_the_monitor() {
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
    assert_eq!(rig.queued(other), "B", "it is still there to be taken");
    let wait = rig.wait(&start, [Wait::queued(one), Wait::queued(other)]);
    rig.vm.unsubscribe(one);
    assert_eq!(rig.vm.claim_wait(wait), None, "the other may still hear something");
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
    assert_ne!(id, next, "names do not come back");
}

#[test]
fn what_cannot_be_subscribed_to_is_misuse() {
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
    assert_eq!(subscribe(vec![Wait::any_event()]), Ok(()), "what was refused took no place");
    assert_eq!(subscribe(vec![Wait::any_event()]), Err(Misuse::TooManySubscriptions(2)));
    machine.unsubscribe(one);
    assert!(machine.subscribe(&mark, [Wait::any_event()]).is_ok());
}
