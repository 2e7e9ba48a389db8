//! Tests of lines that continue, of transactions, and of the positions and exit codes of scripts.

use std::fs;

use qemu_machine_tests::leak_check::{Scratch, leaving_nothing};

use super::at_prompt::with_launched;
use super::in_scripts::{bad, good, launch, run};
use super::{Monitored, SHELL, shell};

#[test]
fn a_line_continues_until_its_brackets_are_closed() {
    with_launched(&[], |terminal| {
        terminal.press("{\"execute\":\r");
        terminal.line_is("...");
        terminal.enter("\"query-uuid\"}", "UUID");
        terminal.enter("{\"execute\": \"no-such\"}", "error: CommandNotFound: ");
        terminal.press("set-action panic='\r");
        terminal.line_is("...");
        // Ctrl-C, and Ctrl-D on an empty line, drop the line and not the shell.
        terminal.press("\x03");
        terminal.line_is("qmp>");
        terminal.press("set-action panic='\r");
        terminal.line_is("...");
        terminal.press("\x04");
        terminal.line_is("qmp>");
        terminal.enter("query-name", "{}");
    });
}

#[test]
fn a_line_continues_after_a_backslash() {
    with_launched(&[], |terminal| {
        terminal.press("set-action \\\r");
        terminal.line_is("... [reboot=] [shutdown=] [panic=] [watchdog=]");
        terminal.press("panic=pau\t");
        terminal.line_is("... panic=pause");
        terminal.enter("", "{}");
        // The history has it as one line.
        terminal.press("\x1b[A");
        terminal.until("the whole line", |screen| screen.contents().contains("qmp> set-action \\\npanic=pause"));
        terminal.press("\x03");
        terminal.line_is("qmp>");
    });
    with_launched(&["--hmp"], |terminal| {
        terminal.press("info \\\r");
        terminal.line_is("...");
        terminal.enter("status", "VM status: running");
    });
}

