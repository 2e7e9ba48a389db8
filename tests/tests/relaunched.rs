//! Proves that whoever waits gets the answer of the life that he asked in, though another launches the machine again as
//! soon as it has ended.

use std::sync::mpsc::channel;
use std::thread;

use qemu_machine_core::{CommandError, Config, FOREVER, Misuse, Outcome, Rung};
use qemu_machine_tests::{PATIENCE, bounded, qemu};

const ROUNDS: usize = 20;

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

fn was_killed(outcome: &Outcome) {
    assert!(outcome.rungs.contains(&Rung::Kill), "{outcome}");
}

/// The command was answered, or its machine was killed meanwhile.
fn is_answered<T: std::fmt::Debug>(result: &Result<T, CommandError>) {
    let fits = matches!(result, Ok(_) | Err(CommandError::Disconnected(_) | CommandError::Misuse(Misuse::Ended)));
    assert!(fits, "{result:?}");
}

#[test]
fn row_31_threads_that_wait_are_answered_though_another_relaunches() {
    use qemu_machine_blocking::Vm;

    bounded(|| {
        let vm = Vm::launch(config()).unwrap();
        let (again, launched) = channel();
        thread::scope(|threads| {
            threads.spawn(|| {
                for _ in 0..ROUNDS {
                    vm.wait(FOREVER).unwrap();
                    vm.relaunch().unwrap();
                    again.send(()).unwrap();
                }
            });
            threads.spawn(|| (0..1000).for_each(|_| is_answered(&vm.execute_by("query-status", PATIENCE))));
            for _ in 0..ROUNDS {
                was_killed(&vm.kill().unwrap());
                launched.recv().unwrap();
            }
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
            let (waiter, asker) = (vm.clone(), vm.clone());
            let relaunches = smol::spawn(async move {
                for _ in 0..ROUNDS {
                    waiter.wait(FOREVER).await.unwrap();
                    waiter.relaunch().await.unwrap();
                    again.send(()).await.unwrap();
                }
            });
            let commands = smol::spawn(async move {
                for _ in 0..1000 {
                    is_answered(&asker.execute_by("query-status", PATIENCE).await);
                }
            });
            for _ in 0..ROUNDS {
                was_killed(&vm.kill().await.unwrap());
                launched.recv().await.unwrap();
            }
            relaunches.await;
            commands.await;
        });
    });
}
