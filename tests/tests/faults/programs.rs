//! Tests of programs that cannot be executed, and of an accelerator without permission.

use std::fs::{Permissions, create_dir, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use qemu_machine_blocking::{Cause, Config, ExitStatus, FaultKind, LaunchFailure, Vm};
use qemu_machine_tests::leak_check::{Scratch, bytes, leaving_nothing};

use crate::child::not_proven;
use crate::{config, failure, host_fault, works};

#[test]
fn g04_a_program_that_may_not_be_executed_is_named() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let (script, directory) = (elsewhere.path().join("script"), elsewhere.path().join("directory"));
        write(&script, "#!/bin/sh\nexit 3\n").unwrap();
        set_permissions(&script, Permissions::from_mode(0o644)).unwrap();
        create_dir(&directory).unwrap();
        for program in [&script, &directory] {
            let fault = host_fault(Vm::launch(Config::new(bytes(program)).temporary_directory(bytes(scratch))));
            assert_eq!(fault.kind, FaultKind::Denied, "{fault}");
            assert_eq!(fault.operation, format!("execute `{}`", program.display()));
        }
        // With the permission, the script is executed.
        set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let (failed, outcome) = failure(Vm::launch(Config::new(bytes(&script)).temporary_directory(bytes(scratch))));
        assert!(matches!(failed, LaunchFailure::Exited(_)), "{failed}");
        assert_eq!(outcome.exit, Some(ExitStatus::Code(3)));
    });
}

/// Returns the wrapper with which QEMU may not use KVM: none, or one that changes to the user `nobody`. `None` means
/// that there is no KVM, or that each user may use it.
fn without_permission() -> Option<&'static [&'static str]> {
    const NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let reads = |way: &[&str]| {
        let words: Vec<&str> = way.iter().copied().chain(["test", "-r", "/dev/kvm"]).collect();
        let ran = Command::new(words[0]).args(&words[1..]).stderr(Stdio::null()).status();
        // `test` exits with 1 if the file is not readable. If the user cannot be changed, `setpriv` exits with another
        // status.
        ran.ok().and_then(|status| status.code()).is_none_or(|code| code != 1)
    };
    let is_there = Path::new("/dev/kvm").exists();
    [&[][..], NOBODY].into_iter().find(|way| is_there && !reads(way))
}

#[test]
fn g04_an_accelerator_without_permission_is_reported_in_qemus_words() {
    leaving_nothing(move |scratch| {
        let Some(wrapper) = without_permission() else {
            return not_proven(
                "that QEMU without permission for /dev/kvm is reported: there is no KVM, or each user may use it",
            );
        };
        let config = config(scratch).args(["-accel", "kvm"]).wrapper(wrapper.iter().copied());
        let (failed, outcome) = failure(Vm::launch(config.clone()));
        assert!(matches!(failed, LaunchFailure::Exited(_)), "{failed}");
        assert_eq!((&outcome.cause, outcome.exit), (&Cause::Exit(1), Some(ExitStatus::Code(1))), "{outcome}");
        assert!(outcome.log.contains("Permission denied"), "{outcome}");
        works(config.args(["-accel", "tcg"]));
    });
}
