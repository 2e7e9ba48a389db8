//! Tests of launches and ends while the host has eight times more work than processors.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::{Cause, ExitStatus, Shutdown, Vm};
use qemu_machine_tests::PATIENCE;

use crate::child::in_child;
use crate::config;
use qemu_machine_tests::leak_check::{LeakCheck, Scratch};

const OVERLOAD: usize = 8;

/// How many machines are launched at the same time.
const CALLERS: usize = 4;

/// Limit for each run, against hanging: a run takes about a second.
const EACH: Duration = Duration::from_secs(6);

/// How many runs there are.
fn cycles() -> usize {
    let cycles = std::env::var("QEMU_MACHINE_CYCLES").ok();
    cycles.map_or(100, |cycles| cycles.parse().expect("a number of runs"))
}

/// Stops the busy threads, also when a caller panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn g05_g12_under_overload_no_run_fails_or_leaves_anything() {
    let limit = EACH * u32::try_from(cycles()).expect("a small number");
    in_child("overload::g05_g12_under_overload_no_run_fails_or_leaves_anything", &[], limit, || {
        let scratch = Scratch::create();
        let before = LeakCheck::take();
        let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        scope(|threads| {
            let stop = &stop;
            for _ in 0..OVERLOAD * available_parallelism().map_or(1, usize::from) {
                threads.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let _stop = Stop(stop);
            scope(|threads| {
                (0..CALLERS).for_each(|_| {
                    drop(threads.spawn(|| {
                        while done.fetch_add(1, Ordering::Relaxed) < cycles() {
                            runs_once(scratch.path());
                        }
                    }))
                });
            });
        });
        assert_eq!(scratch.entries(), [""; 0]);
        LeakCheck::assert_nothing_left(&before);
    });
}

fn runs_once(scratch: &Path) {
    let vm = Vm::launch(config(scratch)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(vm.execute("query-status").unwrap()["status"], "running");
    let outcome = vm.shutdown(Shutdown::within(PATIENCE)).unwrap();
    assert_eq!((&outcome.cause, outcome.exit), (&Cause::Asked(Rung::Quit), Some(ExitStatus::Code(0))), "{outcome}");
    assert_eq!((outcome.unanswered, outcome.faults.len()), (0, 0), "{outcome}");
}
