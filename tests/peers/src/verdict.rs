//! Verdict on a cell, by the transcript that belongs to its peer.

use std::fmt;
use std::os::unix::process::ExitStatusExt;

use qemu_machine_tests::torture::Torture;

use crate::cell::Seen;
use crate::clients::Client;
use crate::left_out;

const STEPS: [&str; 4] = ["connect", "first", "second", "last"];
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// The verdict on a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step had the right answer, or an error where there is no right answer.
    Right,
    /// An error where there is a right answer: the caller is notified, but loses more than necessary.
    Unforgiving(String),
    /// A wrong answer, a hang, or the end of the program.
    Wrong(String),
    /// The client sends no ids, and so cannot handle the peer.
    Nothing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::Unforgiving(how) => f.write_str(how),
            Self::Wrong(how) => write!(f, "**{how}**"),
            Self::Nothing => f.write_str("-"),
        }
    }
}

/// Returns the verdict on a cell.
pub fn of(client: Client, torture: &Torture, seen: &Seen) -> Verdict {
    if left_out::is_by_id(torture) && !client.sends_ids() {
        return Verdict::Nothing;
    }
    let next = STEPS.get(seen.steps.len()).unwrap_or(&"the end");
    match seen.status {
        None => return Verdict::Wrong(format!("hang ({next})")),
        Some(status) if status.code() == Some(PANICKED) => return Verdict::Wrong(format!("panic ({next})")),
        Some(status) if !status.success() => {
            return Verdict::Wrong(format!("crash ({next}, signal {})", status.signal().unwrap_or_default()));
        }
        Some(_) => {}
    }
    let expected = expected(torture);
    let steps: Vec<_> = seen.steps.iter().zip(&expected).map(|((step, answer), right)| (step, answer, right)).collect();
    let wrong = steps.iter().find(|(_, answer, right)| answer.starts_with("= ") && right != answer);
    if let Some((step, answer, right)) = wrong {
        let instead = right.strip_prefix("= ").unwrap_or("an error");
        return Verdict::Wrong(match step.as_str() {
            "connect" => "accepts it as a monitor".into(),
            _ => format!("wrong answer ({step}: {}, not {instead})", &answer[2..]),
        });
    }
    let is_error = |answer: &str| answer.starts_with("! ");
    let is_raw = |answer: &str| is_error(answer) && answer.contains(char::is_control);
    if let Some((step, ..)) = steps.iter().find(|(_, answer, _)| is_raw(answer)) {
        return Verdict::Unforgiving(format!("raw escape sequences ({step})"));
    }
    let failed = steps.iter().position(|(_, answer, right)| is_error(answer) && !right.is_empty());
    let Some(first) = failed else { return Verdict::Right };
    let step = steps[first].0;
    let is_lost = step != "last" && steps[first..].iter().all(|(_, answer, _)| is_error(answer));
    Verdict::Unforgiving(match step.as_str() {
        "connect" => "no connection".into(),
        _ if is_lost => format!("connection lost ({step})"),
        _ => format!("error ({step})"),
    })
}

/// Returns the right answer of each step; an empty text means that there is none.
fn expected(torture: &Torture) -> Vec<String> {
    let lines: Vec<_> = torture.tells.iter().map(String::as_str).collect();
    let is_connected = lines[0] == "launched";
    let connect = if is_connected { "= null" } else { "" };
    let is_lost =
        lines.contains(&"the machine ended first") || lines.get(1).is_some_and(|line| line.contains("closed"));
    let answer = |line: Option<&&str>| match line.and_then(|line| line.strip_prefix("reply: ")) {
        // For a raw command, the transcript has the whole message.
        Some(value) if value.starts_with("{\"return\":") => format!("= {}", &value[10..value.len() - 1]),
        Some(value) if value.starts_with("{\"error\":") => String::new(),
        Some(value) => format!("= {value}"),
        None => String::new(),
    };
    let [second, last] = if is_lost || !is_connected { [None, None] } else { [lines.get(2), lines.get(4)] };
    vec![connect.into(), answer(lines.get(1).filter(|_| is_connected)), answer(second), answer(last)]
}
