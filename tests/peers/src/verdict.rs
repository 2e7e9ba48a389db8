//! Decides what to call that which a client did with a peer, by the transcript that the peer comes with.

use std::os::unix::process::ExitStatusExt;

use qemu_machine_tests::torture::Torture;

use crate::cell::Seen;

/// Every step had the answer that it should have, or an error where there is no right answer.
pub const RIGHT: &str = "right";

const STEPS: [&str; 4] = ["connect", "first", "second", "last"];
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// What is said of a cell.
pub fn of(torture: &Torture, seen: &Seen) -> String {
    let expected = expected(torture);
    let next = STEPS.get(seen.steps.len()).unwrap_or(&"the end");
    match seen.status {
        None => return format!("**hang** ({next})"),
        Some(status) if status.code() == Some(PANICKED) => return format!("**panic** ({next})"),
        Some(status) if !status.success() => return format!("**crash** ({next}, signal {:?})", status.signal()),
        Some(_) => {}
    }
    let steps: Vec<_> = seen.steps.iter().zip(&expected).collect();
    let wrong = steps.iter().find(|((_, answer), right)| answer.starts_with("= ") && *right != answer);
    if let Some(((step, answer), right)) = wrong {
        let instead = if right.is_empty() { "an error" } else { &right[2..] };
        return match step.as_str() {
            "connect" => "takes it for a monitor".into(),
            _ => format!("**wrong answer** ({step}: {}, not {instead})", &answer[2..]),
        };
    }
    let failed = |(_, answer): &(String, String), right: &String| answer.starts_with("! ") && !right.is_empty();
    let Some(first) = steps.iter().position(|(step, right)| failed(step, right)) else { return RIGHT.into() };
    let at = &steps[first].0.0;
    let is_lost = at != "last" && steps[first..].iter().all(|((_, answer), _)| answer.starts_with("! "));
    if is_lost { format!("connection lost ({at})") } else { format!("clear error ({at})") }
}

/// What each step should bring: an answer, or nothing where there is none that is right.
fn expected(torture: &Torture) -> Vec<String> {
    let lines: Vec<_> = torture.tells.iter().map(String::as_str).collect();
    let connect = if lines[0] == "launched" { "= null" } else { "" };
    let is_lost =
        lines.contains(&"the machine ended first") || lines.get(1).is_some_and(|line| line.contains("closed"));
    let answer = |line: Option<&&str>| match line.and_then(|line| line.strip_prefix("reply: ")) {
        // The transcript has the whole message there.
        Some(value) if value.starts_with("{\"return\":") => format!("= {}", &value[10..value.len() - 1]),
        Some(value) => format!("= {value}"),
        None => String::new(),
    };
    let [second, last] = if is_lost || connect.is_empty() { [None, None] } else { [lines.get(2), lines.get(4)] };
    vec![connect.into(), answer(lines.get(1).filter(|_| !connect.is_empty())), answer(second), answer(last)]
}
