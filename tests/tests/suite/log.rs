//! Stories of a log that is followed: lines that are waited for while QEMU runs, and what is left after its end.

use std::time::Duration;

use qemu_machine_core::{Config, Deadline, LaunchError, Limits, LogLevel, LogLine, Mark, Misuse, Shutdown, Wait, json};
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(PATIENCE.as_secs() / 2));

/// A machine whose log is followed. QEMU warns about its option at the start.
fn config() -> Config {
    Config::new(qemu())
        .args(["-machine", "none", "-nodefaults", "-S", "-netdev", "hubport,id=lonely,hubid=0"])
        .follow_log()
}

/// Waits for the next line of a level, moves the mark behind it, and returns it.
fn next<H: Hosted>(machine: &mut H, at: &mut Mark, level: LogLevel) -> LogLine {
    let hit = machine.wait_any(at, &[Wait::log(level), Wait::end()], LONG).expect("the wait succeeds");
    let line = hit.log_line().cloned().unwrap_or_else(|| panic!("{:?}", hit.found));
    *at = hit.mark;
    line
}

fn row_08_a_line_is_waited_for_while_qemu_runs<H: Hosted>() {
    let mut machine = H::launch(config()).expect("QEMU starts");
    let lonely = next(&mut machine, &mut Mark::default(), LogLevel::Warning);
    assert_eq!((lonely.level, lonely.text.contains("lonely has no peer")), (LogLevel::Warning, true), "{lonely}");

    let mut at = machine.mark();
    let begin = at.clone();
    let trace = json!({"name": "handle_qmp_command", "enable": true});
    machine.execute_with("trace-event-set-state", trace).expect("QEMU has this event");
    for command in ["query-status", "query-version"] {
        machine.execute(command, LONG).expect("the monitor answers");
        let line = next(&mut machine, &mut at, LogLevel::Output);
        assert_eq!(line.level, LogLevel::Output);
        assert!(line.text.starts_with("handle_qmp_command") && line.text.contains(command), "{line}");
    }
    // The waits and the history are those of a console.
    let hit = machine.wait_any(&begin, &[Wait::text(Config::LOG, "query-version")], LONG).expect("it was printed");
    assert!(hit.text().is_some_and(|text| text.starts_with("handle_qmp_command") && text.ends_with("query-version")));
    let warned = machine.wait_any(&begin, &[Wait::log(LogLevel::Info)], Duration::ZERO.into());
    assert_eq!(warned.map(|hit| hit.found).ok(), None, "there was no other report");
    let misuse = machine.console_write(Config::LOG, "x").expect_err("QEMU reads no log");
    assert_eq!(misuse, Misuse::TakesNoInput("log".into()));

    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    let whole = machine.console(Config::LOG, &Mark::default()).expect("there is a console");
    assert!(String::from_utf8_lossy(&whole).contains("\"quit\""), "it is read to its end");
    assert_eq!(machine.log(usize::MAX), whole);
    assert_eq!(machine.log_reader().read(usize::MAX).as_deref(), Ok(&*whole));
    assert_eq!(outcome.log.as_bytes(), whole);
    assert_eq!(
        (machine.log(3), machine.log_path(), outcome.consoles.len()),
        (whole[whole.len() - 3..].into(), None, 0)
    );
}

/// A warning and an error, which QEMU reports because of commands.
fn row_08_a_report_at_run_time_has_its_level<H: Hosted>() {
    let processor = ["-machine", "pc", "-accel", "tcg", "-cpu", "Haswell", "-smp", "1,maxcpus=2", "-m", "16"];
    let config = Config::new(qemu()).args(processor).args(["-nodefaults", "-S"]).follow_log();
    let mut machine = H::launch(config).expect("QEMU starts");
    let mut at = machine.mark();
    // The accelerator lacks some features of the processor, and QEMU warns about them for each.
    let second = json!({"driver": "Haswell-x86_64-cpu", "socket-id": 0, "core-id": 1, "thread-id": 0});
    machine.execute_with("device_add", second).expect("there is a place");
    let warning = next(&mut machine, &mut at, LogLevel::Info);
    assert_eq!((warning.level, warning.text.contains("doesn't support")), (LogLevel::Warning, true), "{warning}");
    machine.execute_with("migrate", json!({"uri": "exec:false"})).expect("the migration begins");
    let error = next(&mut machine, &mut at, LogLevel::Error);
    assert_eq!((error.level, error.text.starts_with(qemu())), (LogLevel::Error, true), "{error}");
    machine.kill().expect("the machine was launched");
}

fn row_08_a_failed_launch_has_the_log_that_was_followed<H: Hosted>() {
    for _ in 0..5 {
        let Err(LaunchError::Failed { outcome, .. }) = H::launch(config().args(["-device", "nothing"])) else {
            panic!("there is no such device")
        };
        assert!(outcome.log.contains("'nothing' is not a valid device model name"), "{outcome}");
    }
}

fn row_31_the_log_of_one_run_is_not_seen_in_the_next<H: Hosted>() {
    let script = "echo \"run $$\" >&2; exec \"$0\" \"$@\"";
    let mut machine = H::launch(config().wrapper(["sh", "-c", script])).expect("QEMU starts");
    for _ in 0..3 {
        let first = next(&mut machine, &mut Mark::default(), LogLevel::Output);
        assert_eq!(first.text, *format!("run {}", machine.pid().expect("it runs")));
        machine.kill().expect("the machine was launched");
        assert_eq!(String::from_utf8_lossy(&machine.log(usize::MAX)).matches("run ").count(), 1);
        machine.relaunch().expect("QEMU starts again");
    }
}

/// No caller waits for the log, which is larger than a pipe and than what is kept.
fn g16_a_log_that_is_followed_does_not_block_the_process<H: Hosted>() {
    let mut limits = Limits::default();
    limits.console = 64 << 10;
    let script = "seq 1 200000; exec \"$0\" \"$@\"";
    let mut machine = H::launch(config().limits(limits).wrapper(["sh", "-c", script])).expect("QEMU starts");
    let hit = machine.wait_any(&Mark::default(), &[Wait::log(LogLevel::Warning)], LONG).expect("QEMU warns");
    assert!(hit.log_line().is_some_and(|line| line.text.contains("lonely")));
    let log = machine.log(usize::MAX);
    assert_eq!(log.len(), limits.console);
    assert!(String::from_utf8_lossy(&log).contains("\n199999\n200000\n"), "the latest output is kept");
    machine.execute("query-status", LONG).expect("the monitor answers");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_eq!(outcome.log.len(), limits.log);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_08_a_line_is_waited_for_while_qemu_runs
            row_08_a_report_at_run_time_has_its_level
            row_08_a_failed_launch_has_the_log_that_was_followed
            row_31_the_log_of_one_run_is_not_seen_in_the_next
            g16_a_log_that_is_followed_does_not_block_the_process
        }
    };
}

rows!(stories);
