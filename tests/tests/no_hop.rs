//! Test that a command on the blocking runtime does not pass through another thread.

use std::fs;
use std::time::Duration;

use qemu_machine_blocking::{Config, Shutdown, Vm};
use qemu_machine_tests::{bounded, qemu};

/// Returns how often the supervisor was woken so far.
fn wake_ups_of_the_supervisor() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("our threads are listed");
    let supervisor = tasks
        .map(|task| task.expect("a thread is listed").path())
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "qemu-supervisor"))
        .expect("the supervisor runs");
    let status = fs::read_to_string(supervisor.join("status")).expect("the supervisor has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("it counts its wake-ups")
}

/// If commands passed through the supervisor, each would wake it. Instead it polls every few milliseconds while there
/// are calls, to notice when they stop.
#[test]
fn g24_a_command_does_not_wake_the_supervisor() {
    const COMMANDS: u64 = 2000;
    bounded(|| {
        let vm = Vm::launch(Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])).unwrap();
        let before = wake_ups_of_the_supervisor();
        for _ in 0..COMMANDS {
            vm.execute_by("query-status", Duration::from_secs(10)).unwrap();
        }
        let wake_ups = wake_ups_of_the_supervisor() - before;
        println!("{COMMANDS} commands, and the supervisor was woken {wake_ups} times");
        assert!(wake_ups < COMMANDS / 2, "{wake_ups}");
        vm.shutdown(Shutdown::default()).unwrap();
    });
}