/// A terminal marks a pasted text, and its lines are one input.
#[test]
fn json_is_pasted_with_its_lines_and_its_id() {
    with_launched(&[], |terminal| {
        terminal.press("\x1b[200~{\n  \"execute\": \"query-name\",\n  \"id\": {\"n\": 5}\n}\x1b[201~");
        terminal.enter("", r#"{"return": {}, "id": {"n":5}}"#);
        terminal.enter(
            r#"{"execute": "no-such", "id": "a"}"#,
            "error: CommandNotFound: The command no-such has not been found (id \"a\")",
        );
        // Without the marks, each line is typed.
        terminal.enter("{\r  \"execute\": \"query-uuid\"\r}", "UUID");
    });
}

#[test]
fn a_transaction_is_collected_and_sent_as_one() {
    with_launched(&[], |terminal| {
        terminal.enter("blockdev-add driver=null-co node-name=disk0 size=1M", "{}");
        terminal.press("transaction(\r");
        terminal.line_is("...");
        terminal.press("block-dirty-bitmap-a\t");
        terminal.line_is("... block-dirty-bitmap-add node= name= [granularity=] [persistent=] [disabled=]");
        terminal.press("node=d\t");
        terminal.line_is("... block-dirty-bitmap-add node=disk0 name=");
        terminal.press("name=one granularity=64K\r");
        // An action that is not valid is dropped, and the others stay.
        terminal.press("block-dirty-bitmap-add nod=disk0\r");
        terminal.until("an error", |screen| screen.contents().contains("did you mean `node`?"));
        terminal.line_is("...");
        terminal.press("block-dirty-bitmap-add node=disk0 name=two\r)\r");
        terminal.line_is("qmp>");
        terminal.press("block-dirty-bitmap-remove node=disk0 name=\t");
        terminal.until("both", |screen| screen.contents().contains("one   two"));
        terminal.press("\x15");
        terminal.line_is("qmp>");
    });
}

#[test]
fn a_transaction_is_dropped_by_an_empty_close_and_by_ctrl_c() {
    with_launched(&["--verbose"], |terminal| {
        terminal.press("transaction(\r");
        terminal.line_is("...");
        terminal.press(")\r");
        terminal.line_is("qmp>");
        terminal.press("transaction(\r");
        terminal.line_is("...");
        terminal.press("abort\r");
        terminal.line_is("...");
        terminal.press("\x03");
        terminal.line_is("qmp>");
        terminal.enter("query-name", "\n{}\n");
        terminal.until("no transaction", |screen| !screen.contents().contains("\"execute\":\"transaction\""));
    });
}

#[test]
fn a_transaction_in_a_script_fails_as_one() {
    leaving_nothing(|_| {
        let add = "blockdev-add driver=null-co node-name=disk0 size=1M\n";
        let bitmap = "block-dirty-bitmap-add node=disk0 name=one";
        let sent = launch(&[], &format!("{add}transaction(\n  {bitmap}\n)\ntransaction( {bitmap}2 )\n"));
        assert_eq!(sent, good("{}\n{}\n{}\n"));
        let (code, _, complained) = launch(&[], &format!("{add}transaction(\n{bitmap}\nabort\n)\n"));
        let refused = "qmpsh: stdin:2: transaction( …: GenericError: Transaction aborted using Abort action\n";
        assert_eq!((code, &*complained), (Some(1), refused));
        let (code, _, complained) = launch(&[], &format!("{add}transaction(\n{bitmap}\n\nabrot\n)\n"));
        assert_eq!(code, Some(1));
        assert!(
            complained.starts_with("qmpsh: stdin:5: abrot: ") && complained.contains("did you mean `abort`?"),
            "{complained}"
        );
    });
}

/// The actions after one that is not valid are not executed alone.
#[test]
fn a_transaction_with_an_action_that_is_not_valid_is_skipped_to_its_end() {
    leaving_nothing(|_| {
        let add = "blockdev-add driver=null-co node-name=disk0 size=1M\n";
        let bitmap = "block-dirty-bitmap-add node=disk0 name=one\n";
        let lines = format!("{add}transaction(\nabrot\n{bitmap}  )\nblock-dirty-bitmap-remove node=disk0 name=one\n");
        let (code, printed, complained) = launch(&["-k"], &lines);
        assert_eq!((code, &*printed), (Some(1), "{}\n"));
        let complained: Vec<_> = complained.lines().collect();
        assert!(complained[0].starts_with("qmpsh: stdin:3: abrot: "), "{complained:?}");
        assert!(complained[1].starts_with("qmpsh: stdin:6: block-dirty-bitmap-remove "), "{complained:?}");
        assert_eq!(complained.len(), 2, "{complained:?}");
        let lines = format!("{add}transaction(\n# it's a remark \\\n{bitmap}\n # )\n)\nquery-name\n");
        assert_eq!(launch(&[], &lines), good("{}\n{}\n{}\n"));
        assert_eq!(launch(&["-k"], "transaction( abrot )\nquery-name\n").1, "{}\n");
    });
    with_launched(&[], |terminal| {
        terminal.press("  transaction(\r");
        terminal.line_is("...");
        terminal.press("abrot\r");
        terminal.until("an error", |screen| screen.contents().contains("did you mean `abort`?"));
        terminal.line_is("...");
        terminal.press("# a remark\r");
        terminal.line_is("...");
        terminal.enter("abort\r)", "GenericError: Transaction aborted using Abort action");
    });
}

#[test]
fn a_position_of_an_error_has_no_secret() {
    leaving_nothing(|_| {
        let json = r#"{"execute":"set_password","arguments":{"protocol":"vnc","password":"geheim"}}"#;
        let lines = format!(
            "{json}\nobject-add qom-type=secret id=s \\\ndata=geheim bogus=1\nhmp change no-such passwd geheim\n"
        );
        let (code, _, complained) = launch(&["-k"], &lines);
        assert_eq!(code, Some(1));
        assert!(!complained.contains("geheim"), "{complained}");
        let positions = ["stdin:1: …: ", "stdin:3: object-add …: ", "stdin:4: hmp …: "];
        for (line, position) in complained.lines().zip(positions) {
            assert!(line.starts_with(&format!("qmpsh: {position}")), "{complained}");
        }
        assert_eq!(complained.lines().count(), 3, "{complained}");
    });
}

#[test]
fn a_script_that_cannot_be_read_ends() {
    leaving_nothing(|temporary| {
        let directory = temporary.to_str().unwrap();
        let failed = bad(2, &format!("{directory}:1: cannot read the next line: Is a directory (os error 21)"));
        assert_eq!(launch(&["-k", "-f", directory], ""), failed);
        let scratch = Scratch::create();
        let file = scratch.path().join("script");
        fs::write(&file, b"query-name\nquery-\xff\nquery-name\ntransaction(\n\xff\nabort\n)\nquery-name").unwrap();
        let name = file.to_str().unwrap();
        let (code, printed, complained) = launch(&["-k", "-f", name], "");
        assert_eq!((code, &*printed), (Some(2), "{}\n{}\n{}\n"));
        let expected = [(2, "query-\u{fffd}"), (5, "\u{fffd}")]
            .map(|(line, text)| format!("qmpsh: {name}:{line}: {text}: the line is not UTF-8\n"));
        assert_eq!(complained, expected.concat());
    });
}

#[test]
fn an_error_has_the_position_in_the_script() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let file = scratch.path().join("script");
        fs::write(&file, "# a remark\nquery-name\n\nhmp \\\n info status\ndevice_del id=x\nquery-name\n").unwrap();
        let name = file.to_str().unwrap();
        let (code, printed, complained) = launch(&["--file", name], "stop\n");
        assert_eq!((code, &*printed), (Some(1), "{}\nVM status: running\n"));
        let expected = format!("qmpsh: {name}:6: device_del id=x: DeviceNotFound: Device 'x' not found\n");
        assert_eq!(complained, expected);
        let (code, _, complained) = launch(&["-k"], "set_password protocol=vnc password=geheim\nno-such\r\n");
        assert_eq!(code, Some(1));
        assert!(
            complained.starts_with("qmpsh: stdin:1: set_password …: ") && !complained.contains("geheim"),
            "{complained}"
        );
        assert!(complained.contains("qmpsh: stdin:2: no-such: "), "{complained}");
        let missing = bad(2, "--file /nonexistent: No such file or directory (os error 2)");
        assert_eq!(launch(&["-f", "/nonexistent"], ""), missing);
    });
}

