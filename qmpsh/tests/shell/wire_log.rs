//! Tests of the log of the wire.

use qemu_machine_tests::leak_check::{Scratch, leaving_nothing};

use super::Monitored;
use super::at_prompt::with_launched;
use super::in_scripts::run;

/// Returns a line of the log without its time, whose form it checks.
fn without_time(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "00:00:00.000000Z", "{line}");
    rest
}

#[test]
fn each_message_is_logged_to_standard_error() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let monitored = Monitored::launch(scratch.path());
        let monitor = monitored.path.to_str().unwrap();
        let (code, printed, log) = run(&["--verbose", monitor], "query-name\nstop\nhmp info status\n");
        assert_eq!((code, &*printed), (Some(0), "{}\n{}\nVM status: paused\n"));
        let log: Vec<_> = log.lines().map(without_time).collect();
        let (sent, received): (Vec<&str>, Vec<&str>) = log.iter().partition(|line| line.starts_with("> "));
        assert_eq!(sent.len(), 3, "{log:?}");
        assert!(sent[0].starts_with("> {\"execute\":\"query-name\",\"id\":"), "{sent:?}");
        assert!(received.iter().all(|line| line.starts_with("< {")), "{received:?}");
        assert!(received.iter().any(|line| line.ends_with("\"event\": \"STOP\"}")), "{received:?}");
        assert!(received.iter().any(|line| line.contains(r#""VM status: paused\r\n""#)), "{received:?}");
        assert!(log[0].starts_with("> ") && log[1].starts_with("< {\"return\": {}, \"id\": "), "{log:?}");
    });
}

/// Completion logs messages while the editor waits for keys, and holds one of them. Enter behind it ends that wait.
#[test]
fn a_line_behind_a_completion_is_executed() {
    with_launched(&["-v"], |terminal| {
        terminal.press("object-del id=\t\x15query-name\r");
        terminal.enter("query-uuid", "UUID");
        terminal.until("its reply", |screen| screen.contents().contains("\n{}\n"));
    });
}

/// The log of a message does not tear the line that is typed.
#[test]
fn at_the_prompt_messages_are_logged_above_the_line() {
    with_launched(&["-v"], |terminal| {
        terminal.press("stop\r");
        terminal.until("the log", |screen| {
            let shown = screen.contents();
            shown.contains("Z > {\"execute\":\"stop\"") && shown.contains("\"event\": \"STOP\"}")
        });
        terminal.press("device_del id=\t");
        terminal.until("a query", |screen| screen.contents().contains("/machine/peripheral"));
        terminal.line_is("qmp> device_del id=string");
        terminal.press("\x15");
    });
}
