//! Test of the guide from `qmp-shell`: its sessions with this shell are typed, and the screen is compared.

use std::fs;
use std::path::Path;

use qemu_machine_tests::leak_check::{Scratch, leaving_nothing};

use vt100::Screen;

use super::agent::Agent;
use super::terminal::Terminal;

/// The prompts after which the guide has a typed line.
const PROMPTS: [&str; 4] = ["qmp> ", "hmp> ", "qga> ", "... "];

/// TAB, after which the guide has the completed line. The test clears that line.
const TAB: char = '⇥';

/// A session of the guide: the arguments of the shell, and the lines of the terminal.
struct Session {
    arguments: Vec<String>,
    lines: Vec<String>,
}

fn sessions() -> Vec<Session> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime-blocking/docs/from_qmp_shell.md");
    let guide = fs::read_to_string(path).unwrap();
    let blocks = guide.split("```text\n").skip(1).filter_map(|block| block.split_once("\n```")).map(|(block, _)| block);
    let session = |block: &str| {
        let (call, lines) = block.strip_prefix("$ qmpsh ")?.split_once('\n')?;
        let arguments = call.split_whitespace().map(str::to_owned).collect();
        Some(Session { arguments, lines: lines.lines().map(str::to_owned).collect() })
    };
    blocks.filter_map(session).collect()
}

/// Returns the text that is typed on a line.
fn typed(line: &str) -> Option<&str> {
    PROMPTS.iter().find_map(|prompt| line.strip_prefix(prompt))
}

/// Reports whether a line is that of the guide, in which `…` stands for any text.
fn matches(line: &str, pattern: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('…') else { return line.trim_end() == pattern.trim_end() };
    line.len() >= head.len() + tail.len() && line.starts_with(head) && line.trim_end().ends_with(tail)
}

/// Reports whether the screen has these lines and no others, in this order. Events come at any time, so only their number
/// and order among themselves is compared.
fn shows(screen: &str, lines: &[String]) -> bool {
    let is_event = |line: &&str| line.starts_with("event ");
    let shown = screen.trim_end().lines();
    let (shown_events, shown): (Vec<_>, Vec<_>) = shown.partition(is_event);
    let (events, lines): (Vec<_>, Vec<_>) = lines.iter().map(String::as_str).partition(is_event);
    let are_same = |shown: &[&str], lines: &[&str]| {
        shown.len() == lines.len() && shown.iter().zip(lines).all(|(shown, line)| matches(shown, line))
    };
    are_same(&shown_events, &events) && are_same(&shown, &lines)
}

/// Reports whether the screen has these lines, and then a prompt with nothing typed.
fn waits_after(screen: &Screen, lines: &[String]) -> bool {
    let contents = screen.contents();
    let (above, _) = contents.trim_end().rsplit_once('\n').unwrap_or_default();
    is_at_prompt(screen) && shows(above, lines)
}

/// Reports whether the shell waits at a prompt with nothing typed. A hint may follow the cursor.
fn is_at_prompt(screen: &Screen) -> bool {
    let ((row, column), (_, columns)) = (screen.cursor_position(), screen.size());
    let line = screen.rows(0, columns).nth(row.into()).unwrap_or_default();
    PROMPTS.iter().any(|prompt| line.starts_with(prompt.trim_end()) && usize::from(column) == prompt.len())
}

#[test]
fn the_sessions_of_the_guide_are_real() {
    let sessions = sessions();
    assert!(sessions.len() >= 6, "the guide has sessions");
    for Session { arguments, lines } in sessions {
        leaving_nothing(move |temporary| {
            let state = Scratch::create();
            let agent = arguments.iter().any(|argument| argument == "qga.sock").then(Agent::start);
            let arguments: Vec<&str> = arguments
                .iter()
                .map(|argument| match (argument.as_str(), &agent) {
                    ("qga.sock", Some(agent)) => &*agent.address,
                    (argument, _) => argument,
                })
                .collect();
            let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
            let is_over = play(&mut terminal, &lines);
            if !is_over {
                terminal.press("\x04");
            }
            let (status, screen) = terminal.end();
            assert!(status.success(), "{status}: {screen}");
            assert!(!is_over || shows(&screen, &lines), "{screen}\n\nthe guide has:\n{}", lines.join("\n"));
        });
    }
}

/// Types the lines of a session, and compares the screen before each one. Returns whether the session ends by itself. When
/// not, the screen is compared once more.
fn play(terminal: &mut Terminal, lines: &[String]) -> bool {
    let mut shown: Vec<String> = Vec::new();
    let mut is_over = false;
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        let Some(text) = typed(line) else {
            shown.push(line.clone());
            continue;
        };
        terminal.until(&shown.join("\n"), |screen| waits_after(screen, &shown));
        if let Some(text) = text.strip_suffix(TAB) {
            terminal.press(&format!("{text}\t"));
            terminal.line_is(lines.next().unwrap());
            terminal.press("\x15");
            continue;
        }
        terminal.press(&format!("{text}\r"));
        shown.push(line.clone());
        is_over |= text == "quit" || text == "exit";
    }
    if !is_over {
        terminal.until(&shown.join("\n"), |screen| waits_after(screen, &shown));
    }
    is_over
}
