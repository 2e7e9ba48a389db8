//! Stories of a directory of this host in a Linux guest: the real virtiofsd, which ends with its machine and with a program
//! that is killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::Vm;
use qemu_machine_core::procedure::{GuestExec, GuestExit};
use qemu_machine_core::{Deadline, ExitStatus, Service, Shutdown, Wait};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes};
use qemu_machine_tests::linux::{AGENT, Linux};
use qemu_machine_tests::{PATIENCE, bounded};

use crate::companions::server;
use crate::hosted::Hosted;
use crate::killed::{NAMES, SHARED, leaves_nothing};
use crate::rows;

/// Script of the guest: it reads the file of the host, and writes one of its own.
const SCRIPT: &str = "mount -t virtiofs share /tmp && cat /tmp/from-host && echo \"hello, host\" >/tmp/from-guest";

/// Returns a machine whose guest has mounted the directory, and has read and written in it.
fn mounted<H: Hosted>(directory: &Path) -> H {
    fs::write(directory.join(SHARED).join("from-host"), "hello, guest\n").expect("it is writable");
    let config = Linux::in_directory(env!("CARGO_TARGET_TMPDIR"))
        .config()
        .temporary_directory(bytes(directory))
        .companion(server(&directory.join(SHARED)).listener("--fd="))
        .args(["-object", "memory-backend-memfd,id=mem,size=128M,share=on", "-numa", "node,memdev=mem"])
        .args(["-device", "vhost-user-fs-pci,chardev=fs,tag=share"]);
    let mut machine = H::launch(config).unwrap_or_else(|error| panic!("{error}"));
    machine.wait_for(Wait::text("tty", AGENT));
    let agent = machine.service(Service::GuestAgent).expect("the machine has an agent");
    let mut agent = H::launch(agent.launch_within(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
    let end = agent.run(GuestExec::program("/bin/sh").args(["-c", SCRIPT]), Deadline::after(PATIENCE));
    let end = end.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((end.exit, &*end.stdout), (GuestExit::Code(0), &b"hello, guest\n"[..]), "{end:?}");
    let written = fs::read_to_string(directory.join(SHARED).join("from-guest")).expect("the guest wrote it");
    assert_eq!(written, "hello, host\n");
    machine
}

/// A guest boots for seconds. Without one, the same shutdown is a story of each row (`companions.rs`).
#[test]
fn a_directory_of_the_host_is_in_use_at_a_shutdown() {
    bounded(|| {
        let scratch = Scratch::create();
        fs::create_dir(scratch.path().join(SHARED)).expect("it is writable");
        let mut vm = mounted::<Vm>(scratch.path());
        let server = Watched::new(Hosted::companion_pid(&mut vm, "fs").expect("it runs")).expect("it runs");
        let outcome = vm.shutdown(Shutdown::default()).expect("the machine was launched");
        server.assert_ends_within(Duration::ZERO);
        assert_eq!(outcome.companions[0].exit, Some(ExitStatus::Code(0)), "{outcome:#}");
        assert_eq!(scratch.entries(), [SHARED]);
    });
}

fn g25_a_directory_that_the_guest_reads_and_writes<H: Hosted>() {
    leaves_nothing(["virtiofs", "g25_a_directory_that_the_guest_reads_and_writes"], mounted::<H>, &NAMES);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g25_a_directory_that_the_guest_reads_and_writes
        }
    };
}

// One row of each runtime.
rows! { @each stories:
    blocking = qemu_machine_blocking::Vm,
    mio = crate::on_mio::Mio,
    smol_on_smol = crate::on_tasks::Tasks<crate::on_tasks::OnSmol>,
    tokio_multi = crate::on_tasks::Tasks<crate::on_tasks::TokioMulti>,
}
