//! Stories of the human monitor through QMP: its errors, which QEMU returns as text.

use qemu_machine_core::commands::{HumanMonitorCommand, HumanText};
use qemu_machine_core::{Config, Deadline};
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

fn print<H: Hosted>(machine: &mut H, line: &str) -> HumanText {
    machine.query(HumanMonitorCommand::new(line)).expect("the command itself succeeds")
}

fn row_20_errors_of_the_human_monitor_are_found_in_its_text<H: Hosted>() {
    // The name contains what could be taken for an error.
    let drive = "if=none,id=Error,driver=null-co,size=1M";
    let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-drive", drive]);
    let mut machine = H::launch(config).expect("QEMU starts");
    let refused = [
        ("no-such-command", "unknown command: 'no-such-command'"),
        ("info no-such-topic", "unknown command: 'info no-such-topic'"),
        ("device_del none", "Error: Device 'none' not found"),
        ("savevm", "Error: "),
        ("netdev_del none", "Error: Device 'none' not found"),
        ("set_link none on", "Error: Device 'none' not found"),
        ("set_link none maybe", "Expected 'on' or 'off'"),
        ("memsave 0", "unexpected end of expression"),
        ("stop now", "extraneous characters at the end of line"),
        ("migrate_set_parameter none 1", "Error: "),
    ];
    for (line, words) in refused {
        let error = print(&mut machine, line).check().expect_err(line);
        assert!(error.text.contains(words), "{line}: {error}");
        assert!(!error.text.ends_with('\n'), "{line}: {error:?}");
        let error = print(&mut machine, line).check_empty().expect_err(line);
        assert!(error.to_string().contains(words), "{line}: {error}");
    }
    for line in ["info block", "info status", "info version", "help info", "help", "info qtree", "info name", "print 7"]
    {
        let text = print(&mut machine, line);
        let raw = String::from(text.clone());
        assert_eq!(text.check().map(String::from), Ok(raw), "{line}");
    }
    let block = print(&mut machine, "info block").check().expect("it is no error");
    assert!(block.starts_with("Error"), "{block}");
    // A command that reports an error in other words.
    assert!(print(&mut machine, "drive_add 0 if=none,driver=none-such").check_empty().is_err());
    for line in ["stop", "cont", "drive_del Error"] {
        assert_eq!(print(&mut machine, line).check_empty(), Ok(()), "{line}");
    }
    assert_eq!(print(&mut machine, "info block").check_empty(), Ok(()), "the drive is gone");
    machine.execute("query-status", LONG).expect("the monitor stays usable");
    machine.kill().expect("it was launched");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_20_errors_of_the_human_monitor_are_found_in_its_text
        }
    };
}

rows!(stories, strict);
