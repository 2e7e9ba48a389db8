//! Tests of lines in a shell, typed text and lines of a console, against a scripted console.

use crate::rig::steps::{LONG, on};
use crate::rig::{Rig, SIGKILL, config, secs};
use proptest::prelude::*;
use qemu_machine_core::procedure::{
    Lines, Procedure, ProcedureError, Run, Shell, ShellEnd, ShellError, ShellLine, ShellProgress, Typing,
};
use qemu_machine_core::{Channel, Deadline, FOREVER, Limits, Misuse, WaitError};

const PROMPT: &str = "/ # ";

/// A console with a shell, on which a line is run.
struct Scene {
    rig: Rig,
    run: Run<ShellLine>,
    result: Option<Result<ShellEnd, ShellError>>,
}

impl Scene {
    /// Prints what the guest printed before, and begins the run.
    fn new(before: &str, line: ShellLine, deadline: Deadline) -> Self {
        let mut rig = Rig::ready(config());
        rig.prints(before);
        let mut scene = Self { rig, run: Run::new(line, deadline), result: None };
        scene.advance();
        scene
    }

    /// Begins the run of a line at a prompt.
    fn at_prompt(line: &str) -> Self {
        let before = ["[    1.000000] booted\r\n", PROMPT].concat();
        let mut scene = Self::new(&before, Shell::on("tty").line(line), LONG);
        scene.settles();
        scene
    }

    /// The console is silent, so that a prompt counts.
    fn settles(&mut self) {
        self.passes(millis(30));
    }

    /// Runs another line on the same machine.
    fn then(self, line: &str) -> Self {
        let run = Run::new(Shell::on("tty").line(line), LONG);
        let mut scene = Self { rig: self.rig, run, result: None };
        scene.advance();
        scene.settles();
        scene
    }

    fn advance(&mut self) {
        if let Some(result) = on(&mut self.rig, &mut self.run) {
            assert_eq!(self.result.replace(result), None, "one result");
        }
    }

    fn prints(&mut self, text: impl AsRef<[u8]>) {
        self.rig.prints(text);
        self.advance();
    }

    fn passes(&mut self, time: core::time::Duration) {
        self.rig.pass(time);
        self.advance();
    }

    /// Returns what was typed, once.
    fn typed(&mut self) -> String {
        typed(&mut self.rig)
    }

    /// Returns what was typed, with the number in its markers. Echoes it, and prints the first marker.
    fn begins(&mut self) -> String {
        let mut typed = self.typed();
        if typed.is_empty() {
            self.settles();
            typed = self.typed();
        }
        let id = id(&typed);
        self.prints(echo(&typed));
        self.prints(format!("<qm {id} begin 42>\r\n"));
        id
    }

    fn ends(mut self) -> Result<ShellEnd, ShellError> {
        self.result.take().expect("the line is over")
    }
}

fn millis(count: u64) -> core::time::Duration {
    core::time::Duration::from_millis(count)
}

fn typed(rig: &mut Rig) -> String {
    let bytes = rig.vm.outgoing(Channel::Console(0)).to_vec();
    rig.vm.sent(Channel::Console(0), bytes.len());
    String::from_utf8(bytes).expect("text")
}

/// Returns the number in the markers of a line.
fn id(typed: &str) -> String {
    let (_, rest) = typed.split_once("<q\"\"m ").expect("a marker");
    rest.split(' ').next().expect("a number").into()
}

/// Returns the echo of a line, on a terminal with 80 columns.
fn echo(typed: &str) -> String {
    let lines = typed.lines().map(|line| {
        let cut: Vec<_> = line.as_bytes().chunks(76).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        cut.join(" \r") + "\r\n"
    });
    lines.collect()
}

#[test]
fn a_line_has_its_output_and_exit_code() {
    let mut scene = Scene::at_prompt("uname -r");
    let id = scene.begins();
    scene.prints("6.1.0\r\n");
    scene.prints(format!("<qm {id} end 7>\r\n{PROMPT}"));
    let end = scene.ends().expect("it has ended");
    assert_eq!((end.code, &*end.output, &*end.messages, end.left_out), (7, "6.1.0\n", "", 0));
    assert!(!end.is_success());
}

