//! Stories of rows 1 to 7 and 9 to 12: command line, names, directories, sockets, monitor and launch deadline.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use qemu_machine_core::{
    Address, Cause, Config, LaunchError, LaunchFailure, Mark, Misuse, Monitor, Phase, Shutdown, Wait,
};
use qemu_machine_tests::guest::{self, ImageFile, Letter};
use qemu_machine_tests::leak_check::{Scratch, descendants};
use qemu_machine_tests::qemu;

use super::{LONG, bytes, cmdline, empty, group, link};
use crate::harness::launch_stalled;
use crate::hosted::Hosted;
use crate::left_out::{dialling, possible};
use crate::rows;

fn row_01_the_command_line_can_be_read_and_is_in_errors<H: Hosted>() {
    let mut machine = H::launch(empty().wrapper(["env", "A=b c"])).expect("QEMU starts");
    let line = machine.command_line();
    assert_eq!(line.arguments()[..3], [b"env".to_vec(), b"A=b c".to_vec(), qemu().into()]);
    assert!(line.to_string().starts_with("env 'A=b c' qemu-system-x86_64 -display none"), "{line}");
    let pid = machine.pid().expect("the process runs");
    let executed: Vec<_> = line.arguments()[2..].iter().map(|argument| String::from_utf8_lossy(argument)).collect();
    assert_eq!(cmdline(pid)[..executed.len()], executed, "env has become QEMU");
    assert_eq!(machine.kill().expect("the machine was launched").command_line, line);

    let odd = Config::new(qemu()).arg(&b"-\xff it's"[..]);
    let error = H::launch(odd).map(|_| ()).expect_err("there is no such option").to_string();
    assert!(error.contains("  command: qemu-system-x86_64 -display none"), "{error}");
    assert!(error.ends_with(r"$'-\xff it\'s'"), "{error}");
}

fn row_01_a_wrapper_is_one_process_group_with_qemu<H: Hosted>() {
    let mut machine = H::launch(empty().wrapper(["timeout", "60"])).expect("QEMU starts");
    let wrapper = machine.pid().expect("the process runs");
    let qemu = descendants(wrapper).into_iter().next().expect("the wrapper has a child");
    assert_eq!((group(qemu.pid), group(wrapper)), (wrapper, wrapper));
    assert_ne!(group(std::process::id()), wrapper);
    assert_eq!(
        machine.shutdown(Shutdown::default()).expect("the machine was launched").exit.map(|exit| exit.to_string()),
        Some("exit status 0".into())
    );
}

fn row_02_names_are_unique_and_begin_every_path<H: Hosted>() {
    let config = || dialling(empty()).name("twin").monitor(Monitor::Socket);
    let (mut one, mut other) = (H::launch(config()).expect("QEMU starts"), H::launch(config()).expect("QEMU starts"));
    let directories = [&mut one, &mut other].map(|machine| machine.directory().expect("there is a directory"));
    assert_ne!(directories[0], directories[1]);
    for directory in &directories {
        let name = directory.file_name().expect("it has a name").to_string_lossy();
        assert!(name.starts_with("twin-") && name.len() > "twin-".len() + 8, "{name}");
    }
    one.kill().expect("the machine was launched");
    other.execute("query-name", LONG).expect("the other machine runs on");
    other.kill().expect("the machine was launched");
}

fn row_03_the_directory_is_private_and_removed_with_the_machine<H: Hosted>() {
    let scratch = Scratch::create();
    let config = dialling(empty()).temporary_directory(bytes(scratch.path())).monitor(Monitor::Socket);
    let mut machine = H::launch(config).expect("QEMU starts");
    let directory = machine.directory().expect("the socket is in it");
    assert!(directory.starts_with(scratch.path()));
    let mode = std::fs::metadata(&directory).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // A file of another program is removed as well.
    std::fs::write(directory.join("mine"), "x").expect("the directory is ours");
    assert_eq!(machine.kill().expect("the machine was launched").faults, []);
    assert_eq!(scratch.entries(), [""; 0]);
}

fn row_03_no_directory_is_made_that_is_not_needed<H: Hosted>() {
    let (scratch, logs) = (Scratch::create(), Scratch::create());
    let config = empty().temporary_directory(bytes(scratch.path())).log_directory(bytes(logs.path()));
    let mut machine = H::launch(config).expect("QEMU starts");
    assert_eq!((machine.directory(), scratch.entries().len(), logs.entries().len()), (None, 0, 1));
    machine.kill().expect("the machine was launched");
    // By default the log has no path, and nothing can be left behind.
    let mut machine = H::launch(empty().temporary_directory(bytes(scratch.path()))).expect("QEMU starts");
    assert_eq!((machine.directory(), machine.log_path(), scratch.entries().len()), (None, None, 0));
    machine.kill().expect("the machine was launched");
}

