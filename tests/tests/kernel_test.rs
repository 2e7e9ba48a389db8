//! Proves what the example `kernel-test` makes of a command in a Linux guest: its output, its exit code, and how each
//! way to have none is told. A test boots one guest, and as many run at once as there are processors.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::{Scratch, Watched, descendants, send};
use rustix::process::Signal;
use serde_json::Value;

/// The example gives up a guest after a minute; the first test has to compile it.
const PATIENCE: Duration = Duration::from_secs(300);

/// A command that does not end.
const FOREVER: &str = "mkfifo /run/never; cat /run/never";

/// The example, as cargo builds it now: that of another day is not judged.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // With the features that the whole workspace has in tests: mostly it is there already.
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
    /// A run that did not come to the exit code of the command, and tells why.
    fn failed(&self, code: i32, message: &str) {
        let told = self.stderr.strip_prefix("kernel-test: ").unwrap_or_default();
        assert!(self.code == Some(code) && told.starts_with(message), "{self:#?}");
    }
}

/// Runs it to its end, after which nothing may be left.
fn run(options: &[&str], command: &[&str]) -> Run {
    let arguments: Vec<String> = [options, &["--"], command].concat().into_iter().map(str::to_owned).collect();
    bounded_by(PATIENCE, move || {
        let scratch = Scratch::create();
        let output = Command::new(program()).args(arguments).env("TMPDIR", scratch.path()).output().expect("it runs");
        assert_eq!(scratch.entries(), [""; 0], "files left behind");
        output.into()
    })
}

/// On TCG, and without what a kernel says on its way.
fn quietly(options: &[&str], script: &str) -> Run {
    run(&[&["--accel", "tcg", "--quiet"], options].concat(), &["sh", "-c", script])
}

#[test]
fn a_command_prints_and_succeeds_and_its_words_stay_as_they_are() {
    let run = quietly(&[], r#"printf '%s\n' "it's  a" '"$HOME"' 'ü\' | tr a-z A-Z"#);
    assert_eq!((run.code, &*run.stdout, &*run.stderr), (Some(0), "IT'S  A\n\"$HOME\"\nü\\\n", ""));
}

/// On KVM, where there is one that works.
#[test]
fn a_command_fails_with_its_code_behind_what_the_kernel_says() {
    let run = run(&[], &["sh", "-c", "echo hello; exit 7"]);
    assert_eq!(run.code, Some(7), "{run:#?}");
    assert!(run.stdout.contains("Linux version") && run.stdout.ends_with("\nhello\n"), "{run:#?}");
}

#[test]
fn a_panic_is_told_with_what_the_kernel_says_of_it() {
    let run = quietly(&[], "echo c > /proc/sysrq-trigger");
    run.failed(121, "the kernel panicked: sysrq triggered crash\n");
    assert!(run.stdout.contains("Kernel panic - not syncing: sysrq triggered crash"), "{run:#?}");
}

#[test]
fn a_command_that_hangs_times_out() {
    let run = quietly(&["--timeout", "6"], &format!("echo hanging; {FOREVER}"));
    // A host that is very busy does not come so far.
    let what =
        if run.stdout.contains("hanging") { "the command did not end within 6s" } else { "the guest did not come" };
    run.failed(124, what);
}

#[test]
fn a_guest_that_does_not_come_to_its_init_times_out() {
    let run = quietly(&["--timeout", "1", "--qemu-arg=-S"], "true");
    run.failed(124, "the guest did not come to run the command within 1s\n");
}

#[test]
fn a_guest_that_powers_off_under_the_command_is_no_success() {
    let run = quietly(&[], "echo bye; poweroff -f");
    run.failed(122, "the machine ended before the command did: powered off by the guest\n");
    assert!(run.stdout.starts_with("bye\n"), "{run:#?}");
}

#[test]
fn a_qemu_that_does_not_start_is_told_with_its_words() {
    let run = quietly(&["--qemu-arg=-device", "--qemu-arg=nonexistent"], "true");
    run.failed(123, "launch failed: ");
    assert!(run.stderr.contains("'nonexistent' is not a valid device model name"), "{run:#?}");
}

#[test]
fn who_calls_it_wrongly_is_told() {
    let run = run(&["--timeout", "soon"], &["true"]);
    assert_eq!((run.code, &*run.stdout), (Some(125), ""));
    assert!(run.stderr.contains("--timeout <SECONDS>"), "{run:#?}");
}

/// The command never ends: what is seen of it is seen while it runs.
#[test]
fn output_is_shown_at_once_and_a_qemu_that_dies_is_told() {
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

/// More than a pipe holds, so that the agent reads on when the command has ended.
#[test]
fn the_agent_gives_both_outputs_apart_and_the_code() {
    let run = quietly(&["--agent"], "seq 20000; echo err >&2; exit 3");
    let numbers: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert_eq!((run.code, &*run.stderr), (Some(3), "err\n"));
    assert!(run.stdout == numbers, "{} bytes of {}", run.stdout.len(), numbers.len());
}
