//! Test of a directory of this host in a Linux guest: the real virtiofsd, which lives as long as its machine.

use std::fs;
use std::time::Duration;

use qemu_machine_blocking::procedure::{GuestExec, GuestExit};
use qemu_machine_blocking::{Companion, ExitStatus, Mark, Shutdown, Vm, Wait};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes};
use qemu_machine_tests::linux::{AGENT, Linux};
use qemu_machine_tests::{PATIENCE, bounded, virtiofsd};

/// What the guest does: it reads the file of the host, and writes one of its own.
const SCRIPT: &str = "mount -t virtiofs share /tmp && cat /tmp/from-host && echo \"hello, host\" >/tmp/from-guest";

#[test]
fn a_directory_of_the_host_is_read_and_written_in_the_guest() {
    bounded(|| {
        let (scratch, shared) = (Scratch::create(), Scratch::create());
        fs::write(shared.path().join("from-host"), "hello, guest\n").expect("it is writable");
        let source = shared.path().to_str().expect("a path in UTF-8");
        let server = Companion::new("fs", virtiofsd()).args(["-o", &format!("source={source}")]);
        let config = Linux::in_directory(env!("CARGO_TARGET_TMPDIR"))
            .config()
            .temporary_directory(bytes(scratch.path()))
            .companion(server.listener("--fd=").chardev("fs"))
            .args(["-object", "memory-backend-memfd,id=mem,size=128M,share=on", "-numa", "node,memdev=mem"])
            .args(["-device", "vhost-user-fs-pci,chardev=fs,tag=share"]);
        let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        let server = Watched::new(vm.companion_pid("fs").expect("it has one").expect("it runs")).expect("it runs");
        vm.wait_any(&Mark::default(), [Wait::text("tty", AGENT), Wait::end()], PATIENCE).expect("the guest boots");
        let agent = vm.agent(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        let end = agent.run(GuestExec::program("/bin/sh").args(["-c", SCRIPT]), PATIENCE);
        let end = end.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((end.exit, &*end.stdout), (GuestExit::Code(0), &b"hello, guest\n"[..]), "{end:?}");
        let written = fs::read_to_string(shared.path().join("from-guest")).expect("the guest wrote it");
        assert_eq!(written, "hello, host\n");
        drop(agent);
        let outcome = vm.shutdown(Shutdown::default()).expect("the machine was launched");
        server.assert_ends_within(Duration::ZERO);
        assert_eq!(outcome.companions[0].exit, Some(ExitStatus::Code(0)), "{outcome:#}");
        assert_eq!(scratch.entries(), [""; 0]);
    });
}
