//! Programs that are killed with SIGKILL, on every row: nothing of their machines is left.
//!
//! The program is this test executable, which a story starts again for the same story on the same row.

use std::fs;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;
use std::process::{Command, Stdio};

use qemu_machine_core::{Config, Monitor};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes, descendants};
use qemu_machine_tests::{PATIENCE, qemu};

use crate::companions::{server, shared};
use crate::hosted::Hosted;
use crate::rows;

/// The environment variable of the program that is killed, with the directory of its files.
const DIRECTORY: &str = "QEMU_MACHINE_KILLED_IN";

/// The line that the program prints when its machine is ready.
const READY: &str = "ready to be killed";

/// The directory for a companion that serves one, in the directory of the program.
pub(crate) const SHARED: &str = "shared";

/// Starts a program whose machine is that of `launch`, kills it when the machine is ready, and asserts that processes of
/// these names existed, and that no process and no file is left. `story` is the path of the story's test without its row:
/// module and function.
pub(crate) fn leaves_nothing<H: Hosted>(story: [&str; 2], launch: fn(&Path) -> H, names: &[&str]) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let machine = launch(Path::new(&directory));
        println!("{READY}");
        // Blocks until the story kills this process, or ends itself, which closes the standard input.
        stdin().read_line(&mut String::new()).expect("it is readable");
        drop(machine);
        return;
    }
    let scratch = Scratch::create();
    fs::create_dir(scratch.path().join(SHARED)).expect("it is writable");
    let itself = std::env::current_exe().expect("it has a path");
    let mut program = Command::new(itself);
    program.args(["--exact", "--nocapture", &format!("{}::{}::{}", story[0], H::ROW, story[1])]);
    program.env(DIRECTORY, scratch.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = program.spawn().expect("it is executable");
    let mut printed = BufReader::new(program.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    // The test harness may have begun the line.
    assert!(printed.any(|line| line.ends_with(READY)), "the machine is ready: {:?}", program.wait());
    let processes = descendants(program.id());
    // One that has ended meanwhile needs no watch.
    let watched: Vec<_> = processes.iter().filter_map(|process| Watched::new(process.pid).ok()).collect();
    program.kill().expect("it runs");
    program.wait().expect("it was started");
    let mut found: Vec<_> = processes.iter().map(|process| &*process.name).collect();
    // Without the Linux calls for that, a guard has the name of the program.
    let is_expected = |name: &&&str| !cfg!(qemu_machine_portable) || **name != "qemu-guard";
    for name in names.iter().filter(is_expected) {
        let at = found.iter().position(|other| other == name);
        found.remove(at.unwrap_or_else(|| panic!("no (or no other) {name} among {processes:?}")));
    }
    watched.iter().for_each(|process| process.assert_ends_within(PATIENCE / 2));
    assert_eq!(scratch.entries(), [SHARED]);
}

/// The processes of a machine with a file server, which starts one for the work.
pub(crate) const NAMES: [&str; 4] = ["qemu-system-x86", "virtiofsd", "virtiofsd", "qemu-guard"];

/// Returns a machine that uses the file server of the shared directory.
fn served(directory: &Path) -> Config {
    shared(directory, server(&directory.join(SHARED)).listener("--fd="))
}

fn g25_a_companion<H: Hosted>() {
    let launch = |directory: &Path| H::launch(served(directory)).expect("both start");
    leaves_nothing(["killed", "g25_a_companion"], launch, &NAMES);
}

/// Behind a wrapper that leaves the process group, with a private directory.
fn g25_a_companion_behind_a_wrapper<H: Hosted>() {
    let launch = |directory: &Path| {
        let config = served(directory).monitor(Monitor::Socket).wrapper(["setsid", "-w"]);
        H::launch(config).expect("both start")
    };
    leaves_nothing(["killed", "g25_a_companion_behind_a_wrapper"], launch, &NAMES);
}

fn g25_the_socket_of_an_extra_monitor<H: Hosted>() {
    let launch = |directory: &Path| {
        let socket = directory.join("extra-monitor");
        let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults"]).extra_monitor(bytes(&socket));
        let machine = H::launch(config).expect("QEMU starts");
        assert!(socket.exists());
        machine
    };
    leaves_nothing(["killed", "g25_the_socket_of_an_extra_monitor"], launch, &["qemu-system-x86", "qemu-guard"]);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g25_a_companion
            g25_a_companion_behind_a_wrapper
            g25_the_socket_of_an_extra_monitor
        }
    };
}

rows!(stories);