fn row_04_sockets_are_created_in_the_chosen_directory<H: Hosted>() {
    let scratch = Scratch::create();
    let config = || dialling(empty()).monitor(Monitor::Socket).socket_directory(bytes(scratch.path()));
    let mut machine = H::launch(config().name("vm")).expect("QEMU starts");
    let Some(Address::Unix(path)) = machine.monitor_address() else { panic!("it is a path") };
    let path = String::from_utf8(path).expect("it is text");
    assert!(path.starts_with(&*scratch.path().join("vm-").to_string_lossy()), "{path}");
    machine.kill().expect("the machine was launched");
    assert_eq!(scratch.entries(), [""; 0]);

    let too_long = config().name("x".repeat(100));
    let Err(LaunchError::Failed { failure, outcome }) = H::launch(too_long) else { panic!("no path is that long") };
    assert!(failure.to_string().contains("name too long"), "{failure}");
    assert_eq!((outcome.cause, outcome.exit, scratch.entries().len()), (Cause::NotStarted, None, 0));
}

fn row_05_qemu_connects_to_our_socket<H: Hosted>() {
    let scratch = Scratch::create();
    let odd = scratch.path().join("a,b c\u{e9}.sock");
    let any_port = Address::Tcp("127.0.0.1:0".parse().expect("an address"));
    let sixth = Address::Tcp("[::1]:0".parse().expect("an address"));
    let name = Address::abstract_unix([bytes(scratch.path()), b",n"].concat());
    let addresses = possible([Address::unix(bytes(&odd)), name, any_port, sixth]);
    for monitor in addresses.map(Monitor::At).chain([Monitor::Socket]) {
        let mut machine = H::launch(dialling(empty()).monitor(monitor.clone())).expect("QEMU starts");
        let address = machine.monitor_address().expect("there is a listening socket");
        if let Address::Tcp(address) = address {
            assert_ne!(address.port(), 0);
        }
        machine.execute("query-status", LONG).expect("the monitor answers");
        machine.shutdown(Shutdown::default()).expect("the machine was launched");
        assert_eq!(scratch.entries(), [""; 0], "{monitor:?}");
    }
}

fn row_05_a_socket_of_another_program_stays<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("taken.sock");
    let others = UnixListener::bind(&path).expect("the path is free");
    let config = empty().monitor(Monitor::At(Address::unix(bytes(&path))));
    let Err(LaunchError::Failed { failure, outcome }) = H::launch(config) else { panic!("the path is taken") };
    assert!(matches!(failure, LaunchFailure::Host(_)) && failure.to_string().contains("Address already in use"));
    assert_eq!((outcome.cause, outcome.faults), (Cause::NotStarted, vec![]));
    assert!(path.exists());
    drop(others);
}

/// The launch does not wait for the connection of a program that has ended.
fn row_05_an_exit_before_the_connection_fails_the_launch<H: Hosted>() {
    let config = empty().arg("-nonsense").monitor(Monitor::Socket).launch_within(LONG);
    let Err(LaunchError::Failed { failure, outcome }) = H::launch(config) else { panic!("there is no such option") };
    assert_eq!(failure, LaunchFailure::Exited(Phase::Connecting));
    assert!(outcome.log.contains("-nonsense: invalid option"), "{outcome}");
}

fn row_06_a_machine_without_a_monitor<H: Hosted>() {
    let image = ImageFile::create().expect("the image can be written");
    let config = || {
        let config = Config::new(qemu()).args(["-accel", "tcg"]).args(guest::arguments(image.path()));
        config.serial("tty").without_monitor()
    };
    let mut machine = H::launch(config()).expect("QEMU starts");
    assert_eq!(machine.execute("quit", LONG), Err(Misuse::NoMonitor.into()));
    machine.wait_for(Wait::text("tty", guest::GREETING));
    machine
        .console_write("tty", &char::from(Letter::PowerOff.byte()).to_string())
        .expect("the console accepts a letter");
    let outcome = machine.wait(LONG).expect("the guest powers off");
    assert_eq!((&outcome.cause, outcome.rungs.len()), (&Cause::Exit(0), 0));

    let mut machine = H::launch(config()).expect("QEMU starts");
    machine.wait_for(Wait::text("tty", guest::GREETING));
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_eq!(outcome.cause, Cause::Asked(qemu_machine_core::Rung::Terminate));
    assert!(outcome.log.contains("terminating on signal 15"), "{outcome}");
}

