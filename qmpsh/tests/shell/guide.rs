//! Test of the guide from `qmp-shell`: its sessions with this shell are typed, and the screen is compared.

use std::fs;
use std::path::Path;

use qemu_machine_tests::leak_check::{Scratch, leaving_nothing};

use vt100::Screen;

use super::agent::Agent;
use super::terminal::Terminal;

/// The prompts after which the guide has a typed line.
const PROMPTS: [&str; 4] = ["qmp> ", "hmp> ", "qga> ", "... "];

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

/// Reports whether the screen has these lines. Events and replies come in any order.
fn shows(screen: &str, lines: &[String]) -> bool {
    let mut left: Vec<&str> = screen.lines().collect();
    let mut found = |line: &String| {
        let at = left.iter().position(|shown| matches(shown, line));
        at.map(|at| left.remove(at)).is_some()
    };
    lines.iter().all(&mut found)
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
            let (mut at, mut ended) = (0, false);
            while let Some(line) = lines[at..].iter().position(|line| typed(line).is_some()).map(|next| at + next) {
                terminal.until(&lines[..line].join("\n"), |screen| {
                    is_at_prompt(screen) && shows(&screen.contents(), &lines[..line])
                });
                let text = typed(&lines[line]).unwrap();
                terminal.press(&format!("{text}\r"));
                ended |= text == "quit" || text == "exit";
                at = line + 1;
            }
            if !ended {
                terminal.until(&lines.join("\n"), |screen| is_at_prompt(screen) && shows(&screen.contents(), &lines));
                terminal.press("\x04");
            }
            let (status, screen) = terminal.end();
            assert!(
                status.success() && shows(&screen, &lines),
                "{status}: {screen}\n\nthe guide has:\n{}",
                lines.join("\n")
            );
        });
    }
}
