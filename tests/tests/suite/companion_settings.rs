//! Stories of the settings of a companion: the attributes of its process, and an option of QEMU for its socket.

use std::fs;

use qemu_machine_core::{
    Companion, Config, Deadline, ExitStatus, ProcessAttributes, Resource, ResourceLimit, Shutdown, Variable,
};
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::{PATIENCE, qemu, virtiofsd};

use crate::companions::{shared, wait_for_file};
use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

/// The number of descriptors that the companion may open.
const FILES: u64 = 77;

/// Returns what the kernel knows about a process: the variables of its environment, its user id, and its limit of
/// descriptors (`proc_pid_environ(5)`, `proc_pid_status(5)`, `proc_pid_limits(5)`).
fn known(pid: u32) -> (Vec<String>, u32, u64) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
    let after = |file: &str, name: &str| {
        let line = read(file).lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.and_then(|line| line.split_whitespace().next().map(str::to_owned)).expect("the kernel lists it")
    };
    let id = after("status", "Uid:").parse().expect("a number");
    let files = after("limits", "Max open files").parse().expect("a number");
    (read("environ").split('\0').map(str::to_owned).collect(), id, files)
}

/// The companion has its own attributes, and neither those of the machine nor the machine those of the companion.
fn a_companion_has_the_attributes_of_its_own<H: Hosted>() {
    let own = rustix::process::geteuid().as_raw();
    // Only a privileged program can change it.
    let other = if own == 0 { 65534 } else { own };
    let variable = Variable { name: b"OF_THE_COMPANION".into(), value: Some(b"its own".into()) };
    let attributes = ProcessAttributes {
        uid: Some(other),
        limits: vec![ResourceLimit { resource: Resource::OpenFiles, value: FILES }],
        environment: vec![variable],
        ..ProcessAttributes::default()
    };
    let sleeper = Companion::new("sleeper", "sleep").arg("600").attributes(attributes);
    let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults"]).env("OF_THE_MACHINE", "its own");
    let mut machine = H::launch(config.companion(sleeper)).expect("both start");
    let companion = known(machine.companion_pid("sleeper").expect("it runs"));
    let qemu = known(machine.pid().expect("it runs"));
    let [of_companion, of_machine] = ["OF_THE_COMPANION=its own", "OF_THE_MACHINE=its own"].map(str::to_owned);
    assert_eq!((companion.1, companion.2), (other, FILES));
    assert!(companion.0.contains(&of_companion) && !companion.0.contains(&of_machine), "{companion:?}");
    assert_eq!(qemu.1, own);
    assert_ne!(qemu.2, FILES);
    assert!(!qemu.0.contains(&of_companion) && qemu.0.contains(&of_machine), "{qemu:?}");
    machine.kill().expect("the machine was launched");
}

/// The option has the path of the socket behind its prefix, with the comma of the directory doubled. QEMU speaks with
/// virtiofsd during the launch.
fn an_option_of_the_caller_has_the_path_of_the_socket<H: Hosted>() {
    let scratch = Scratch::create();
    let directory = scratch.path().join("with,comma");
    fs::create_dir(&directory).expect("it is writable");
    let source = format!("source={}", scratch.path().to_str().expect("a path in UTF-8"));
    let server = Companion::new("fs", virtiofsd()).args(["-o", &source]).option("-chardev", "socket,id=fs,path=");
    for server in [server.clone().listener("--fd="), server.path("--socket-path=")] {
        let mut machine = H::launch(shared(&directory, server)).unwrap_or_else(|error| panic!("{error}"));
        let line = machine.command_line().to_string();
        assert!(line.contains("with,,comma"), "{line}");
        assert_eq!(machine.execute("query-status", LONG).expect("the monitor answers")["status"], "prelaunch");
        let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
        assert_eq!(outcome.companions[0].exit, Some(ExitStatus::Code(0)), "{outcome:#}");
    }
}

/// The option has the number of the descriptor behind its prefix: the companion reads the greeting of a monitor. It stays
/// until QEMU closes its end.
fn an_option_of_the_caller_has_the_descriptor_of_the_socket<H: Hosted>() {
    const CLIENT: &str = "read -r greeting <&\"$1\"; echo \"$greeting\"; : >\"$0\"; exec cat <&\"$1\"";
    let scratch = Scratch::create();
    let done = scratch.path().join("done");
    let client = Companion::new("client", "sh").args(["-c", CLIENT]).arg(bytes(&done)).connected("");
    let client = client.option("-chardev", "socket,id=other,fd=");
    let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-mon", "chardev=other,mode=control"]);
    let mut machine = H::launch(config.companion(client)).unwrap_or_else(|error| panic!("{error}"));
    wait_for_file(&done);
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert!(outcome.companions[0].log.starts_with("{\"QMP\": "), "{outcome:#}");
    assert_eq!(outcome.companions[0].exit, Some(ExitStatus::Code(0)), "{outcome:#}");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_companion_has_the_attributes_of_its_own
            an_option_of_the_caller_has_the_path_of_the_socket
            an_option_of_the_caller_has_the_descriptor_of_the_socket
        }
    };
}

rows!(stories);
