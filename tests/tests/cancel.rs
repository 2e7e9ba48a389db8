//! Tests of dropped futures of the smol runtime: at any await point, dropping loses no event, no reply of another
//! caller, and not the connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use qemu_machine_core::{Cause, Config, Deadline, FOREVER, Found, Mark, Shutdown, Wait, json};
use qemu_machine_smol::Vm;
use qemu_machine_smol::tasks::wait_for_dropped;
use qemu_machine_tests::{bounded, qemu};
use smol::stream::StreamExt;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

/// More polls than any future here needs.
const POLLS: usize = 6;

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

/// Polls a future this many times, each time after a wake-up, and drops it. Returns whether it was ready.
async fn drop_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |context: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match Pin::as_mut(&mut future).poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn with_machine<F: Future<Output = ()>>(test: impl FnOnce(Vm) -> F + Send + 'static) {
    bounded(|| {
        smol::block_on(async {
            let vm = Vm::launch(config()).await.unwrap_or_else(|error| panic!("{error}"));
            test(vm).await;
        });
    });
}

/// Executes a command whose reply differs from those of other callers.
async fn own_reply(vm: &Vm, value: u64) {
    let qom = ("qom-list-types", json!({"implements": if value & 1 == 0 { "machine" } else { "device" }}));
    let expected = if value & 1 == 0 { "none-machine" } else { "isa-serial" };
    let reply = vm.execute_by(qom, LONG).await.unwrap_or_else(|error| panic!("{error}"));
    let names = reply.as_array().map(|types| types.iter().any(|kind| kind["name"] == expected));
    assert_eq!(names, Some(true), "the reply belongs to another command");
}

#[test]
fn g03_a_dropped_command_costs_no_other_caller_anything() {
    with_machine(|vm| async move {
        for polls in 0..POLLS {
            for round in 0..4 {
                drop_after(polls, vm.execute("query-commands")).await;
                own_reply(&vm, round).await;
                drop_after(polls, vm.execute_raw(r#"{"execute": "query-qmp-schema"}"#)).await;
                own_reply(&vm, round + 1).await;
            }
        }
    });
}

#[test]
fn g03_a_dropped_wait_loses_no_event() {
    with_machine(|vm| async move {
        // A wait is woken only when it is over, so it is dropped after no poll or one.
        for polls in [0, 1, 1, 0, 1] {
            let start = vm.mark();
            drop_after(polls, vm.wait_any(&start, [Wait::event("STOP"), Wait::end()], FOREVER)).await;
            vm.execute("stop").await.unwrap();
            drop_after(polls, vm.wait_any(&start, [Wait::event("RESUME")], FOREVER)).await;
            vm.execute("cont").await.unwrap();
            drop_after(polls, vm.wait(FOREVER)).await;
            let stop = vm.wait_any(&start, [Wait::any_event()], LONG).await.unwrap();
            let resume = vm.wait_any(&stop.mark, [Wait::any_event()], LONG).await.unwrap();
            let names = [stop.found, resume.found].map(|found| match found {
                Found::Event(event) => event.name().to_string(),
                other => panic!("{other:?}"),
            });
            assert_eq!(names, ["STOP", "RESUME"]);
        }
    });
}

#[test]
fn g03_a_dropped_subscription_call_loses_no_event() {
    with_machine(|vm| async move {
        let mut events = vm.events([Wait::event("STOP"), Wait::event("RESUME")]).unwrap();
        for polls in [0, 1, 1, 0, 1] {
            assert!(!drop_after(polls, events.next(FOREVER)).await, "no event is queued yet");
            vm.execute("stop").await.unwrap();
            assert_eq!(events.next(LONG).await.unwrap().name(), "STOP");
            assert!(!drop_after(polls, StreamExt::next(&mut events)).await, "each event is returned once");
            vm.execute("cont").await.unwrap();
            assert_eq!(StreamExt::next(&mut events).await.unwrap().name(), "RESUME");
        }
    });
}

/// Many tasks execute commands at once, and half of them are cancelled.
#[test]
fn g03_half_of_many_tasks_are_cancelled() {
    with_machine(|vm| async move {
        let patient = (0..20).map(|value| {
            let vm = vm.clone();
            smol::spawn(async move { own_reply(&vm, value).await })
        });
        let impatient = (0..20).map(|value| {
            let vm = vm.clone();
            smol::spawn(async move {
                drop_after(1 + value % POLLS, vm.execute("query-commands")).await;
            })
        });
        for task in patient.zip(impatient).flat_map(|(one, other)| [one, other]).collect::<Vec<_>>() {
            task.await;
        }
        own_reply(&vm, 1).await;
    });
}

#[test]
fn g03_a_dropped_shutdown_goes_on() {
    with_machine(|vm| async move {
        drop_after(1, vm.shutdown(Shutdown::default())).await;
        let outcome = vm.wait(LONG).await.unwrap();
        assert_eq!(outcome.cause, Cause::Asked(qemu_machine_core::Rung::Quit));
    });
}

/// Dropping a launch drops the machine, which ends.
#[test]
fn g03_a_dropped_launch_leaves_nothing() {
    bounded(|| {
        let scratch = std::env::temp_dir().join(format!("qemu-machine-cancel-{}", std::process::id()));
        std::fs::create_dir(&scratch).unwrap();
        let path = scratch.as_os_str().as_encoded_bytes();
        smol::block_on(async {
            for polls in 1..POLLS {
                let config = config().temporary_directory(path).monitor(qemu_machine_core::Monitor::Socket);
                let mut driven = false;
                let spawn = |driver| {
                    driven = true;
                    smol::spawn(driver).detach();
                };
                drop_after(polls, Vm::launch_with(config, spawn)).await;
                assert!(wait_for_dropped(qemu_machine_tests::PATIENCE));
                assert!(driven, "the launch starts its driver");
                assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "after {polls} polls");
            }
        });
        std::fs::remove_dir(&scratch).unwrap();
    });
}

/// Waiting calls return when the driver is dropped.
#[test]
fn g03_a_dropped_driver_ends_the_machine() {
    bounded(|| {
        smol::block_on(async {
            let mut driving = None;
            let vm = Vm::launch_with(config(), |driver| driving = Some(smol::spawn(driver))).await.unwrap();
            let watcher = vm.clone();
            let waiting = smol::spawn(async move { watcher.wait_any(&Mark::default(), [Wait::end()], FOREVER).await });
            vm.execute("query-status").await.unwrap();
            drop(driving);
            let Found::End(outcome) = waiting.await.unwrap().found else { panic!("something else was found") };
            assert_eq!(outcome.cause, Cause::Asked(qemu_machine_core::Rung::Kill));
            assert!(vm.execute("query-status").await.is_err());
        });
    });
}
