//! Stories of a QEMU on another host, by a program that plays `ssh`: its monitor is a TCP connection, and no descriptor
//! and no process of it is known here.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use qemu_machine_core::{Cause, Config, Deadline, ExitStatus, Monitor, Rung, Shutdown};
use qemu_machine_tests::leak_check::{Scratch, Watched, mark, marked, send};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(PATIENCE.as_secs() / 2));

/// Plays `ssh -tt`: passes the words behind the host to a shell in a session of its own, as sshd does, and exits with the
/// status of that. When this ends first, the session gets SIGHUP, as from a terminal that is closed.
const SSH: &str = r#"#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == -o ]] && shift; shift; done
shift
[[ $1 == -- ]] && shift
exec 9> >(exec setsid bash -c '
    exec 3<&0
    bash -c "exec $1" <&- 3<&- &
    there=$!
    (read -r _ <&3; kill -HUP $there) &
    wait $there
    status=$?
    kill $! 2>/dev/null
    exit $status' there "$*")
session=$!
trap 'exit 255' TERM
wait $session
"#;

/// The script of the guide (`runtime-blocking/docs/schedulers.md`).
fn wrapper_of_the_guide() -> String {
    let guide = fs::read_to_string(qemu_machine_tests::sources::root().join("runtime-blocking/docs/schedulers.md"));
    let guide = guide.expect("it is there");
    let (_, script) = guide.split_once("```bash\n#!/bin/bash\n# qemu-on").expect("the guide has the script");
    let (script, _) = script.split_once("```").expect("it ends");
    format!("#!/bin/bash\n# qemu-on{script}")
}

/// Creates the programs `ssh` and `qemu-on`, and returns the configuration that uses them.
fn config(programs: &Scratch, mark: &str) -> Config {
    let path = |name: &str| programs.path().join(name);
    for (name, text) in [("ssh", SSH.to_owned()), ("qemu-on", wrapper_of_the_guide())] {
        fs::write(path(name), text).expect("there is room");
        fs::set_permissions(path(name), Permissions::from_mode(0o700)).expect("it is ours");
    }
    let mut search: Vec<PathBuf> = vec![programs.path().into()];
    search.extend(std::env::split_paths(&std::env::var_os("PATH").expect("it is set")));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config::new(qemu())
        .args(["-machine", "none", "-nodefaults", "-name", "two words; 'quoted' $HOME"])
        .args(["-uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "-name", mark])
        .wrapper([path("qemu-on"), PathBuf::from("host.example")])
        .env("PATH", std::env::join_paths(search).expect("no path has a colon"))
        .monitor(Monitor::At(address.into()))
        .trust_peer()
}

fn a_machine_behind_ssh_is_driven_and_ended<H: Hosted>() {
    let (programs, mark) = (Scratch::create(), mark());
    let mut machine = H::launch(config(&programs, &mark)).unwrap_or_else(|error| panic!("{error}"));
    let watched: Vec<_> = marked(&mark).into_iter().filter_map(|pid| Watched::new(pid).ok()).collect();
    assert_eq!(machine.execute("query-name", LONG).expect("the monitor answers")["name"], *mark);
    let outcome = machine.shutdown(Shutdown::default()).expect("it runs");
    assert_eq!((outcome.cause, outcome.exit), (Cause::Asked(Rung::Quit), Some(ExitStatus::Code(0))));
    watched.iter().for_each(|process| process.assert_ends_within(PATIENCE));
}

/// The end of ssh is the end of the run. QEMU ends by the SIGHUP of its session.
fn a_machine_behind_ssh_ends_with_ssh<H: Hosted>() {
    let (programs, mark) = (Scratch::create(), mark());
    let mut machine = H::launch(config(&programs, &mark)).unwrap_or_else(|error| panic!("{error}"));
    let watched: Vec<_> = marked(&mark).into_iter().filter_map(|pid| Watched::new(pid).ok()).collect();
    send(machine.pid().expect("it runs"), Signal::KILL);
    let outcome = machine.wait(LONG).expect("it ends");
    assert!(!matches!(outcome.cause, Cause::Asked(_)), "{outcome}");
    watched.iter().for_each(|process| process.assert_ends_within(PATIENCE));
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_machine_behind_ssh_is_driven_and_ended
            a_machine_behind_ssh_ends_with_ssh
        }
    };
}

rows!(stories);
