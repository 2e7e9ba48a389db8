//! Programs that cannot be executed, and an accelerator that may not be used.

use std::fs::{Permissions, create_dir, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use qemu_machine_blocking::{Cause, Config, ExitStatus, LaunchFailure, Vm};
use qemu_machine_tests::census::{Scratch, bytes, leaving_nothing};

use crate::child::not_proven;
use crate::{config, failure, host_fault, works};

const EACCES: i32 = 13;

#[test]
fn g01_a_program_that_may_not_be_executed_is_named() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let (script, directory) = (elsewhere.path().join("script"), elsewhere.path().join("directory"));
        write(&script, "#!/bin/sh\nexit 3\n").unwrap();
        set_permissions(&script, Permissions::from_mode(0o644)).unwrap();
        create_dir(&directory).unwrap();
        for program in [&script, &directory] {
            let fault = host_fault(Vm::launch(Config::new(bytes(program)).temporary_directory(bytes(scratch))));
            assert_eq!(fault.errno, EACCES, "{fault}");
            assert_eq!(fault.operation, format!("execute `{}`", program.display()));
        }
        // It was the permission.
        set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let (failed, outcome) = failure(Vm::launch(Config::new(bytes(&script)).temporary_directory(bytes(scratch))));
        assert!(matches!(failed, LaunchFailure::Exited(_)), "{failed}");
        assert_eq!(outcome.exit, Some(ExitStatus::Code(3)));
    });
}

/// QEMU alone is another user here, so that it may read nothing that is ours.
#[test]
fn g01_an_accelerator_without_permission_is_told_in_qemus_words() {
    const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let forbidden = |prefix: &[&str]| {
        let mut command = Command::new(prefix.first().copied().unwrap_or("test"));
        let rest = prefix.iter().skip(1).copied().chain((!prefix.is_empty()).then_some("test"));
        let readable = command.args(rest).args(["-r", "/dev/kvm"]).status().is_ok_and(|status| status.success());
        std::path::Path::new("/dev/kvm").exists() && !readable
    };
    let is_root = rustix::process::geteuid().is_root();
    let Some(wrapper) = [&[][..], &NOBODY[..]].into_iter().find(|way| (way.is_empty() || is_root) && forbidden(way))
    else {
        return not_proven("what QEMU says without permission for /dev/kvm: it is not there, or everybody may use it");
    };
    leaving_nothing(move |scratch| {
        let config = config(scratch).args(["-accel", "kvm"]).wrapper(wrapper.iter().copied());
        let (failed, outcome) = failure(Vm::launch(config.clone()));
        assert!(matches!(failed, LaunchFailure::Exited(_)), "{failed}");
        assert_eq!((&outcome.cause, outcome.exit), (&Cause::Exit(1), Some(ExitStatus::Code(1))), "{outcome}");
        assert!(outcome.log.contains("Permission denied"), "{outcome}");
        works(config.args(["-accel", "tcg"]));
    });
}
