//! Tests of the shell at a terminal.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use qemu_machine_blocking::Shutdown;
use qemu_machine_tests::leak_check::{Scratch, leaving_nothing, send, stop};
use qemu_machine_tests::qemu;
use rustix::process::Signal;

use super::terminal::Terminal;
use super::{Monitored, not_private};

/// Runs a test at the terminal of a shell that has launched a QEMU, and asserts that nothing is left behind.
pub(crate) fn with_launched(arguments: &[&str], test: impl FnOnce(&mut Terminal) + Send + 'static) {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    leaving_nothing(move |temporary| {
        let state = Scratch::create();
        let launched = ["--", qemu(), "-M", "none"];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(launched).collect();
        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        test(&mut terminal);
        terminal.press("\x04");
        let (status, screen) = terminal.end();
        assert!(status.success(), "{status}: {screen}");
    });
}

/// Runs a test at the terminal of a shell that is attached to a QEMU of the test's.
pub(crate) fn with_attached(test: impl FnOnce(&Monitored, Terminal) + Send + 'static) {
    leaving_nothing(move |temporary| {
        let state = Scratch::create();
        let monitored = Monitored::launch(state.path());
        let terminal = attach(&monitored, state.path(), temporary);
        test(&monitored, terminal);
    });
}

fn attach(to: &Monitored, state: &Path, temporary: &Path) -> Terminal {
    Terminal::begin(&[to.path.to_str().unwrap()], state, temporary)
}

