//! Tests of a million unread events: memory stays within the limits, and commands are answered.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qemu_machine_core::{Config, Deadline, Limits, Mark, Wait};
use qemu_machine_tests::bounded_by;
use qemu_machine_tests::scripted::Script;
use qemu_machine_tokio::tasks::{Reactor, Vm};

/// The number of events, sent in parts so that the peer needs little memory.
const PARTS: usize = 20;
const PART: usize = 50_000;

const EVENT: &str =
    "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 78}}\r\n";

/// The maximum growth in bytes. The history and the queue of one subscription hold about a megabyte each, mostly the
/// same events; with the buffers that is about two megabytes, and a hundred arrive. The other tests wait meanwhile, each with
/// memory of its own: with six at the same time, eight megabytes were measured.
const MOST: u64 = 12 << 20;

const LONG: Deadline = Deadline::after(Duration::from_secs(60));

/// One test at a time, because the memory of the whole program is measured.
static TURN: Mutex<()> = Mutex::new(());

fn config() -> Config {
    let flood = (0..PARTS).fold(Script::launched().hear(), |script, _| script.repeat(PART, EVENT));
    flood.reply("1").hear().reply("2").obey().config(env!("CARGO_BIN_EXE_scripted-qemu")).launch_within(LONG)
}

/// Returns the peak memory of this program in bytes since the last call, and resets it (`proc(5)`).
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel reports the peak");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    fs::write("/proc/self/clear_refs", "5").expect("the kernel accepts the reset");
    kilobytes * 1024
}

/// Runs a flood, which returns how many events were queued and how many were counted as missed, and checks both and the
/// memory.
fn flooded(flood: impl FnOnce() -> (usize, u64) + Send + 'static) {
    bounded_by(Duration::from_secs(120), || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        peak();
        let before = peak();
        let (queued, missed) = flood();
        let grown = peak().saturating_sub(before);
        println!("{queued} queued, {missed} missed, {grown} bytes");
        assert_eq!(queued as u64 + missed, (PARTS * PART) as u64, "each event is queued or counted");
        assert!(queued * EVENT.trim_end().len() <= Limits::default().subscription, "{queued}");
        assert!(grown <= MOST, "{grown} bytes");
    });
}

#[test]
fn g09_a_million_events_on_threads() {
    flooded(|| {
        let vm = qemu_machine_blocking::Vm::launch(config()).expect("QEMU starts");
        let mut events = vm.events([Wait::any_event()]).expect("the filter names events");
        assert_eq!(vm.execute_by("first", LONG).expect("the reply follows the events"), 1);
        assert_eq!(vm.execute_by("second", LONG).expect("the monitor answers"), 2);
        let missed = events.missed();
        let queued = std::iter::from_fn(|| events.next(Duration::ZERO).ok()).count();
        vm.kill().expect("the machine was launched");
        (queued, missed)
    });
}

#[test]
fn g09_a_million_events_in_a_task() {
    flooded(|| {
        smol::block_on(async {
            let vm = qemu_machine_smol::Vm::launch(config()).await.expect("QEMU starts");
            let mut events = vm.events([Wait::any_event()]).expect("the filter names events");
            assert_eq!(vm.execute_by("first", LONG).await.expect("the reply follows the events"), 1);
            assert_eq!(vm.execute_by("second", LONG).await.expect("the monitor answers"), 2);
            let missed = events.missed();
            let mut queued = 0;
            while events.next(Duration::ZERO).await.is_ok() {
                queued += 1;
            }
            vm.kill().await.expect("the machine was launched");
            (queued, missed)
        })
    });
}

/// Reads the events of a flood as they come, and returns how many came and how many were missed.
async fn read_all<R: Reactor>(vm: Vm<R>) -> (usize, u64) {
    let mut events = vm.events([Wait::any_event()]).expect("the filter names events");
    let mut flood = std::pin::pin!(vm.execute_by("first", LONG));
    let mut seen = 0;
    let reply = loop {
        let replied = async { Err(flood.as_mut().await) };
        match smol::future::or(replied, async { Ok(events.next(LONG).await) }).await {
            Ok(event) => seen += usize::from(event.is_ok()),
            Err(reply) => break reply,
        }
    };
    assert_eq!(reply.expect("the reply follows the events"), 1);
    seen += std::iter::from_fn(|| events.try_next()).count();
    let missed = events.missed();
    assert_eq!(vm.execute_by("second", LONG).await.expect("the monitor answers"), 2);
    vm.kill().await.expect("the machine was launched");
    (seen, missed)
}

/// The executor was started with the consumer. It runs the driver many times before it polls the consumer again.
#[test]
fn the_future_that_tokio_was_started_with_misses_no_event() {
    bounded_by(Duration::from_secs(120), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let read = runtime
            .block_on(async { read_all(qemu_machine_tokio::Vm::launch(config()).await.expect("QEMU starts")).await });
        assert_eq!(read, (PARTS * PART, 0));
    });
}

#[test]
fn the_future_that_smol_was_started_with_misses_no_event() {
    bounded_by(Duration::from_secs(120), || {
        let executor = smol::LocalExecutor::new();
        let read = smol::block_on(executor.run(async {
            let launched = qemu_machine_smol::Vm::launch_with(config(), |driver| executor.spawn(driver).detach());
            read_all(launched.await.expect("QEMU starts")).await
        }));
        assert_eq!(read, (PARTS * PART, 0));
    });
}

#[test]
fn g09_a_million_events_in_a_loop() {
    use qemu_machine_mio::{EventLoop, Vm};

    flooded(|| {
        let mut event_loop = EventLoop::new().expect("a poll can be created");
        let (registry, tokens) = event_loop.parts();
        let mut vm = [Vm::launch(config(), registry, tokens).expect("QEMU starts")];
        event_loop.run(&mut vm, |vm| vm[0].launched()).expect("the poll works").expect("the launch succeeds");
        let subscription = vm[0].subscribe(&Mark::default(), [Wait::any_event()]).expect("the filter names events");
        for (command, reply) in [("first", 1), ("second", 2)] {
            let ticket = vm[0].execute_by(command, LONG).expect("there is a monitor");
            let answer = event_loop.run(&mut vm, |vm| vm[0].claim(&ticket)).expect("the poll works");
            assert_eq!(answer.expect("the monitor answers"), reply);
        }
        let missed = vm[0].missed_events(subscription);
        let queued = std::iter::from_fn(|| vm[0].next_event(subscription)).count();
        (queued, missed)
    });
}
