//! Decides how people read a record.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::{Entry, Line, Record, Said, Told};
use crate::input::Channel;
use crate::text::{excerpt, lossy, printable};

/// A record as people read it, one line for each: seconds, who (`<` came in, `>` went out, `=` was asked by the caller,
/// `!` was said to it), and what. Long texts are cut, but for `{:#}`.
#[derive(Clone, Copy, Debug)]
pub struct Timeline<'a>(&'a Record);

impl Record {
    /// The record as people read it.
    #[must_use]
    pub fn timeline(&self) -> Timeline<'_> {
        Timeline(self)
    }
}

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Names::default();
        for Line { at, entry } in &self.0.lines {
            if let Entry::Machine(beginning) = entry {
                names = Names(beginning.config.console_names().cloned().collect());
            }
            let Some((side, what)) = tell(entry, &names) else { continue };
            let seconds = at.since(crate::Moment::ORIGIN).as_secs_f64();
            let what = if f.alternate() { what } else { excerpt(what.as_bytes()) };
            writeln!(f, "{seconds:>12.6} {side} {}", printable(&what))?;
        }
        Ok(())
    }
}

/// The names of the consoles.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn of(&self, channel: Channel) -> Cow<'_, str> {
        let Channel::Console(index) = channel else { return Cow::Borrowed("monitor") };
        self.0.get(index).map_or_else(|| channel.to_string().into(), |name| name.as_str().into())
    }
}

fn tell(entry: &Entry, names: &Names) -> Option<(char, String)> {
    Some(match entry {
        Entry::Machine(beginning) => ('=', format!("recorded by version {}", beginning.version)),
        Entry::Told(told) => match told.as_input() {
            Some(_) => ('<', tell_news(told, names)?),
            None => tell_request(told, names)?,
        },
        Entry::Said(said) => ('!', tell_said(said)?),
        Entry::Dropped(count) => ('!', format!("{count} lines were dropped")),
    })
}

fn tell_request(told: &Told, names: &Names) -> Option<(char, String)> {
    let what = match told {
        Told::Sent { to, bytes } => return Some(('>', format!("{}: {}", names.of(*to), lossy(bytes)))),
        Told::Launch => "launch".to_string(),
        Told::Execute(issued) => {
            // The id, and the brace behind it, come when it is sent.
            let end = if issued.kind.line { "" } else { "}" };
            format!("execute {}{end}", lossy(&issued.text))
        }
        Told::Type { console, text } => format!("type on {console}: {}", lossy(text)),
        Told::Wait { things, .. } => format!("wait for {}", join(things)),
        Told::Listen { events, .. } => format!("listen for {}", join(events)),
        Told::Disown(id) => format!("give up command {id}"),
        Told::Forget(id) => format!("give up wait {id}"),
        Told::Unlisten(id) => format!("end listener {id}"),
        Told::Shutdown(_) => "shut down".to_string(),
        Told::Kill => "kill".to_string(),
        Told::Disconnect => "disconnect".to_string(),
        Told::Detach => "detach".to_string(),
        Told::GiveUp => "wait no longer for the process".to_string(),
        Told::Abandon => "abandon".to_string(),
        // What was taken away was told when it came; the rest is news.
        _ => return None,
    };
    Some(('=', what))
}

fn tell_news(told: &Told, names: &Names) -> Option<String> {
    Some(match told {
        Told::Prepared(_) => "prepared".to_string(),
        Told::Spawned(pid) => format!("spawned, process {pid}"),
        Told::PrepareFailed(fault)
        | Told::SpawnFailed(fault)
        | Told::SignalFailed(_, fault)
        | Told::RemoveFailed(fault)
        | Told::OpenFailed(_, fault) => fault.to_string(),
        Told::Exited(status) => format!("exited: {status}"),
        Told::Opened(channel) => format!("{} opened", names.of(*channel)),
        Told::Crowded(channel) => format!("{} is in use by somebody else", names.of(*channel)),
        Told::Received { from, bytes } => format!("{}: {}", names.of(*from), lossy(bytes)),
        Told::Closed(channel) => format!("{} closed", names.of(*channel)),
        Told::Signalled(_) => "the signal was sent".to_string(),
        Told::LogRead(tail) if tail.is_empty() => "printed nothing".to_string(),
        Told::LogRead(tail) => format!("printed: {}", lossy(tail)),
        Told::Released => "released".to_string(),
        Told::Removed => "removed".to_string(),
        Told::TimePassed => "a deadline passed".to_string(),
        _ => return None,
    })
}

fn tell_said(said: &Said) -> Option<String> {
    Some(match said {
        // Of interest to a replay only.
        Said::Number(_) => return None,
        Said::Refused(why) => format!("refused: {why}"),
        Said::Order(what) => format!("order: {what}"),
        Said::Ready => "ready".to_string(),
        Said::Gap => "events may have been missed before".to_string(),
        Said::Answer { id, reply } => format!("command {id}: {}", lossy(reply)),
        Said::Failure { id, problem } => format!("command {id} failed: {problem}"),
        Said::Found(what) => format!("found {what}"),
        Said::Event(event) => format!("event {event}"),
        Said::Ended(how) => format!("ended: {how}"),
    })
}

fn join(things: &[crate::Wait]) -> String {
    let words: Vec<_> = things.iter().map(|thing| thing.to_string()).collect();
    words.join(", ")
}
