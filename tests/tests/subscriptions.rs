//! Tests of subscriptions beyond their queues: iterators and streams that end, subscriptions that keep the machine as
//! handles do, and notices for an event loop.

use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::spawn;
use std::time::Duration;

use qemu_machine_core::{Config, Deadline, Limits, Mark, Misuse, Notice, State, Wait, WaitError};
use qemu_machine_host::tasks::wait_for_dropped;
use qemu_machine_tests::bounded;
use qemu_machine_tests::scripted::Script;
use smol::stream::{Stream, StreamExt};

/// Deadline of what must happen: longer than it ever takes.
const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

fn config(script: &Script) -> Config {
    script.config(env!("CARGO_BIN_EXE_scripted-qemu"))
}

/// Three events for the first command, and the end for the second.
fn short_run() -> Script {
    Script::launched().hear().event("A").event("B").event("C").reply("{}").hear().event("D").exit(0)
}

/// An event for each command but `quit`.
fn events_on_demand(count: usize) -> Script {
    (0..count).fold(Script::launched(), |script, _| script.hear().event("TICK").reply("{}")).obey()
}

fn blocking(config: Config) -> qemu_machine_blocking::Vm {
    qemu_machine_blocking::Vm::launch(config).unwrap_or_else(|error| panic!("{error}"))
}

async fn on_smol(config: Config) -> qemu_machine_smol::Vm {
    qemu_machine_smol::Vm::launch(config).await.unwrap_or_else(|error| panic!("{error}"))
}

fn alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn an_iterator_on_each_of_several_threads_gives_all_and_ends_with_the_machine() {
    bounded(|| {
        let vm = blocking(config(&short_run()));
        let subscriptions: Vec<_> = (0..4)
            .map(|_| {
                let mut events = vm.events([Wait::any_event()]).unwrap();
                spawn(move || {
                    let names: String = events.by_ref().map(|event| event.name().to_string()).collect();
                    (names, events.next(LONG))
                })
            })
            .collect();
        vm.execute("act").unwrap();
        assert!(vm.execute("end").is_err());
        let outcome = Box::new(vm.wait(LONG).unwrap());
        for subscription in subscriptions {
            assert_eq!(subscription.join().unwrap(), ("ABCD".into(), Err(WaitError::Ended(outcome.clone()))));
        }
    });
}

/// The machine runs on without a monitor, perhaps for long.
#[test]
fn an_iterator_ends_with_the_monitor() {
    bounded(|| {
        let script = Script::launched().hear().event("A").reply("{}").hang_up().stall();
        let vm = blocking(config(&script));
        let mut events = vm.events([Wait::any_event()]).unwrap();
        vm.execute("act").unwrap();
        assert_eq!(events.by_ref().count(), 1);
        assert_eq!(events.next(LONG), Err(WaitError::Disconnected));
        assert_eq!(vm.state(), State::Running);
    });
}

#[test]
fn a_subscription_keeps_the_machine_as_a_handle_does() {
    bounded(|| {
        let vm = blocking(config(&events_on_demand(1)));
        let pid = vm.pid().unwrap();
        let mark = vm.mark();
        vm.execute("tick").unwrap();
        let mut events = vm.events_from(&mark, [Wait::event("TICK")]).unwrap();
        drop(vm);
        assert_eq!((events.next(LONG).unwrap().name(), alive(pid)), ("TICK", true));
        drop(events);
        assert!(!alive(pid), "dropping the last handle ends the machine");
    });
}

#[test]
fn a_stream_keeps_the_machine_as_a_handle_does() {
    bounded(|| {
        smol::block_on(async {
            let vm = on_smol(config(&events_on_demand(1))).await;
            let pid = vm.pid().unwrap();
            let mut events = vm.events([Wait::event("TICK")]).unwrap();
            vm.execute("tick").await.unwrap();
            drop(vm);
            assert_eq!(StreamExt::next(&mut events).await.unwrap().name(), "TICK");
            assert!(poll(&mut events, Waker::noop()).is_pending() && alive(pid));
            drop(events);
            assert!(wait_for_dropped(qemu_machine_tests::PATIENCE));
            assert!(!alive(pid), "dropping the last handle ends the machine");
        });
    });
}

/// A dropped subscription does not count against the limit.
#[test]
fn a_dropped_subscription_receives_nothing_more() {
    let mut limits = Limits::default();
    limits.subscriptions = 1;
    bounded(move || {
        let config = || config(&events_on_demand(0)).limits(limits);
        let filter = || [Wait::any_event()];
        let vm = blocking(config());
        drop(vm.events(filter()).unwrap());
        let kept = vm.events(filter()).unwrap();
        assert_eq!(vm.events(filter()).map(drop), Err(Misuse::TooManySubscriptions(1)));
        drop(kept);
        assert!(vm.events(filter()).is_ok());
        let vm = smol::block_on(on_smol(config()));
        drop(vm.events(filter()).unwrap());
        assert!(vm.events(filter()).is_ok());
    });
}

