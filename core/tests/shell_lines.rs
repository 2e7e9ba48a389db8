//! Tests of lines in a shell, typed text and lines of a console, against a scripted console.

mod rig;

use proptest::prelude::*;
use qemu_machine_core::procedure::{
    Lines, Procedure, ProcedureError, Run, Shell, ShellEnd, ShellError, ShellLine, ShellProgress, Typing,
};
use qemu_machine_core::{Channel, Deadline, FOREVER, Limits, Misuse, WaitError};
use rig::steps::{LONG, on};
use rig::{Rig, SIGKILL, config, secs};

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
        Self::new(&["[    1.000000] booted\r\n", PROMPT].concat(), Shell::on("tty").line(line), LONG)
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
        let typed = self.typed();
        let id = id(&typed);
        self.prints(echo(&typed));
        self.prints(format!("<qm {id} begin 42>\r\n"));
        id
    }

    fn ends(mut self) -> Result<ShellEnd, ShellError> {
        self.result.take().expect("the line is over")
    }
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
    assert!(scene.typed().contains("eval 'true'"));
    let mut other = Scene::new("=> ", Shell::on("tty").prompts(["=> "]).line("true"), LONG);
    assert!(other.typed().contains("eval 'true'"));
    let mut none = Scene::new("", Shell::on("tty").without_prompt().line("true"), LONG);
    let id = none.begins();
    none.prints(format!("a<qm {id} end 0>"));
    assert_eq!(&*none.ends().expect("it has ended").output, "a");
}

#[test]
fn markers_differ_for_each_line() {
    let mut scene = Scene::at_prompt("true");
    let first = scene.begins();
    scene.prints(format!("<qm {first} end 0>\r\n{PROMPT}"));
    let Scene { rig, .. } = scene;
    let mut scene = Scene { rig, run: Run::new(Shell::on("tty").line("true"), LONG), result: None };
    scene.advance();
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
            if reason.contains("reported") {
                assert_eq!(scene.result, None, "a panic may follow");
                scene.passes(secs(1));
            }
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
        scene.passes(secs(1));
        let error = scene.ends().expect_err("there is no shell");
        assert!(matches!(&error, ShellError::NoShell { prompt: found, .. } if prompt.ends_with(&**found)), "{error}");

        let mut scene = Scene::at_prompt("exit");
        scene.begins();
        scene.prints(prompt);
        scene.passes(secs(1));
        assert!(matches!(scene.ends(), Err(ShellError::Exited { .. })));
    }
    let mut automatic = Scene::new("guest login: ", Shell::on("tty").line("true"), LONG);
    automatic.prints(format!("root (automatic login)\r\n{PROMPT}"));
    automatic.passes(secs(1));
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
    let full = on(&mut rig, &mut run).expect("it is over").expect_err("there is no room");
    assert_eq!(full, ShellError::Procedure(WaitError::Misuse(Misuse::ConsoleInputFull(10)).into()));

    let mut scene = Scene::at_prompt("true");
    scene.run.cancel(&mut scene.rig.vm);
    scene.advance();
    assert_eq!(scene.ends(), Err(WaitError::Cancelled.into()));
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
    rig.prints("ee\n\nlast");
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
}
