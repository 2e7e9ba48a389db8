//! Tests of detachable machines that outlive the program that launched them, and that another program resumes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qemu_machine_blocking::{Cause, Config, Identity, LaunchError, Misuse, Shutdown, Vm, json};
use qemu_machine_tests::leak_check::{Scratch, Watched};
use qemu_machine_tests::{PATIENCE, bounded};

/// A program that launched a machine to outlive it.
struct Launcher(Child);

impl Launcher {
    fn start(scratch: &Scratch) -> (Self, Identity) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launcher"));
        command.arg("--keep").arg(scratch.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut launcher = Self(command.spawn().expect("the launcher starts"));
        let mut line = String::new();
        BufReader::new(launcher.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("the launcher prints");
        (launcher, serde_json::from_str(&line).expect("an identity"))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The kill fails only if the program has ended, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn refused(identity: Identity) -> String {
    Vm::resume(identity, PATIENCE).map(drop).expect_err("the identity is refused").to_string()
}

#[test]
fn g18_a_detachable_machine_survives_the_death_of_its_program() {
    bounded(|| {
        let scratch = Scratch::create();
        let (launcher, identity) = Launcher::start(&scratch);
        // The machine ends with the test, also when the test fails.
        let qemu = Watched::new(identity.pid).expect("the process runs");
        // While the program runs, it occupies the monitor.
        let busy = Vm::resume(identity.clone(), Duration::from_millis(300)).expect_err("the monitor is busy");
        assert!(busy.to_string().contains("busy"), "{busy}");
        // This sends SIGKILL to the program.
        drop(launcher);
        for _ in 0..2 {
            let (vm, _gap) = Vm::resume(identity.clone(), PATIENCE).expect("the machine runs on");
            assert_eq!(vm.execute("query-status").expect("the monitor answers")["running"], true);
            assert_eq!(vm.detach().expect("it runs").cause, Cause::Disconnected);
        }
        type Change = fn(&mut Identity);
        let changes: [(Change, &str); 5] = [
            (|wrong| wrong.started += 1, "another process listens on its monitor"),
            (|wrong| wrong.pid = u32::MAX / 2, "another process listens on its monitor"),
            (|wrong| wrong.boot = "another".into(), "another process listens on its monitor"),
            (|wrong| wrong.pid_namespace = Some(1), "another pid namespace"),
            (|wrong| wrong.socket = (0, 0), "another socket"),
        ];
        for (change, words) in changes {
            let mut wrong = identity.clone();
            change(&mut wrong);
            let refused = refused(wrong);
            assert!(refused.contains(words), "{refused}");
            assert_eq!(scratch.entries().len(), 1, "what may be of a machine that runs stays");
        }
        end_before_it_is_prepared(&identity);
        let (vm, _gap) = Vm::resume(identity.clone(), PATIENCE).expect("the machine runs on");
        assert_eq!(scratch.entries().len(), 1, "the files stay with the machine");
        vm.shutdown(Shutdown::default()).expect("the machine was launched");
        qemu.assert_ends_within(PATIENCE);
        assert_eq!(scratch.entries(), [""; 0], "the end of the machine removes its files");
        assert!(refused(identity).contains("QEMU ended"));
    });
}

/// Resumes a machine, and gives up before the host has prepared that: the files belong to the machine, which runs on.
fn end_before_it_is_prepared(identity: &Identity) {
    let config = || Config::resume(identity.clone());
    let failed = Vm::launch(config().launch_within(Duration::ZERO)).map(drop).expect_err("there is no time");
    assert!(failed.to_string().contains("deadline"), "{failed}");
    let mut event_loop = qemu_machine_mio::EventLoop::new().expect("a poll can be created");
    let (registry, tokens) = event_loop.parts();
    drop(qemu_machine_mio::Vm::launch(config(), registry, tokens).expect("the configuration is valid"));
    drop(qemu_machine_smol::Vm::launch_with(config(), drop));
    let executor = smol::LocalExecutor::new();
    drop(qemu_machine_smol::Vm::launch_with(config(), |driver| executor.spawn(driver).detach()));
}

#[test]
fn g18_a_machine_that_is_not_detachable_has_no_identity() {
    bounded(|| {
        let vm = Vm::launch(Config::new(qemu_machine_tests::qemu()).machine("none")).expect("QEMU starts");
        assert!(vm.identity().is_err());
        assert_eq!(vm.detach(), Err(Misuse::NotDetachable));
        vm.execute(("qom-list", json!({"path": "/"}))).expect("the monitor stays usable");
        vm.kill().expect("the machine was launched");
        let gone = Identity::new(String::new(), (1, 0), "/nowhere".into(), (0, 0));
        assert!(matches!(Vm::resume(gone, PATIENCE), Err(LaunchError::Failed { .. })));
    });
}