#[test]
fn nothing_is_typed_before_the_prompt() {
    let mut scene = Scene::new("[    1.000000] booting # \r\n", Shell::on("tty").line("true"), LONG);
    for part in ["\x1b[?2004h\x1b[1;3", "2mroot\x1b[0m", "[    1.500000] late\r\n", "#"] {
        assert_eq!(scene.typed(), "");
        scene.prints(part);
    }
    scene.prints(" ");
    scene.settles();
    assert!(scene.typed().contains("eval 'true'"));
    let mut other = Scene::new("=> ", Shell::on("tty").prompts(["=> "]).line("true"), LONG);
    other.settles();
    assert!(other.typed().contains("eval 'true'"));
    let mut none = Scene::new("", Shell::on("tty").without_prompt().line("true"), LONG);
    let id = none.begins();
    none.prints(format!("a<qm {id} end 0>\r\n"));
    assert_eq!(&*none.ends().expect("it has ended").output, "a");
}

#[test]
fn markers_differ_for_each_line() {
    let mut scene = Scene::at_prompt("true");
    let first = scene.begins();
    scene.prints(format!("<qm {first} end 0>\r\n{PROMPT}"));
    let mut scene = scene.then("true");
    let second = scene.begins();
    assert_ne!(first, second);
    scene.prints(format!("<qm {first} end 1>\r\n"));
    assert_eq!(scene.result, None, "a marker of another line is output");
    scene.prints(format!("<qm {second} end 0>\r\n"));
    assert_eq!(&*scene.ends().expect("it has ended").output, &format!("<qm {first} end 1>\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Wherever the console is split, and whatever the kernel prints in the middle: the result is the same.
    #[test]
    fn the_result_does_not_depend_on_splits_messages_and_colours(
        output in "[a-c \n<>\\[\\].0-9$#]{0,120}",
        code in any::<u8>(),
        inserts in prop::collection::vec((0_usize..600, "[a-z :]{0,20}", any::<bool>()), 0..8),
        sizes in prop::collection::vec(1_usize..40, 1..8),
        bare in any::<bool>(),
    ) {
        let mut scene = Scene::at_prompt("a line that is wrapped, since it has more than eighty columns on the terminal");
        let typed = scene.typed();
        let id = id(&typed);
        let line_end = if bare { "\n" } else { "\r\r\n" };
        let printed = format!("<qm {id} begin 42>\n{output}<qm {id} end {code}>\n{PROMPT}");
        let plain = format!("{}{}", echo(&typed), printed.replace('\n', line_end));
        // Each insert is at a place of the plain console.
        let mut inserts = inserts;
        inserts.iter_mut().for_each(|(at, ..)| *at %= plain.len() - PROMPT.len() - 24);
        inserts.sort_by_key(|(at, ..)| *at);
        let (mut console, mut messages, mut from) = (String::new(), String::new(), 0);
        for (number, (at, text, is_message)) in inserts.iter().enumerate() {
            console += &plain[from..*at];
            from = *at;
            if *is_message {
                console += &format!("[    2.{number:06}] x{text}\r\n");
                messages += &format!("{}\n", format!("x{text}").trim_end());
            } else {
                console += &format!("\x1b[{number};3m\x1b]0;{text}\x07");
            }
        }
        console += &plain[from..];
        let mut rest = console.as_bytes();
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            scene.prints(piece);
            rest = behind;
            if rest.is_empty() { break; }
        }
        let end = scene.ends().expect("it has ended");
        prop_assert_eq!((end.code, end.output.as_str(), end.left_out), (code, &*output, 0));
        prop_assert_eq!(end.messages.as_str(), messages);
    }
}

/// The transcript of each failure, cut once at each byte.
#[test]
fn a_failure_is_the_same_wherever_its_report_is_split() {
    let oops = concat!(
        "one\r\n[    3.000000] BUG: kernel NULL pointer dereference, address: 0\r\n",
        "[    3.000001] #PF: supervisor\r\n[    3.000002] ---[ end trace 0000000000000000 ]---\r\n",
    );
    let panic = concat!(
        "[    3.000003] Kernel panic - not syncing: Fatal exception\r\n[    3.000004] CPU: 0\r\n",
        "[    3.000005] ---[ end Kernel panic - not syncing: Fatal exception ]---\r\n",
    );
    for (report, reason) in [
        (oops.to_owned(), "the kernel reported: BUG: kernel NULL pointer dereference, address: 0"),
        ([oops, panic].concat(), "the kernel panicked: Fatal exception"),
        (["partial ", panic].concat(), "the kernel panicked: Fatal exception"),
    ] {
        for cut in 0..=report.len() {
            let mut scene = Scene::at_prompt("echo c >/proc/sysrq-trigger");
            scene.begins();
            scene.prints(&report[..cut]);
            scene.prints(&report[cut..]);
            assert_eq!(scene.result, None, "a panic may follow, or a marker");
            scene.passes(secs(1));
            let error = scene.ends().expect_err("the kernel has failed");
            assert_eq!(error.to_string().lines().next(), Some(reason), "cut at {cut}");
            assert!(error.console().is_some_and(|console| console.contains("trace") || console.contains("CPU: 0")));
        }
    }
}

#[test]
fn a_panic_is_reported_without_its_end_and_without_times() {
    let mut scene = Scene::at_prompt("reboot");
    scene.begins();
    scene.prints("[    3.000000] Kernel panic - not syncing: x\r\n");
    assert_eq!(scene.result, None, "the backtrace may follow");
    scene.passes(secs(2));
    assert!(matches!(scene.ends(), Err(ShellError::Panicked { reason, .. }) if reason == "x"));

    let mut scene = Scene::new(PROMPT, Shell::on("tty").line("true"), LONG);
    scene.begins();
    scene.prints("Kernel panic - not syncing: y\r\nCPU: 0\r\n---[ end Kernel panic - not syncing: y ]---\r\n");
    scene.passes(secs(1));
    assert!(matches!(scene.ends(), Err(ShellError::Panicked { reason, .. }) if reason == "y"));

    let early =
        Scene::new("[    3.000000] Kernel panic - not syncing: z\r\n[    3.1] ", Shell::on("tty").line("true"), LONG);
    let mut early = early;
    early.passes(secs(2));
    assert!(matches!(early.ends(), Err(ShellError::Panicked { reason, .. }) if reason == "z"));
}

#[test]
fn copies_of_messages_are_output() {
    let mut scene = Scene::at_prompt("dmesg");
    let id = scene.begins();
    let copy = "[    0.000000] Linux version 6\r\n[    0.500000] BUG: old\r\n[    1.000000] booted\r\n";
    scene.prints(copy);
    scene.prints(format!("[    9.000000] new\r\n<qm {id} end 0>\r\n"));
    let end = scene.ends().expect("it has ended");
    assert_eq!(end.output.as_str(), copy.replace('\r', ""));
    assert_eq!(&*end.messages, "new\n");
}

#[test]
fn a_reset_an_end_and_a_deadline_are_told_apart() {
    let mut scene = Scene::at_prompt("reboot -f");
    scene.begins();
    scene.prints("bye\r\n");
    scene.rig.happens("RESET");
    scene.advance();
    scene.passes(secs(1));
    assert!(matches!(scene.ends(), Err(ShellError::Reset { console }) if console.ends_with("bye")));

    let mut scene = Scene::at_prompt("poweroff -f");
    scene.begins();
    scene.rig.dies(SIGKILL);
    scene.advance();
    let error = scene.ends().expect_err("the machine has ended");
    assert!(matches!(error, ShellError::Ended { .. }), "{error}");

    for (stage, progress) in [(0, ShellProgress::NoPrompt), (1, ShellProgress::Typed), (2, ShellProgress::Begun)] {
        let mut scene = match stage {
            0 => Scene::new("booting", Shell::on("tty").line("true"), LONG),
            _ => Scene::at_prompt("sleep 100"),
        };
        if stage == 2 {
            scene.begins();
            scene.prints("dots...");
        }
        scene.passes(secs(60));
        let error = scene.ends().expect_err("it is late");
        assert!(matches!(&error, ShellError::TimedOut { progress: found, .. } if *found == progress), "{error}");
    }
}

/// A reset that the caller made, before the guest boots again.
#[test]
fn a_reset_before_the_prompt_is_waited_out() {
    let mut scene = Scene::new("/ # halted\r\n", Shell::on("tty").line("true"), LONG);
    scene.rig.happens("RESET");
    scene.advance();
    scene.prints(format!("[    0.000000] Linux version 6\r\n{PROMPT}"));
    let id = scene.begins();
    scene.prints(format!("[    0.500000] early\r\n<qm {id} end 0>\r\n"));
    assert_eq!(&*scene.ends().expect("it has ended").messages, "early\n");
}

#[test]
fn a_login_is_no_shell() {
    for prompt in [
        "\r\nDebian GNU/Linux 12 guest ttyS0\r\n\r\nguest login: ",
        "\r\nPlease press Enter to activate this console. ",
    ] {
        let mut scene = Scene::new(prompt, Shell::on("tty").line("true"), LONG);
        scene.passes(millis(2_999));
        assert_eq!(scene.result, None, "the console may log in by itself");
        scene.passes(millis(1));
        let error = scene.ends().expect_err("there is no shell");
        assert!(matches!(&error, ShellError::NoShell { prompt: found, .. } if prompt.ends_with(&**found)), "{error}");

        let mut scene = Scene::at_prompt("exit");
        scene.begins();
        scene.prints(prompt);
        scene.passes(secs(3));
        assert!(matches!(scene.ends(), Err(ShellError::Exited { .. })));
    }
    let mut automatic = Scene::new("guest login: ", Shell::on("tty").line("true"), LONG);
    automatic.prints(format!("root (automatic login)\r\n{PROMPT}"));
    automatic.begins();
    assert_eq!(automatic.result, None);
}

/// dash abandons a line with an error of syntax, and shows the next prompt.
#[test]
fn a_prompt_without_a_marker_is_asked_for_the_exit_code() {
    for (shell, code) in [(42, Some(2)), (43, None)] {
        let mut scene = Scene::at_prompt("if");
        scene.begins();
        scene.prints("sh: eval: syntax error\r\n/ #");
        scene.prints(" ");
        assert_eq!(scene.typed(), "", "the prompt may be a part of the output");
        scene.passes(secs(1));
        let probe = scene.typed();
        scene.prints(echo(&probe));
        scene.prints(format!("<qm {} probe 2 {shell}>\r\n{PROMPT}", id(&probe)));
        let result = scene.ends();
        match code {
            Some(code) => {
                let end = result.expect("the same shell answers");
                assert_eq!((end.code, &*end.output), (code, "sh: eval: syntax error\n"));
            }
            None => assert!(matches!(result, Err(ShellError::Exited { .. })), "{result:?}"),
        }
    }
}

#[test]
fn output_is_bounded_and_the_rest_is_counted() {
    let mut scene = Scene::new(PROMPT, Shell::on("tty").output_limit(10).line("seq 100000"), LONG);
    let id = scene.begins();
    let all: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    scene.prints(all.replace('\n', "\r\n"));
    scene.prints(format!("<qm {id} end 0>\r\n"));
    let end = scene.ends().expect("it has ended");
    assert_eq!((&*end.output, end.left_out), ("99\n100000\n", all.len() as u64 - 10));
}

#[test]
fn evicted_output_is_counted() {
    let mut limits = Limits::default();
    limits.console = 1_000;
    let mut rig = Rig::ready(config().limits(limits));
    rig.prints(PROMPT);
    let mut scene = Scene { rig, run: Run::new(Shell::on("tty").line("seq"), LONG), result: None };
    scene.advance();
    let id = scene.begins();
    // The caller does not run meanwhile.
    scene.rig.prints("x");
    (0..10).for_each(|_| scene.rig.prints("y".repeat(500)));
    scene.advance();
    scene.prints(format!("<qm {id} end 0>\r\n"));
    let end = scene.ends().expect("it has ended");
    assert_eq!((end.output.len(), end.left_out), (1_001, 4_000));
}

#[test]
fn steps_that_fail_are_reported() {
    let mut scene = Scene::new("", Shell::on("other").line("true"), LONG);
    scene.advance();
    let unknown: ProcedureError = WaitError::Misuse(Misuse::UnknownConsole("other".into())).into();
    assert_eq!(scene.ends(), Err(ShellError::Procedure(unknown)));

    let mut limits = Limits::default();
    limits.console_input = 10;
    let mut rig = Rig::ready(config().limits(limits));
    rig.prints(PROMPT);
    let mut run = Run::new(Shell::on("tty").line("true"), LONG);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.pass(millis(30));
    let full = on(&mut rig, &mut run).expect("it is over").expect_err("there is no room");
    assert_eq!(full, ShellError::Procedure(WaitError::Misuse(Misuse::ConsoleInputFull(10)).into()));

    let mut scene = Scene::at_prompt("true");
    scene.run.cancel(&mut scene.rig.vm);
    scene.advance();
    assert_eq!(scene.ends(), Err(WaitError::Cancelled.into()));
}

/// Nothing is written when the wait for its effect is refused.
#[test]
fn nothing_is_typed_without_a_wait() {
    let mut limits = Limits::default();
    limits.waits = 1;
    let mut rig = Rig::ready(config().limits(limits));
    let start = rig.vm.mark();
    let other = [qemu_machine_core::Wait::output("tty")];
    let _ = rig.vm.wait(rig.now, &start, other, FOREVER).expect("there is room");
    let mut run = Run::new(Shell::on("tty").without_prompt().line("true"), LONG);
    assert!(matches!(on(&mut rig, &mut run), Some(Err(ShellError::Procedure(_)))));
    assert_eq!(typed(&mut rig), "");
}

/// Output that begins with a later time, and has no line end.
#[test]
fn a_line_that_looks_like_a_message_has_its_exit_code() {
    for cut in 0..60 {
        let mut scene = Scene::at_prompt("./status");
        let id = scene.begins();
        let printed = format!("a\r\n[12345.000000] x<qm {id} end 7>\r\n{PROMPT}");
        let cut = cut.min(printed.len());
        scene.prints(&printed[..cut]);
        scene.prints(&printed[cut..]);
        let end = scene.ends().expect("it has ended");
        assert_eq!((end.code, &*end.output, &*end.messages), (7, "a\n[12345.000000] x", ""), "cut at {cut}");
    }
}

const CRASH: &str = concat!(
    "[ 9000.000003] Kernel panic - not syncing: old\r\n[ 9000.000004] CPU: 0\r\n",
    "[ 9000.000005] ---[ end Kernel panic - not syncing: old ]---\r\n",
);

/// `cat crash.log`: a shell that prints after a panic refutes it.
#[test]
fn output_with_a_panic_is_no_panic() {
    for log in [CRASH.to_owned(), CRASH.replace("9000", "   0"), "Kernel panic - not syncing: a\r\n".into()] {
        let mut scene = Scene::at_prompt("cat crash.log");
        let id = scene.begins();
        scene.prints(&log);
        scene.prints(format!("<qm {id} end 0>\r\n{PROMPT}"));
        assert_eq!(scene.result.as_ref().map(Result::is_ok), Some(true), "{:?}", scene.result);
        let mut scene = scene.then("true");
        let id = scene.begins();
        scene.prints(format!("<qm {id} end 0>\r\n"));
        assert!(scene.ends().is_ok());
    }
}

/// Output with later times makes the messages after it look like copies.
#[test]
fn a_panic_behind_output_with_later_times_is_found() {
    let mut scene = Scene::at_prompt("cat log; cat >/proc/sysrq-trigger");
    scene.begins();
    scene.prints("[99999.000000] later\r\nx\r\n");
    scene.prints(CRASH);
    scene.passes(secs(1));
    assert!(matches!(scene.ends(), Err(ShellError::Panicked { reason, .. }) if reason == "old"));
}

#[test]
fn a_panic_before_a_reset_is_of_no_interest() {
    for (boot, is_event) in [
        ("[    0.000000] Linux version 6\r\n[    0.100000] booted\r\n", true),
        ("Linux version 6\r\n", true),
        ("[    0.000000] Linux version 6\r\n[    0.100000] booted\r\n", false),
        ("Linux version 6\r\n", false),
    ] {
        let mut scene = Scene::at_prompt("echo c >/proc/sysrq-trigger");
        scene.begins();
        scene.prints(CRASH);
        scene.passes(secs(1));
        assert!(matches!(scene.result, Some(Err(ShellError::Panicked { .. }))));
        if is_event {
            scene.rig.happens("RESET");
        }
        scene.rig.prints(boot);
        scene.rig.prints(PROMPT);
        let mut scene = scene.then("true");
        let id = scene.begins();
        scene.prints(format!("<qm {id} end 0>\r\n"));
        assert!(scene.ends().is_ok(), "{boot}");
    }
}

#[test]
fn a_prompt_before_a_reset_is_of_the_previous_boot() {
    let mut scene = Scene::at_prompt("true");
    scene.run.disown(&mut scene.rig.vm, scene.rig.now);
    scene.typed();
    scene.rig.happens("RESET");
    let mut scene = scene.then("true");
    assert_eq!(scene.typed(), "");
    scene.prints("booting\r\n");
    scene.settles();
    assert_eq!(scene.typed(), "");
    scene.prints(PROMPT);
    scene.begins();
}

/// `panic=-1`: the guest is reset at once.
#[test]
fn a_panic_before_a_reset_is_a_panic_wherever_it_is_split() {
    let printed = [CRASH, "[    0.000000] Linux version 6\r\n"].concat();
    for cut in 0..=printed.len() {
        for before in [false, true] {
            let mut scene = Scene::at_prompt("echo c >/proc/sysrq-trigger");
            scene.begins();
            scene.prints(&printed[..cut]);
            if before {
                scene.rig.happens("RESET");
            }
            scene.prints(&printed[cut..]);
            if !before {
                scene.rig.happens("RESET");
            }
            scene.advance();
            scene.passes(secs(1));
            let result = scene.ends();
            assert!(matches!(result, Err(ShellError::Panicked { .. })), "cut at {cut}, {before}: {result:?}");
        }
    }
}

#[test]
fn a_prompt_within_a_line_of_the_boot_is_none() {
    let boot = "### starting\r\n[  OK  ] # of units: 5 $ x\r\n";
    for cut in 0..boot.len() {
        let mut scene = Scene::new(&boot[..cut], Shell::on("tty").line("true"), LONG);
        scene.passes(millis(5));
        scene.prints(&boot[cut..]);
        scene.settles();
        assert_eq!(scene.typed(), "", "cut at {cut}");
    }
}

/// `printf '# '; sleep 1; echo done`: the command prints a text like the prompt, so the shell is asked again.
#[test]
fn output_after_a_false_prompt_is_complete() {
    let mut scene = Scene::at_prompt("printf '/ # '; sleep 1; echo done");
    let id = scene.begins();
    scene.prints(format!("one\r\n{PROMPT}"));
    scene.passes(millis(200));
    let probe = scene.typed();
    scene.prints(echo(&probe));
    scene.prints(format!("done\r\n<qm {id} end 3>\r\n{PROMPT}"));
    let end = scene.ends().expect("it has ended");
    assert_eq!((end.code, &*end.output), (3, "one\n/ # done\n"));
}

#[test]
fn a_trace_of_the_shell_is_no_marker() {
    for (open, close) in [("'", "'"), ("", "")] {
        let mut scene = Scene::at_prompt("true");
        let typed = scene.typed();
        let id = id(&typed);
        scene.prints(echo(&typed));
        scene.prints(format!("+ echo {open}<qm {id} begin 42>{close}\r\n<qm {id} begin 42>\r\n"));
        scene.prints(format!("a\r\n+ echo {open}<qm {id} end 5>{close}\r\n"));
        assert_eq!(scene.result, None);
        scene.prints(format!("<qm {id} end 5>\r\n"));
        let end = scene.ends().expect("it has ended");
        assert_eq!((end.code, end.output.starts_with("a\n+ echo ")), (5, true));
    }
}

#[test]
fn a_line_whose_first_marker_was_evicted_has_an_end() {
    let mut limits = Limits::default();
    limits.console = 1_000;
    let mut rig = Rig::ready(config().limits(limits));
    rig.prints(PROMPT);
    let mut scene = Scene { rig, run: Run::new(Shell::on("tty").line("seq"), LONG), result: None };
    scene.advance();
    scene.settles();
    let typed = scene.typed();
    let id = id(&typed);
    // The caller does not run meanwhile.
    scene.rig.prints("x");
    scene.rig.prints(format!("{}<qm {id} begin 42>\r\n", echo(&typed)));
    (0..10).for_each(|_| scene.rig.prints("y".repeat(500)));
    scene.advance();
    scene.prints(format!("<qm {id} end 4>\r\n"));
    let end = scene.ends().expect("it has ended");
    assert_eq!((end.code, end.output.ends_with("yy"), end.left_out > 4_000), (4, true, true));
}

#[test]
fn text_is_typed_with_pauses() {
    let pause = core::time::Duration::from_millis(20);
    let mut rig = Rig::ready(config());
    let mut run = Run::new(Typing::on("tty", "a\u{e4}b").pause(pause), LONG);
    for character in ["a", "\u{e4}", "b"] {
        assert_eq!(on(&mut rig, &mut run), None);
        assert_eq!(typed(&mut rig), character);
        rig.prints("echo");
        assert_eq!(on(&mut rig, &mut run), None);
        assert_eq!(typed(&mut rig), "", "the pause is not over");
        rig.pass_exactly(pause);
    }
    assert_eq!(on(&mut rig, &mut run), Some(Ok(())));

    let mut rig = Rig::ready(config());
    let mut run = Run::new(Typing::on("tty", "abc"), LONG);
    assert_eq!(on(&mut rig, &mut run), None);
    rig.dies(SIGKILL);
    assert!(matches!(on(&mut rig, &mut run), Some(Err(ProcedureError::Wait(WaitError::Ended(_))))));
    let mut late = Rig::ready(config());
    let mut run = Run::new(Typing::on("tty", "abc"), core::time::Duration::from_millis(15).into());
    assert_eq!(on(&mut late, &mut run), None);
    late.pass(core::time::Duration::from_millis(10));
    assert_eq!(on(&mut late, &mut run), None);
    late.pass(core::time::Duration::from_millis(10));
    assert_eq!(on(&mut late, &mut run), Some(Err(WaitError::TimedOut.into())));
}

fn next<P: Procedure>(rig: &mut Rig, procedure: P) -> Option<P::Return> {
    let mut run = Run::new(procedure, FOREVER);
    let result = on(rig, &mut run);
    run.disown(&mut rig.vm, rig.now);
    result
}

#[test]
fn lines_are_read_once_and_in_order() {
    let mut rig = Rig::ready(config());
    let mut lines = Lines::of("tty").plain();
    rig.prints("one\r\n\x1b[1mtwo\x1b[0m\r\r\nthr");
    let mut texts = Vec::new();
    while let Some(line) = next(&mut rig, lines.next_line()) {
        let line = line.expect("no failure").expect("no end");
        texts.push((line.text.to_string(), line.missed));
    }
    assert_eq!(texts, [("one".into(), 0), ("two".into(), 0)]);
    rig.prints("ee\n\nlast\r");
    for expected in ["three", ""] {
        let line = next(&mut rig, lines.next_line()).expect("a line").expect("no failure").expect("no end");
        assert_eq!(&*line.text, expected);
    }
    rig.dies(SIGKILL);
    let last = next(&mut rig, lines.next_line()).expect("the rest").expect("no failure").expect("no end");
    assert_eq!(&*last.text, "last");
    assert_eq!(next(&mut rig, lines.next_line()), Some(Ok(None)));
    assert_eq!(next(&mut rig, lines.next_line()), Some(Ok(None)));
    let unknown = next(&mut rig, Lines::of("other").next_line()).expect("it is over");
    assert_eq!(unknown, Err(WaitError::Misuse(Misuse::UnknownConsole("other".into())).into()));
}

#[test]
fn lines_that_were_evicted_are_counted() {
    let mut limits = Limits::default();
    limits.console = 10;
    let mut rig = Rig::ready(config().limits(limits));
    let mut lines = Lines::from("tty");
    rig.prints("first\nsecond\nthird\n");
    let line = next(&mut rig, lines.next_line()).expect("a line").expect("no failure").expect("no end");
    assert_eq!((&*line.text, line.missed), ("ond", 9));
    let line = next(&mut rig, lines.next_line()).expect("a line").expect("no failure").expect("no end");
    assert_eq!((&*line.text, line.missed), ("third", 0));
    // The beginning of a long line is evicted while the line is waited for.
    let mut run = Run::new(lines.next_line(), FOREVER);
    assert_eq!(on(&mut rig, &mut run), None);
    ["0123456789", "abcdefghij", "k\n"].into_iter().for_each(|piece| rig.prints(piece));
    let line = on(&mut rig, &mut run).expect("a line").expect("no failure").expect("no end");
    assert!(line.missed > 0 && line.text.ends_with("jk"), "{line:?}");
}
