//! Timeline: the human-readable form of a record.

use crate::record;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::line::{Entry, Line};
use super::lines::Record;
use crate::channel::Channel;
use crate::input::CompanionInput;
use crate::text::{Printable, excerpt, lossy};

/// The human-readable form of a record. A line has the time in seconds, the direction (`<` an input, `>` bytes sent,
/// `=` a request of the caller, `!` an output), and a text. Long texts are cut; `{:#}` prints them in full. Lines that
/// only a replay needs are left out.
#[derive(Clone, Copy, Debug)]
pub struct Timeline<'a>(&'a Record);

impl Record {
    /// Returns the human-readable form of the record.
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
            let what = if f.alternate() { what } else { excerpt(what.as_bytes()).into() };
            writeln!(f, "{seconds:>12.6} {side} {:#}", Printable::line(what.trim_end()))?;
        }
        Ok(())
    }
}

/// The names of the consoles.
#[derive(Debug, Default)]
pub(super) struct Names(pub(super) Vec<String>);

impl Names {
    fn of(&self, channel: Channel) -> Cow<'_, str> {
        let Channel::Console(index) = channel else { return Cow::Borrowed("monitor") };
        self.0.get(index).map_or_else(|| channel.to_string().into(), |name| name.as_str().into())
    }
}

/// Returns the kind and the text of a line. `None` means that only a replay needs it.
pub(super) fn tell(entry: &Entry, names: &Names) -> Option<(char, String)> {
    Some(match entry {
        Entry::Machine(beginning) => ('=', format!("recorded by version {}", beginning.version)),
        Entry::Input(told) => match told.as_input() {
            Some(_) => ('<', describe_input(told, names)?),
            None => tell_request(told, names)?,
        },
        Entry::Output(said) => ('!', tell_said(said)?),
        Entry::Dropped(count) => ('!', format!("{count} lines were dropped")),
    })
}

fn tell_request(told: &record::Input, names: &Names) -> Option<(char, String)> {
    let what = match told {
        record::Input::Sent { to, bytes } => return Some(('>', format!("{}: {}", names.of(*to), lossy(bytes)))),
        record::Input::Launch => "launch".to_string(),
        record::Input::Execute(issued) => {
            // The stored text lacks the id and the closing brace, which are added when the command is sent.
            let end = if issued.kind.line { "" } else { "}" };
            format!("execute {}{end}", lossy(&issued.text))
        }
        record::Input::ConsoleWrite { console, text } => format!("write to {console}: {}", lossy(text)),
        record::Input::Wait { things, .. } => format!("wait for {}", join(things)),
        record::Input::Subscribe { events, .. } => format!("subscribe to {}", join(events)),
        record::Input::Disown(id) => format!("disown command {id}"),
        record::Input::Undo { command, .. } => format!("undo by {}}}", lossy(&command.text)),
        record::Input::DisownWait(id) => format!("disown wait {id}"),
        record::Input::Unsubscribe(id) => format!("end subscription {id}"),
        record::Input::Shutdown(_) => "shut down".to_string(),
        record::Input::Kill => "kill".to_string(),
        record::Input::Disconnect => "disconnect".to_string(),
        record::Input::Detach => "detach".to_string(),
        record::Input::Abandon => "abandon the process".to_string(),
        record::Input::KillOrDisconnect => "kill or disconnect".to_string(),
        // Results that the caller takes were printed when they arrived; the others are inputs of the driver.
        _ => return None,
    };
    Some(('=', what))
}

fn describe_input(told: &record::Input, names: &Names) -> Option<String> {
    Some(match told {
        record::Input::Prepared(_) => "prepared".to_string(),
        record::Input::Spawned(pid) => format!("spawned, process {pid}"),
        record::Input::PrepareFailed(fault)
        | record::Input::SpawnFailed(fault)
        | record::Input::SignalFailed(_, fault)
        | record::Input::RemoveFailed(fault)
        | record::Input::OpenFailed(_, fault) => fault.to_string(),
        record::Input::Exited(status) => format!("exited: {status}"),
        record::Input::Opened(channel) => format!("{} opened", names.of(*channel)),
        record::Input::PeerProcess { pid, .. } => format!("process {pid} is at the other end of the monitor"),
        record::Input::PeerBusy(channel) => format!("{} is in use by another client", names.of(*channel)),
        record::Input::Received { from, bytes } => format!("{}: {}", names.of(*from), lossy(bytes)),
        record::Input::Closed(channel) => format!("{} closed", names.of(*channel)),
        record::Input::Signalled(_) => "the signal was sent".to_string(),
        record::Input::LogRead(tail) if tail.is_empty() => "printed nothing".to_string(),
        record::Input::LogRead(tail) => format!("printed: {}", lossy(tail)),
        record::Input::Companion { index, event } => format!("companion {index}: {}", describe_companion(event)),
        record::Input::Detached => "detached".to_string(),
        record::Input::Removed => "removed".to_string(),
        record::Input::TimePassed => "a deadline passed".to_string(),
        _ => return None,
    })
}

fn describe_companion(event: &CompanionInput) -> String {
    match event {
        CompanionInput::Started { pid } => format!("started, process {pid}"),
        CompanionInput::Probed { is_open: true } => "its socket listens".to_string(),
        CompanionInput::Probed { is_open: false } => "its socket does not listen yet".to_string(),
        CompanionInput::Exited(status) => format!("exited: {status}"),
        CompanionInput::LogRead(log) if log.is_empty() => "printed nothing".to_string(),
        CompanionInput::LogRead(log) => format!("printed: {}", lossy(log)),
        CompanionInput::StartFailed(fault)
        | CompanionInput::ProbeFailed(fault)
        | CompanionInput::NotSignalled(fault) => fault.to_string(),
    }
}

fn tell_said(said: &record::Output) -> Option<String> {
    Some(match said {
        // Only a replay needs it.
        record::Output::Number(_) => return None,
        record::Output::Refused(why) => format!("refused: {why}"),
        record::Output::Effect(what) => format!("effect: {what}"),
        record::Output::Ready => "ready".to_string(),
        record::Output::Gap => "events before this point may have been missed".to_string(),
        record::Output::Answered { id, reply } => format!("command {id}: {}", lossy(reply)),
        record::Output::Failure { id, problem } => format!("command {id} failed: {problem}"),
        record::Output::Found(what) => format!("found {what}"),
        record::Output::Event(event) => format!("event {event}"),
        record::Output::Ended(how) => format!("ended: {how}"),
    })
}

fn join(things: &[crate::Wait]) -> String {
    let words: Vec<_> = things.iter().map(|thing| thing.to_string()).collect();
    words.join(", ")
}
