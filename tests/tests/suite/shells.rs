//! Stories of lines in a shell, and of waits on what a shell prints: bash and dash of this host on a terminal, and the shell
//! of a Linux guest.

use std::time::Duration;

use qemu_machine_core::procedure::{Lines, Shell, ShellEnd, ShellError, ShellProgress, Typing};
use qemu_machine_core::{Config, Deadline, Mark, Wait};
use qemu_machine_tests::linux::Linux;
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

/// A wrapper that runs the shell in `$SHELL_LINE` on a terminal, whose other side is the console of QEMU: the machine has no
/// serial port, so QEMU itself does not read it. When the shell ends, the next one is started.
const ON_A_TERMINAL: &str = r#"
for argument; do
    case $argument in socket,fd=*,id=tty*) console=${argument#socket,fd=}; console=${console%%,*} ;; esac
done
while :; do script -qec "$SHELL_LINE" /dev/null; done <&"$console" >&"$console" 2>&1 &
exec "$0" "$@"
"#;

/// Its children get SIGINT even if the tests were started with that ignored, as background jobs of a script are (`bash(1)`,
/// SIGNALS).
const BASH: &str = "exec env --default-signal=INT,QUIT PS1='# ' TERM=xterm bash --norc --noprofile -i";

/// The shell of a small system, without a line editor.
const DASH: &str = "exec env --default-signal=INT,QUIT PS1='# ' dash -i";

fn with_shell<H: Hosted>(shell: &str) -> H {
    let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults"]).serial("tty");
    let config = config.wrapper(["bash", "-c", ON_A_TERMINAL]).env("SHELL_LINE", shell);
    H::launch(config).expect("QEMU starts")
}

/// Runs a line, which has an end.
fn run<H: Hosted>(machine: &mut H, line: &str) -> ShellEnd {
    machine.run(Shell::on("tty").line(line), LONG).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn fails<H: Hosted>(machine: &mut H, line: &str) -> ShellError {
    machine.run(Shell::on("tty").line(line), LONG).expect_err("it has no end")
}

fn a_line_has_its_output_and_exit_code<H: Hosted>() {
    for shell in [BASH, DASH] {
        let mut machine = with_shell::<H>(shell);
        let long = format!("echo {}", "0123456789 ".repeat(200).trim_end());
        for (line, code, output) in [
            ("echo out; echo err >&2", 0, "out\nerr\n"),
            ("false", 1, ""),
            ("(exit 7) # a comment", 7, ""),
            ("printf partial", 0, "partial"),
            ("cd /; var='a  b'", 0, ""),
            ("pwd; echo \"$var\"", 0, "/\na  b\n"),
            ("cat <<END\nit's \"$var\"\nEND", 0, "it's \"a  b\"\n"),
            ("printf 'a\tb\u{e4}!!'", 0, "a\tb\u{e4}!!"),
            ("printf '\\033[31mred\\033[0m\\n'", 0, "red\n"),
            ("kill -s TERM $$; sh -c 'kill -s KILL $$'", 137, "Killed\n"),
            (&*long, 0, &*[long.trim_start_matches("echo "), "\n"].concat()),
        ] {
            let end = run(&mut machine, line);
            assert_eq!((end.code, end.output.as_str(), end.left_out), (code, output, 0), "{line} in {shell}");
        }
        let end = run(&mut machine, "seq 10000");
        let expected: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
        assert!(end.is_success() && end.output == expected && end.left_out == 0);
        let end = machine.run(Shell::on("tty").output_limit(6).line("seq 10000"), LONG).expect("it ends");
        assert_eq!((end.output.as_str(), end.left_out), ("10000\n", expected.len() as u64 - 6));
        // dash abandons the line, and shows a prompt.
        let end = run(&mut machine, "if");
        assert!(end.code == 2 && end.output.to_lowercase().contains("syntax error"), "{end:?} in {shell}");
        machine.kill().expect("it runs");
    }
}

/// The time of a message is written in two parts, so that the echo has no message.
fn what_the_kernel_reports_is_told_apart<H: Hosted>() {
    let mut machine = with_shell::<H>(DASH);
    let message = |time: u32, text: &str| format!("printf '[ %s.000001] {text}\\n' ' {time}';");
    let mut line = format!("printf hel; {} echo lo", message(100, "random: crng init done"));
    let end = run(&mut machine, &line);
    assert_eq!((end.output.as_str(), end.messages.as_str()), ("hello\n", "random: crng init done\n"));
    line = format!("{} {}", message(101, "BUG: made up"), message(102, "---[ end trace 0 ]---"));
    let oops = fails(&mut machine, &line);
    assert!(matches!(&oops, ShellError::Oops { reason, .. } if reason == "BUG: made up"), "{oops}");
    run(&mut machine, "true");
    line = message(103, "Kernel panic - not syncing: made up")
        + &message(104, "---[ end Kernel panic ]---")
        + "sleep 1000";
    let panic = fails(&mut machine, &line);
    assert!(matches!(&panic, ShellError::Panicked { reason, .. } if reason == "made up"), "{panic}");
    machine.kill().expect("it runs");
}

fn a_shell_that_ends_is_reported<H: Hosted>() {
    let mut machine = with_shell::<H>(BASH);
    // Another shell is started, with the same prompt.
    let error = fails(&mut machine, "exit");
    assert!(matches!(error, ShellError::Exited { .. }), "{error}");
    run(&mut machine, "true");
    let error = fails(&mut machine, "printf 'guest lo''gin: '; exec sleep 1000");
    assert!(matches!(error, ShellError::Exited { .. }), "{error}");
    let error = fails(&mut machine, "true");
    assert!(matches!(&error, ShellError::NoShell { prompt, .. } if prompt == "guest login: "), "{error}");
    let begin = machine.run(Shell::on("tty").without_prompt().line("true"), Duration::from_millis(100).into());
    assert!(matches!(begin, Err(ShellError::TimedOut { progress: ShellProgress::Typed, .. })), "{begin:?}");
    machine.kill().expect("it runs");
    let error = fails(&mut machine, "true");
    assert!(matches!(error, ShellError::Ended { .. } | ShellError::NoShell { .. }), "{error}");
}

fn a_line_that_hangs_can_be_interrupted<H: Hosted>() {
    let mut machine = with_shell::<H>(BASH);
    run(&mut machine, "true");
    let hang = machine.run(Shell::on("tty").line("echo begun; sleep 1000"), Duration::from_secs(2).into());
    let Err(ShellError::TimedOut { progress: ShellProgress::Begun, console }) = hang else { panic!("{hang:?}") };
    assert!(console.ends_with("begun"), "{console}");
    machine.console_write("tty", "\x03").expect("there is a console");
    assert_eq!(run(&mut machine, "echo on").output, "on\n");
    machine.kill().expect("it runs");
}

fn lines_and_patterns_are_waited_for<H: Hosted>() {
    let mut machine = with_shell::<H>(BASH);
    let wait = |machine: &mut H, from: &Mark, thing: Wait| {
        machine.wait_any(from, &[thing, Wait::end()], LONG).expect("the wait succeeds")
    };
    let prompt = wait(&mut machine, &Mark::default(), Wait::regex("tty", "^# ").expect("a pattern").plain());
    assert_eq!(prompt.text().map(|text| text.as_str().ends_with("# ")), Some(true));
    let typing = Typing::on("tty", "echo mar''ked; printf '\\033[32mcol\\033[0mour %s' 42; echo\r");
    machine.run(typing.pause(Duration::from_millis(1)), LONG).expect("it is typed");
    let hit = wait(&mut machine, &prompt.mark, Wait::line("tty", "marked"));
    assert_eq!(hit.line().map(|line| line.as_str().ends_with("marked")), Some(true), "{hit:?}");
    let colour = Wait::line_regex("tty", r"^colour \d+$").expect("a pattern").plain();
    let hit = wait(&mut machine, &hit.mark, colour);
    assert_eq!(hit.line().map(|line| line.as_str()), Some("colour 42"));

    let mut lines = Lines::of("tty").since(&machine.mark()).plain();
    run(&mut machine, "seq 3");
    let mut texts = Vec::new();
    while texts.len() < 3 {
        let line = machine.run(lines.next_line(), LONG).expect("the console is read").expect("the machine runs");
        assert_eq!(line.missed, 0);
        texts.extend(Some(line.text.to_string()).filter(|text| text.len() == 1));
    }
    assert_eq!(texts, ["1", "2", "3"]);
    machine.kill().expect("it runs");
    while machine.run(lines.next_line(), LONG).expect("the console is read").is_some() {}
    let all = machine.lines(Lines::of("tty").plain());
    let mut rest = all.iter();
    for expected in ["colour 42", "1", "2", "3"] {
        assert!(rest.any(|line| line == expected), "{expected} in {all:?}");
    }
}

fn a_linux_guest_runs_lines_until_it_panics<H: Hosted>() {
    let mut machine =
        H::launch(Linux::in_directory(env!("CARGO_TARGET_TMPDIR")).config_with_shell()).expect("it starts");
    let kernel = run(&mut machine, "busybox uname -r");
    assert!(kernel.is_success() && kernel.output.as_str().trim_end().contains('.'), "{kernel:?}");
    assert_eq!(run(&mut machine, "false").code, 1);
    let long = "0123456789".repeat(30);
    assert_eq!(run(&mut machine, &format!("echo {long}")).output, long + "\n");
    let expected: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
    assert!(run(&mut machine, "busybox seq 10000").output == expected);
    let copy = run(&mut machine, "busybox dmesg");
    assert!(copy.output.contains("Linux version ") && copy.messages.is_empty(), "{copy:?}");
    run(&mut machine, "mount -t proc proc /proc; mount -t devtmpfs dev /dev; echo 8 >/proc/sys/kernel/printk");
    let told = run(&mut machine, "echo '<4>a made up message' >/dev/kmsg; echo out");
    // The kernel may print a message of its own meanwhile.
    assert!(told.output.as_str() == "out\n" && told.messages.contains("a made up message\n"), "{told:?}");
    let copy = run(&mut machine, "busybox dmesg");
    assert!(copy.output.contains("Linux version ") && !copy.messages.contains("Linux version "), "{copy:?}");
    let panic = fails(&mut machine, "echo c >/proc/sysrq-trigger");
    let ShellError::Panicked { reason, console } = &panic else { panic!("{panic}") };
    assert_eq!(reason, "sysrq triggered crash");
    assert!(console.contains("Call Trace:"), "{panic}");
    machine.wait(LONG).expect("the guest resets itself, which ends QEMU");
}

fn a_linux_guest_has_a_shell_after_a_login<H: Hosted>() {
    let mut machine =
        H::launch(Linux::in_directory(env!("CARGO_TARGET_TMPDIR")).config_with_init()).expect("it starts");
    let error = fails(&mut machine, "true");
    assert!(matches!(&error, ShellError::NoShell { prompt, .. } if prompt.contains("press Enter")), "{error}");
    machine.run(Typing::on("tty", "\r"), LONG).expect("it is typed");
    assert_eq!(run(&mut machine, "echo in").output, "in\n");
    let error = fails(&mut machine, "exit");
    assert!(matches!(error, ShellError::Exited { .. }), "{error}");
    machine.run(Typing::on("tty", "\r"), LONG).expect("it is typed");
    let error = fails(&mut machine, "busybox reboot -f");
    assert!(matches!(error, ShellError::Ended { .. } | ShellError::Reset { .. }), "{error}");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_line_has_its_output_and_exit_code
            what_the_kernel_reports_is_told_apart
            a_shell_that_ends_is_reported
            a_line_that_hangs_can_be_interrupted
            lines_and_patterns_are_waited_for
            a_linux_guest_runs_lines_until_it_panics
            a_linux_guest_has_a_shell_after_a_login
        }
    };
}

rows!(stories);
