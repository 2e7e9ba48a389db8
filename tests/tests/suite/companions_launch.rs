//! Stories of companions that end while QEMU starts: the companion is the reason, and not QEMU, which cannot reach it.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Command;

use qemu_machine_core::{Companion, CompanionFailure, Config, ExitStatus, LaunchError, LaunchFailure, Outcome};
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

/// The pipes by which a companion and QEMU wait for each other.
struct Pipes(Scratch);

impl Pipes {
    fn create() -> Self {
        let pipes = Self(Scratch::create());
        for name in ["started", "detached", "stop"] {
            let status = Command::new("mkfifo").arg(pipes.path(name)).status().expect("mkfifo is there");
            assert!(status.success());
        }
        pipes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns a QEMU that starts when the companion has ended, which is alive until QEMU is being started.
    fn qemu(&self, scratch: &Scratch) -> Config {
        let wait = format!("read line <'{}'; exec \"$@\"", self.path("started").display());
        let config = Config::new(qemu()).wrapper(["sh", "-c", &wait, "sh"]);
        config.args(["-machine", "none", "-nodefaults", "-S"]).temporary_directory(bytes(scratch.path()))
    }

    /// Returns a companion with a socket, which runs this script when QEMU is being started. What it starts must close
    /// descriptor 9.
    fn companion(&self, script: &str) -> Companion {
        let text = format!("exec 9>'{}'; {script}", self.path("started").display());
        Companion::new("early", "sh").args(["-c", &text, "early"]).listener("--fd=")
    }
}

fn failed<H: Hosted>(config: Config) -> (CompanionFailure, String, Box<Outcome>) {
    let error = H::launch(config).map(drop).expect_err("the companion ends");
    let text = error.to_string();
    match error {
        LaunchError::Failed { failure: LaunchFailure::Companion { failure, .. }, outcome } => (failure, text, outcome),
        other => panic!("{other}"),
    }
}

/// The most common failure: the companion does not accept its arguments, and QEMU cannot connect.
fn g04_a_companion_that_fails_while_qemu_starts_is_the_reason<H: Hosted>() {
    let (scratch, pipes) = (Scratch::create(), Pipes::create());
    for companion in [pipes.companion("echo unknown; exit 3").chardev("c"), pipes.companion("echo unknown; exit 3")] {
        let (failure, text, outcome) = failed::<H>(pipes.qemu(&scratch).companion(companion));
        assert_eq!(failure, CompanionFailure::Exited(ExitStatus::Code(3)), "{text}");
        assert!(text.contains("companion early printed:\n    unknown"), "{text}");
        assert!(outcome.companions[0].is_early, "{outcome:#}");
        assert_eq!(scratch.entries(), [""; 0]);
    }
}

/// QEMU becomes ready without it.
fn g04_a_companion_that_exits_while_qemu_starts_fails_the_launch<H: Hosted>() {
    let (scratch, pipes) = (Scratch::create(), Pipes::create());
    let (failure, text, outcome) = failed::<H>(pipes.qemu(&scratch).companion(pipes.companion("exit 0")));
    assert_eq!(failure, CompanionFailure::Exited(ExitStatus::Code(0)), "{text}");
    assert!(outcome.companions[0].is_early, "{outcome:#}");
    assert_eq!(scratch.entries(), [""; 0]);
}

/// QEMU connects to the process in the background, which no signal to the group of the companion would reach.
fn g04_a_companion_that_puts_itself_into_the_background_fails_the_launch<H: Hosted>() {
    let (scratch, pipes) = (Scratch::create(), Pipes::create());
    let (detached, stop) = (pipes.path("detached"), pipes.path("stop"));
    let script = format!(
        "setsid sh -c 'echo >\"$0\"; exec cat <\"$1\"' '{}' '{}' 9>&- >/dev/null 2>&1 & read line <'{}'; exit 0",
        detached.display(),
        stop.display(),
        detached.display(),
    );
    let (failure, text, _) = failed::<H>(pipes.qemu(&scratch).companion(pipes.companion(&script).chardev("c")));
    assert_eq!(failure, CompanionFailure::Exited(ExitStatus::Code(0)), "{text}");
    assert!(text.contains("it must stay in the foreground"), "{text}");
    // The process in the background is not the library's, and ends by the test.
    drop(OpenOptions::new().write(true).open(&stop).expect("it reads"));
    assert_eq!(fs::read_dir(scratch.path()).expect("it is there").count(), 0);
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g04_a_companion_that_fails_while_qemu_starts_is_the_reason
            g04_a_companion_that_exits_while_qemu_starts_fails_the_launch
            g04_a_companion_that_puts_itself_into_the_background_fails_the_launch
        }
    };
}

rows!(stories);