#[test]
fn a_script_chooses_its_exit_code() {
    leaving_nothing(|_| {
        assert_eq!(launch(&[], "query-name\nexit 7\nquery-name\n"), (Some(7), "{}\n".into(), String::new()));
        assert_eq!(launch(&[], "quit 5\nquery-name\n"), (Some(5), "{}\n".into(), String::new()));
        assert_eq!(launch(&["-H"], "info status\nq 6\n"), (Some(6), "VM status: running\n".into(), String::new()));
        // Without a number, it is that of the last command.
        assert_eq!(launch(&["-k"], "no-such\nquery-name\nexit\n").0, Some(0));
        assert_eq!(launch(&["-k"], "query-name\nno-such\n# a remark\nexit\n").0, Some(1));
        assert_eq!(launch(&["-k"], "no-such\nquery-name\n").0, Some(1), "at the end of input, the first failure");
        assert_eq!(launch(&[], "exit 300\n").0, Some(2));
        assert_eq!(launch(&["exit", "9"], "").0, Some(9));
        assert_eq!(launch(&["quit", "8"], "").0, Some(8));
    });
}

#[test]
fn json_in_a_script_keeps_its_id() {
    leaving_nothing(|_| {
        let (code, printed, complained) =
            launch(&["-k"], "{\"execute\": \"query-name\",\n \"id\": 1}\n{\"execute\": \"x\", \"id\": [2]}\n");
        assert_eq!((code, &*printed), (Some(1), "{\"return\":{},\"id\":1}\n"));
        assert!(
            complained.starts_with("qmpsh: stdin:3: {\"execute\": \"x\", \"id\": [2]}: CommandNotFound: "),
            "{complained}"
        );
        assert!(complained.ends_with(" (id [2])\n"), "{complained}");
    });
}

#[test]
fn the_monitor_may_be_in_the_environment() {
    leaving_nothing(|temporary| {
        let scratch = Scratch::create();
        let monitored = Monitored::launch(scratch.path());
        let mut command = shell(SHELL, temporary, temporary);
        let output = command.env("QMP_SOCKET", &monitored.path).arg("-H").stdin(std::process::Stdio::null()).output();
        assert!(output.unwrap().status.success());
        let monitor = monitored.path.to_str().unwrap();
        assert_eq!(run(&[monitor, "query-name"], ""), good("{}\n"));
    });
}