#[test]
fn a_command_is_completed_and_answered() {
    with_launched(&[], |terminal| {
        terminal.press("device-a\t");
        terminal.line_is("qmp> device_add driver= [bus=] [id=]");
        terminal.press("\x15query-stat\t");
        terminal.until("a list", |screen| screen.contents().contains("query-stats-schemas   query-status"));
        terminal.line_is("qmp> query-stat");
        terminal.press("us\r");
        terminal.until("a reply", |screen| screen.contents().contains(r#""status": "running""#));
        terminal.press("blockdev-add driver=null-c\t");
        terminal.line_is("qmp> blockdev-add driver=null-co");
        terminal.press("node-name=disk size=1M read-only=o");
        terminal.enter("n", "{}");
        terminal.enter("query-named-block-nodes flat=on", r#""virtual-size": 1048576"#);
    });
}

#[test]
fn names_that_only_qemu_knows_are_completed() {
    leaving_nothing(|temporary| {
        let state = Scratch::create();
        let mut terminal = Terminal::begin(&["--", qemu(), "-S"], state.path(), temporary);
        terminal.press("device_add driver=virtio-rng-p\t");
        terminal.line_is("qmp> device_add driver=virtio-rng-pci");
        terminal.press(" max-b\t");
        terminal.line_is("qmp> device_add driver=virtio-rng-pci max-bytes=");
        terminal.enter("1 id=random", "{}");
        terminal.press("qom-get path=/machine/peri\t");
        terminal.until("a list", |screen| screen.contents().contains("/machine/peripheral-anon/"));
        terminal.press("/r\t");
        terminal.line_is("qmp> qom-get path=/machine/peripheral/random/");
        terminal.press(" property=max\t");
        terminal.enter("", "\n1\n");
        terminal.enter("blockdev-add driver=null-co node-name=one", "{}");
        terminal.press("blockdev-del node-name=\t");
        terminal.enter("", "blockdev-del node-name=one");
        terminal.press("device_del id=\t");
        terminal.line_is("qmp> device_del id=random");
        terminal.press("\x15exit\r");
        assert!(terminal.end().0.success());
    });
}

#[test]
fn a_wide_reply_is_printed_on_several_lines() {
    with_launched(&[], |terminal| {
        terminal.enter("query-kvm", r#"{"enabled": false, "present": "#);
        terminal.enter("query-commands", "\n]\n");
        let rows: Vec<_> = (2..20).map(|up| terminal.above(up)).collect();
        assert!(rows.iter().all(|row| row.starts_with("  {\"name\": ")), "{rows:#?}");
    });
}

#[test]
fn an_error_suggests_the_right_name() {
    with_launched(&[], |terminal| {
        terminal.enter("qeury-uuid", "error: `qeury-uuid`: no such command; did you mean `query-uuid`?");
        terminal.enter("device_del it=x", "error: `device_del`: no argument `it`; did you mean `id`?");
        terminal.enter("device_del id=x", "error: DeviceNotFound: Device 'x' not found");
        terminal.enter("help device_del", "  id  string");
    });
}

/// The event comes while a line is half typed.
#[test]
fn an_event_does_not_tear_the_line() {
    with_attached(|monitored, mut terminal| {
        terminal.press("query-sta");
        terminal.line_is("qmp> query-sta");
        monitored.vm.execute("stop").unwrap();
        terminal.until("an event", |screen| screen.contents().contains("event STOP"));
        terminal.line_is("qmp> query-sta");
        assert_eq!(terminal.above(1), "event STOP");
        assert!(terminal.above(2).starts_with("QEMU "), "the line is on the screen once: {}", terminal.above(2));
        terminal.enter("tus", r#""status": "paused""#);
        // The events of the shell's own commands are shown, too.
        terminal.enter("cont", "event RESUME");
    });
}

#[test]
fn the_option_no_events_hides_events() {
    with_launched(&["--no-events"], |terminal| {
        terminal.enter("stop", "{}");
        terminal.enter("cont", "{}");
        terminal.enter("query-status", r#""status": "running""#);
        terminal.until("no event", |screen| !screen.contents().contains("event "));
    });
}

#[test]
fn lines_are_in_the_history_of_this_shell_and_of_the_next() {
    leaving_nothing(|temporary| {
        let state = Scratch::create();
        let monitored = Monitored::launch(state.path());
        let mut terminal = attach(&monitored, state.path(), temporary);
        terminal.enter("query-name", "{}");
        terminal.enter(" query-uuid", "UUID");
        terminal.enter("set_password protocol=vnc password=geheim", "error: ");
        terminal.press("\x1b[A");
        terminal.line_is("qmp> query-name");
        terminal.press("\x15\x04");
        assert!(terminal.end().0.success());

        let history = state.path().join("qmpsh/history");
        let kept = fs::read_to_string(&history).unwrap();
        assert!(kept.contains("query-name") && !kept.contains("geheim") && !kept.contains("query-uuid"), "{kept}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&history), mode(history.parent().unwrap())), (0o600, 0o700));
        let mut terminal = attach(&monitored, state.path(), temporary);
        terminal.press("\x1b[A");
        terminal.line_is("qmp> query-name");
        terminal.press("\x15\x04");
        assert!(terminal.end().0.success());

        // The human monitor has a history of its own.
        let arguments = ["--hmp", monitored.path.to_str().unwrap()];
        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        terminal.enter("info name", "hmp> info name");
        terminal.press("\x1b[A\x1b[A");
        terminal.line_is("hmp> info name");
        assert_eq!(mode(&state.path().join("qmpsh/history-hmp")), 0o600);
    });
}

/// The prompt works without a history when the file is none of this user, and that stays as it is.
#[test]
fn g38_a_history_is_written_to_a_file_of_its_owner_only() {
    leaving_nothing(|temporary| {
        let (state, scratch) = (Scratch::create(), Scratch::create());
        for (path, words) in not_private(&scratch) {
            let before = fs::symlink_metadata(&path).unwrap();
            let arguments = ["--history", path.to_str().unwrap(), "--", qemu(), "-M", "none"];
            let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
            terminal.enter("query-name", words);
            terminal.press("exit\r");
            assert!(terminal.end().0.success());
            let after = fs::symlink_metadata(&path).unwrap();
            assert_eq!((after.ino(), after.mode(), after.len()), (before.ino(), before.mode(), before.len()));
        }
        assert_eq!(fs::read_to_string(scratch.path().join("target")).unwrap(), "of a link");
    });
}

#[test]
fn with_the_option_no_history_no_file_is_written() {
    leaving_nothing(|temporary| {
        let state = Scratch::create();
        let arguments = ["--no-history", "--", qemu(), "-M", "none"];
        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        terminal.enter("query-name", "{}");
        terminal.press("exit\r");
        assert!(terminal.end().0.success());
        assert_eq!(state.entries(), [""; 0]);
    });
}

#[test]
fn ctrl_c_drops_the_line_and_not_the_shell() {
    with_launched(&[], |terminal| {
        terminal.press("query-na");
        terminal.line_is("qmp> query-na");
        terminal.press("\x03");
        terminal.line_is("qmp>");
        terminal.enter("query-name", "{}");
    });
}

#[test]
fn ctrl_c_interrupts_a_command_that_takes_too_long() {
    with_attached(|monitored, mut terminal| {
        let pid = monitored.vm.pid().unwrap();
        stop(pid);
        terminal.press("query-name\r");
        terminal.until("the command to begin", |screen| !screen.bracketed_paste());
        terminal.press("\x03");
        terminal.until("a prompt", |screen| screen.contents().contains("error: interrupted; QEMU may still"));
        terminal.line_is("qmp>");
        send(pid, Signal::CONT);
        terminal.enter("query-uuid", "UUID");
    });
}

#[test]
fn keys_typed_before_the_prompt_are_not_lost() {
    with_launched(&[], |terminal| {
        terminal.enter("stop\rcont\rquery-uuid", "UUID");
        terminal.enter("query-status", r#""status": "running""#);
    });
}

#[test]
fn lines_reach_the_human_monitor() {
    with_launched(&["--hmp"], |terminal| {
        terminal.line_is("hmp>");
        terminal.enter("info status", "VM status: running");
    });
    with_launched(&[], |terminal| terminal.enter("hmp info status", "VM status: running"));
}

/// QEMU does not keep the CPU that the human monitor is about: the shell does.
#[test]
fn the_human_monitor_keeps_its_cpu() {
    leaving_nothing(|temporary| {
        let state = Scratch::create();
        let arguments = ["--hmp", "--", qemu(), "-S", "-smp", "2"];
        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        terminal.enter("info cpus", "* CPU #0");
        terminal.enter("cpu 5", "error: ");
        terminal.enter("info cpus", "* CPU #0");
        terminal.press("cpu 1\r");
        terminal.enter("info cpus", "* CPU #1");
        // QEMU refuses a negative one.
        terminal.press("cpu 0\rcpu 0x1\rcpu -1\rinfo cpus\r");
        terminal.until("the same CPU", |screen| screen.contents().matches("* CPU #1").count() == 2);
        terminal.press("exit\r");
        assert!(terminal.end().0.success());
    });
}

#[test]
fn the_shell_ends_with_the_chosen_exit_code() {
    for (line, code) in [("exit 3", 3), ("quit 4", 4), ("exit", 0)] {
        leaving_nothing(move |temporary| {
            let state = Scratch::create();
            let mut terminal = Terminal::begin(&["--", qemu(), "-M", "none"], state.path(), temporary);
            terminal.press(&format!("{line}\r"));
            assert_eq!(terminal.end().0.code(), Some(code), "{line}");
        });
    }
}

#[test]
fn the_shell_ends_with_its_qemu() {
    leaving_nothing(|temporary| {
        let state = Scratch::create();
        let mut terminal = Terminal::begin(&["--", qemu(), "-M", "none"], state.path(), temporary);
        terminal.press("quit\r");
        let (status, screen) = terminal.end();
        assert!(status.success() && screen.ends_with("QEMU: ended by the caller (quit)"), "{status}: {screen}");
    });
    with_attached(|monitored, mut terminal| {
        terminal.press("query-");
        terminal.line_is("qmp> query-");
        monitored.vm.shutdown(Shutdown::default()).unwrap();
        let (status, screen) = terminal.end();
        assert!(status.success() && screen.contains("event SHUTDOWN"), "{status}: {screen}");
    });
}

/// The files of the session are written before.
#[test]
fn a_signal_ends_the_shell_and_the_qemu_that_it_launched() {
    leaving_nothing(|temporary| {
        let state = Scratch::create();
        let page = state.path().join("page.html");
        let options = ["--no-history", "--report", page.to_str().unwrap(), "--", qemu(), "-M", "none"];
        for signal in [Some(Signal::TERM), Some(Signal::HUP), None] {
            let mut terminal = Terminal::begin(&options, state.path(), temporary);
            terminal.press("query-");
            terminal.line_is("qmp> query-");
            match signal {
                Some(signal) => {
                    send(terminal.pid(), signal);
                    let (status, screen) = terminal.end();
                    assert_eq!(status.code(), Some(128 + signal.as_raw()), "{screen}");
                }
                None => terminal.close(),
            }
            assert!(fs::read_to_string(&page).unwrap().ends_with("</html>\n"), "{signal:?}");
            fs::remove_file(&page).unwrap();
        }
    });
}