fn row_07_one_deadline_bounds_the_whole_launch<H: Hosted>() {
    assert!(Config::LAUNCH_WITHIN <= Duration::from_secs(30), "the default deadline is finite");
    // The wrapper never executes QEMU, so there is no greeting.
    let stalled = |config: &Config, expected| match launch_stalled::<H>(config, Duration::from_millis(100), |phase| {
        phase == expected
    }) {
        Err(LaunchError::Failed { failure, outcome }) => (failure, outcome.cause),
        other => panic!("the launch does not stall: {:?}", other.err()),
    };
    let config = empty().wrapper(["sh", "-c", "exec sleep 60"]);
    for (config, phase) in [(config.clone(), Phase::Greeting), (config.monitor(Monitor::Socket), Phase::Connecting)] {
        assert_eq!(stalled(&config, phase), (LaunchFailure::TimedOut(phase), Cause::LaunchFailed));
    }
}

fn row_09_arguments_are_inspected_and_extended<H: Hosted>() {
    let config = empty();
    assert_eq!(config.arguments().last().map(Vec::as_slice), Some(&b"-S"[..]));
    let mut machine = H::launch(config.args(["-name", "nine"])).expect("QEMU starts");
    assert_eq!(machine.execute("query-name", LONG).expect("the monitor answers")["name"], "nine");
    machine.kill().expect("the machine was launched");
}

fn row_10_the_machine_type<H: Hosted>() {
    let mut machine =
        H::launch(Config::new(qemu()).machine("none,graphics=off").arg("-nodefaults")).expect("QEMU starts");
    let what = qemu_machine_core::json!({"path": "/machine", "property": "type"});
    assert_eq!(machine.execute_with("qom-get", what).expect("the monitor answers"), "none-machine");
    machine.kill().expect("the machine was launched");
}

fn row_11_the_base_arguments_come_in_order_and_can_be_left_out<H: Hosted>() {
    let config = Config::new(qemu()).machine("none").serial("tty").no_serial().arg("-nodefaults");
    let mut machine = H::launch(config).expect("QEMU starts");
    let options: Vec<_> =
        cmdline(machine.pid().expect("the process runs")).into_iter().filter(|a| a.starts_with('-')).collect();
    let expected =
        ["-display", "-vga", "-chardev", "-qmp", "-machine", "-chardev", "-serial", "-serial", "-S", "-nodefaults"];
    assert_eq!(options, expected);
    machine.kill().expect("the machine was launched");

    let image = ImageFile::create().expect("the image can be written");
    let config = Config::new(qemu()).with_display().with_vga().without_monitor().serial("tty");
    let config = config.args(["-accel", "tcg", "-display", "none"]).args(guest::arguments(image.path()));
    let mut machine = H::launch(config).expect("QEMU starts");
    // Until `execve(2)` is done, the kernel does not report the arguments of QEMU, and there is no monitor to wait for.
    let greeted = machine.wait_any(&Mark::default(), &[Wait::text("tty", guest::GREETING)], LONG);
    greeted.expect("the guest greets");
    let options: Vec<_> =
        cmdline(machine.pid().expect("the process runs")).into_iter().filter(|a| a.starts_with('-')).collect();
    assert_eq!(options[..5], ["-chardev", "-serial", "-accel", "-display", "-bios"]);
    machine.kill().expect("the machine was launched");
}

fn is_made_by_option(label: &str) -> bool {
    label.starts_with("compat_monitor")
}

fn row_12_an_unused_monitor<H: Hosted>() {
    let monitors = |machine: &mut H| {
        let chardevs = machine.execute("query-chardev", LONG).expect("the monitor answers");
        let all = chardevs.as_array().expect("a list").clone();
        // The number in the label depends on the version: older ones count the monitor of the library as well.
        all.into_iter().filter(|chardev| chardev["label"].as_str().is_some_and(is_made_by_option)).count()
    };
    let mut machine = H::launch(empty().null_monitor()).expect("QEMU starts");
    assert_eq!(monitors(&mut machine), 1);
    assert_eq!(link(machine.pid().expect("the process runs"), 0), "/dev/null");
    machine.kill().expect("the machine was launched");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_01_the_command_line_can_be_read_and_is_in_errors
            row_01_a_wrapper_is_one_process_group_with_qemu
            row_02_names_are_unique_and_begin_every_path
            row_03_the_directory_is_private_and_removed_with_the_machine
            row_03_no_directory_is_made_that_is_not_needed
            row_04_sockets_are_created_in_the_chosen_directory
            row_05_qemu_connects_to_our_socket
            row_05_a_socket_of_another_program_stays
            row_05_an_exit_before_the_connection_fails_the_launch
            row_06_a_machine_without_a_monitor
            row_07_one_deadline_bounds_the_whole_launch
            row_09_arguments_are_inspected_and_extended
            row_10_the_machine_type
            row_11_the_base_arguments_come_in_order_and_can_be_left_out
            row_12_an_unused_monitor
        }
    };
}

rows!(stories);
