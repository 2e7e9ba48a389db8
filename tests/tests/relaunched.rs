//! Tests of calls that wait while another caller relaunches the machine: each gets the answer of its own run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;

use qemu_machine_core::{CommandError, Config, FOREVER, Outcome, Rung};
use qemu_machine_tests::{PATIENCE, bounded, qemu};

const ROUNDS: usize = 20;

/// Callers that execute commands while runs end.
const ASKERS: usize = 4;

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

fn was_killed(outcome: &Outcome) {
    assert!(outcome.rungs.contains(&Rung::Kill), "{outcome}");
}

/// Asserts that the command was answered, or that the machine was killed meanwhile.
fn is_answered<T: std::fmt::Debug>(result: &Result<T, CommandError>) {
    let fits = matches!(result, Ok(_) | Err(CommandError::Disconnected(_)));
    assert!(fits, "{result:?}");
}

#[test]
fn row_31_threads_that_wait_are_answered_though_another_relaunches() {
    use qemu_machine_blocking::Vm;

    bounded(|| {
        let vm = Vm::launch(config()).unwrap();
        let (again, launched) = channel();
        let over = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                for _ in 0..ROUNDS {
                    vm.wait(FOREVER).unwrap();
                    vm.relaunch().unwrap();
                    again.send(()).unwrap();
                }
            });
            for _ in 0..ASKERS {
                threads.spawn(|| {
                    while !over.load(Relaxed) {
                        is_answered(&vm.execute_by("query-status", PATIENCE));
                    }
                });
            }
            for _ in 0..ROUNDS {
                was_killed(&vm.kill().unwrap());
                launched.recv().unwrap();
            }
            over.store(true, Relaxed);
        });
    });
}

#[test]
fn row_31_tasks_that_wait_are_answered_though_another_relaunches() {
    use qemu_machine_smol::Vm;

    bounded(|| {
        smol::block_on(async {
            let vm = Vm::launch(config()).await.unwrap();
            let (again, launched) = smol::channel::bounded(1);
            let waiter = vm.clone();
            let over = Arc::new(AtomicBool::new(false));
            let relaunches = smol::spawn(async move {
                for _ in 0..ROUNDS {
                    waiter.wait(FOREVER).await.unwrap();
                    waiter.relaunch().await.unwrap();
                    again.send(()).await.unwrap();
                }
            });
            let ask = |_| {
                let (asker, over) = (vm.clone(), over.clone());
                smol::spawn(async move {
                    while !over.load(Relaxed) {
                        is_answered(&asker.execute_by("query-status", PATIENCE).await);
                        // Between two runs the error comes at once; without the yield, no other task would run.
                        smol::future::yield_now().await;
                    }
                })
            };
            let askers: Vec<_> = (0..ASKERS).map(ask).collect();
            for _ in 0..ROUNDS {
                was_killed(&vm.kill().await.unwrap());
                launched.recv().await.unwrap();
            }
            over.store(true, Relaxed);
            relaunches.await;
            for asker in askers {
                asker.await;
            }
        });
    });
}
