//! Tests of the example `kernel-test`, which runs a command in a Linux guest: output, exit code, and the error for each
//! way to get no exit code. Each test boots one guest, and as many run at once as there are processors.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::{Scratch, Watched, descendants, send};
use rustix::process::Signal;
use serde_json::Value;

/// Deadline of each test. The example ends a guest after a minute, and the first test compiles the example.
const PATIENCE: Duration = Duration::from_secs(300);

/// A command that does not end.
const FOREVER: &str = "mkfifo /run/never; cat /run/never";

/// The example, built now: an old executable would test old code.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Built with the features of the whole workspace, it is mostly built already.
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--locked", "--offline", "--workspace", "--message-format", "json"])
            .args(["--example", "kernel-test"])
            .output()
            .expect("cargo runs, as it runs this test");
        let mut messages =
            built.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let executable = messages.find_map(|message: Value| message["executable"].as_str().map(PathBuf::from));
        executable.unwrap_or_else(|| panic!("not built: {}", String::from_utf8_lossy(&built.stderr)))
    })
}

/// How a run ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
        Self { code: output.status.code(), stdout, stderr }
    }
}

impl Run {
    /// Asserts that the run ended without the exit code of the command, with this code and this message.
    fn failed(&self, code: i32, message: &str) {
        let told = self.stderr.strip_prefix("kernel-test: ").unwrap_or_default();
        assert!(self.code == Some(code) && told.starts_with(message), "{self:#?}");
    }
}

/// Runs the example to its end, and asserts that no file is left.
fn run(options: &[&str], command: &[&str]) -> Run {
    let arguments: Vec<String> = [options, &["--"], command].concat().into_iter().map(str::to_owned).collect();
    bounded_by(PATIENCE, move || {
        let scratch = Scratch::create();
        let output = Command::new(program()).args(arguments).env("TMPDIR", scratch.path()).output().expect("it runs");
        assert_eq!(scratch.entries(), [""; 0], "files left behind");
        output.into()
    })
}

/// Runs a shell script on TCG, without the output of the kernel.
fn quietly(options: &[&str], script: &str) -> Run {
    run(&[&["--accel", "tcg", "--quiet"], options].concat(), &["sh", "-c", script])
}

#[test]
fn a_command_prints_and_succeeds_and_its_arguments_stay_unchanged() {
    let run = quietly(&[], r#"printf '%s\n' "it's  a" '"$HOME"' 'ü\' | tr a-z A-Z"#);
    assert_eq!((run.code, &*run.stdout, &*run.stderr), (Some(0), "IT'S  A\n\"$HOME\"\nü\\\n", ""));
}

/// This test uses KVM where it works.
#[test]
fn a_command_fails_with_its_code_after_the_output_of_the_kernel() {
    let run = run(&[], &["sh", "-c", "echo hello; exit 7"]);
    assert_eq!(run.code, Some(7), "{run:#?}");
    assert!(run.stdout.contains("Linux version") && run.stdout.ends_with("\nhello\n"), "{run:#?}");
}

#[test]
fn a_panic_is_reported_with_the_message_of_the_kernel() {
    let run = quietly(&[], "echo c > /proc/sysrq-trigger");
    run.failed(121, "the kernel panicked: sysrq triggered crash\n");
    assert!(run.stdout.contains("Kernel panic - not syncing: sysrq triggered crash"), "{run:#?}");
}

#[test]
fn a_command_that_hangs_times_out() {
    let run = quietly(&["--timeout", "6"], &format!("echo hanging; {FOREVER}"));
    // On a very busy host, the guest does not reach the command.
    let what =
        if run.stdout.contains("hanging") { "the command did not end within 6s" } else { "the guest did not start" };
    run.failed(124, what);
}

#[test]
fn a_guest_that_does_not_come_to_its_init_times_out() {
    let run = quietly(&["--timeout", "1", "--qemu-arg=-S"], "true");
    run.failed(124, "the guest did not start the command within 1s\n");
}

#[test]
fn a_guest_that_powers_off_under_the_command_is_no_success() {
    let run = quietly(&[], "echo bye; poweroff -f");
    run.failed(122, "the machine ended before the command did: powered off by the guest\n");
    assert!(run.stdout.starts_with("bye\n"), "{run:#?}");
}

#[test]
fn a_qemu_that_does_not_start_is_reported_with_its_output() {
    let run = quietly(&["--qemu-arg=-device", "--qemu-arg=nonexistent"], "true");
    run.failed(123, "launch failed: ");
    assert!(run.stderr.contains("'nonexistent' is not a valid device model name"), "{run:#?}");
}

#[test]
fn a_wrong_option_is_a_usage_error() {
    let run = run(&["--timeout", "soon"], &["true"]);
    assert_eq!((run.code, &*run.stdout), (Some(125), ""));
    assert!(run.stderr.contains("--timeout <SECONDS>"), "{run:#?}");
}

/// The command never ends, so its output is read while it runs.
#[test]
fn output_is_shown_at_once_and_a_qemu_that_dies_is_reported() {
    bounded_by(PATIENCE, || {
        let mut process = Command::new(program());
        process.args(["--accel", "tcg", "--quiet", "--", "sh", "-c", &format!("echo first; {FOREVER}")]);
        let mut child = process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let _killed_when_we_fail = Watched::new(child.id()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut shown = String::new();
        stdout.read_line(&mut shown).unwrap();
        let family = descendants(child.id());
        send(family.iter().find(|process| process.name.starts_with("qemu")).unwrap().pid, Signal::KILL);
        stdout.read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "first\n");
        let run = Run::from(child.wait_with_output().unwrap());
        run.failed(122, "the machine ended before the command did: ended by signal 9");
    });
}

/// The output is larger than a pipe, so the agent still reads when the command has ended.
#[test]
fn the_agent_gives_both_outputs_apart_and_the_code() {
    let run = quietly(&["--agent"], "seq 20000; echo err >&2; exit 3");
    let numbers: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert_eq!((run.code, &*run.stderr), (Some(3), "err\n"));
    assert!(run.stdout == numbers, "{} bytes of {}", run.stdout.len(), numbers.len());
}