#[test]
fn a_stream_gives_all_and_ends_with_the_machine() {
    bounded(|| {
        smol::block_on(async {
            let vm = on_smol(config(&short_run())).await;
            let subscriptions: Vec<_> = (0..4)
                .map(|_| {
                    let events = vm.events([Wait::any_event()]).unwrap();
                    smol::spawn(events.map(|event| event.name().to_string()).collect::<String>())
                })
                .collect();
            vm.execute("act").await.unwrap();
            assert!(vm.execute("end").await.is_err());
            for subscription in subscriptions {
                assert_eq!(subscription.await, "ABCD");
            }
        });
    });
}

fn poll<S: Stream + Unpin>(stream: &mut S, waker: &Waker) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(waker))
}

/// Another call may have taken the event for which the stream was woken; then the stream waits for the next.
#[test]
fn a_stream_shares_its_queue_with_the_other_calls() {
    bounded(|| {
        smol::block_on(async {
            let vm = on_smol(config(&events_on_demand(3))).await;
            let mut events = vm.events([Wait::event("TICK")]).unwrap();
            for call in 0..3 {
                assert!(poll(&mut events, Waker::noop()).is_pending());
                vm.execute("tick").await.unwrap();
                match call {
                    0 => assert_eq!(events.queued().len(), 1),
                    1 => assert_eq!(events.next(LONG).await.unwrap().name(), "TICK"),
                    _ => assert_eq!(StreamExt::next(&mut events).await.unwrap().name(), "TICK"),
                }
            }
            assert!(poll(&mut events, Waker::noop()).is_pending(), "each event is returned once");
        });
    });
}

/// A waker may hold the last reference to a task, so none is kept after the wait.
#[test]
fn a_dropped_subscription_leaves_no_waker() {
    struct Counted;

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }

    bounded(|| {
        smol::block_on(async {
            let vm = on_smol(config(&events_on_demand(0))).await;
            let counted = Arc::new(Counted);
            let waker = Waker::from(Arc::clone(&counted));
            let held = Arc::strong_count(&counted);
            let mut events = vm.events([Wait::any_event()]).unwrap();
            {
                let mut next = pin!(events.next(LONG));
                assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                assert_eq!(Arc::strong_count(&counted), held + 1);
            }
            assert_eq!(Arc::strong_count(&counted), held);
            assert!(poll(&mut events, &waker).is_pending() && poll(&mut events, &waker).is_pending());
            assert_eq!(Arc::strong_count(&counted), held + 1);
            drop(events);
            assert_eq!(Arc::strong_count(&counted), held);
        });
    });
}

/// An event loop of the caller, which acts on notices only.
#[test]
fn a_loop_is_notified_that_a_queue_has_an_event() {
    bounded(|| {
        let mut poll = mio::Poll::new().unwrap();
        let mut tokens = (0..).map(mio::Token);
        let config = config(&short_run());
        let mut vm = qemu_machine_mio::Vm::launch(config, poll.registry(), || tokens.next().unwrap()).unwrap();
        let subscription = vm.subscribe(&Mark::default(), [Wait::any_event()]).unwrap();
        let mut received = String::new();
        let mut ready = mio::Events::with_capacity(64);
        while vm.outcome().is_none() {
            poll.poll(&mut ready, vm.timeout()).unwrap();
            for event in &ready {
                vm.ready(event);
            }
            while let Some(notice) = vm.turn(poll.registry()) {
                if notice == Notice::Queued(subscription) {
                    received.extend(
                        std::iter::from_fn(|| vm.next_event(subscription)).map(|event| event.name().to_string()),
                    );
                } else if matches!(notice, Notice::Ready | Notice::Answered(_)) && received.len() < 4 {
                    let _ = vm.execute("act");
                }
            }
        }
        assert_eq!((&*received, vm.missed_events(subscription)), ("ABCD", 0));
        let late = vm.subscribe(&Mark::default(), [Wait::event("D")]).unwrap();
        assert_eq!(vm.turn(poll.registry()), Some(Notice::Queued(late)), "past events are announced as well");
        vm.unsubscribe(subscription);
        assert_eq!(
            (vm.next_event(late).map(|event| event.to_string()), vm.next_event(subscription)),
            (Some("D".into()), None)
        );
    });
}
