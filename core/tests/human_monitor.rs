//! Tests of the texts of the human monitor: which of them report an error.

use qemu_machine_core::Command as _;
use qemu_machine_core::commands::{HumanMonitorCommand, HumanText};
use serde_json::json;

fn is_error(text: &str) -> bool {
    let checked = HumanText::from(text).check();
    if let Err(error) = &checked {
        assert_eq!(error.text, text.trim_end());
    }
    assert!(
        checked.as_ref().is_ok_and(|same| *same == *text) || checked.is_err(),
        "a text that is no error is unchanged"
    );
    checked.is_err()
}

#[test]
fn the_words_of_qemu_for_an_error_are_found() {
    let errors = [
        "Error: Device 'none' not found\r\n",
        "Error: Device 'x' cannot be used\r\nTry another one\r\n",
        "unknown command: 'nonsense'\r\n",
        "unknown command: 'info nonsense'\r\n",
        "Command \"x_colo_lost_heartbeat\" is not available.\r\n",
        "Command 'info block' not available with -preconfig until machine initialization has completed.\r\n",
        "Command 'info block' not available until machine initialization has completed.\r\n",
        "memsave: integer expected\r\nTry \"help memsave\" for more information\r\n",
        "Expected 'on' or 'off'\r\nTry \"help set_link\" for more information\r\n",
        "warning: '-x' is deprecated\r\nError: it does not work\r\n",
        "info: a remark\r\nwarning: another\r\nunknown command: 'x'\r\n",
        "Error: ",
        "unknown command: '",
    ];
    for text in errors {
        assert!(is_error(text), "{text}");
    }
}

#[test]
fn the_same_words_elsewhere_are_no_error() {
    let results = [
        "",
        "\r\n",
        "VM status: running\r\n",
        "VM status: io-error\r\n",
        "Errors: 0\r\n",
        "Error (0x3): a register\r\n",
        "disk0: /images/Error: x.qcow2 (qcow2)\r\n",
        "disk0: null-co\r\nError: this line is the name of a file\r\n",
        "  Error: indented\r\n",
        "0000000000001000: 'E' 'r' 'r' 'o' 'r' ':' ' '\r\n",
        "help|? [cmd] -- show the help\r\nunknown command: 'this is the help of a command'\r\n",
        "Command line: -M none\r\n",
        "Command \"x\" is available\r\n",
        "Try \"help x\" for more information\r\nand more\r\n",
        "warning: '-x' is deprecated\r\n",
        "warning: '-x' is deprecated\r\nVM status: running\r\n",
    ];
    for text in results {
        assert!(!is_error(text), "{text}");
    }
}

#[test]
fn a_command_that_prints_nothing_has_succeeded() {
    for text in ["", "\r\n", "warning: '-x' is deprecated\r\n", "info: a remark\r\nwarning: another\r\n"] {
        assert_eq!(HumanText::from(text).check_empty(), Ok(()), "{text}");
    }
    let error = HumanText::from("could not open disk image x\r\n").check_empty().expect_err("it has printed something");
    assert_eq!(error.to_string(), "the human monitor reports an error: could not open disk image x");
    let hostile = HumanText::from("Error: \u{1b}[2J\r\nFORGED\r\n").check().expect_err("an error");
    assert_eq!(hostile.to_string(), r"the human monitor reports an error: Error: \u{1b}[2J\r\nFORGED");
}

#[test]
fn the_command_has_the_line_as_its_argument() {
    let command = HumanMonitorCommand::new("info block");
    let arguments = command.arguments().map(|arguments| serde_json::to_value(arguments).expect("JSON"));
    assert_eq!((command.name(), arguments), ("human-monitor-command", Some(json!({"command-line": "info block"}))));
}
