//! Runs of a record: of each launch its phases, its end, and the words of QEMU.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::Channel;
use crate::config::Config;
use crate::input::Prepared;
use crate::outcome::Cause;
use crate::record::{self, Entry};
use crate::text::lossy;
use crate::time::Moment;

/// One run: from a launch to its end, or to the end of the record.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordedRun {
    pub(super) launched: Option<Moment>,
    greeted: Option<Moment>,
    ready: Option<Moment>,
    ended: Option<(Moment, String)>,
    exit: Option<String>,
    /// Why the launch failed, as [`LaunchError`](crate::LaunchError) reports it. `None` means that it did not fail, or that
    /// the reason is not known.
    pub(super) failure: Option<String>,
    /// The output of the process, up to [`Limits::log`](crate::Limits::log).
    pub(super) log: String,
    /// The operations of the host that failed.
    pub(super) faults: Vec<String>,
    prepared: Prepared,
    last: Moment,
    /// Whether lines of this run were dropped.
    has_gap: bool,
}

/// How an end is to be displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As the caller or the guest chose.
    Calm,
    /// Anything else: only the caller can judge it.
    Open,
    /// A failure.
    Alarm,
}

impl Tone {
    /// Returns the class of the page.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Open => "open",
            Self::Alarm => "alarm",
        }
    }
}

impl RecordedRun {
    /// Reads a line, which may begin another run. Refused launches are not passed to it.
    pub(super) fn read(runs: &mut Vec<Self>, at: Moment, entry: &Entry) {
        let is_launch = matches!(entry, Entry::Input(record::Input::Launch));
        if runs.last().is_none_or(|run| is_launch && run.launched.is_some() && (run.ended.is_some() || run.has_gap)) {
            runs.push(Self::default());
        }
        if let Some(run) = runs.last_mut() {
            run.line(at, entry);
        }
    }

    fn line(&mut self, at: Moment, entry: &Entry) {
        self.last = at;
        match entry {
            Entry::Input(input) => self.input(at, input),
            Entry::Output(record::Output::Ready) => self.ready = Some(at),
            Entry::Output(record::Output::Ended(how)) => self.ended = Some((at, how.clone())),
            Entry::Dropped(_) => self.has_gap = true,
            Entry::Output(_) | Entry::Machine(_) => {}
        }
    }

    fn input(&mut self, at: Moment, input: &record::Input) {
        match input {
            record::Input::Launch => {
                self.launched.get_or_insert(at);
            }
            record::Input::Prepared(prepared) => self.prepared = prepared.clone(),
            record::Input::Received { from: Channel::Monitor, .. } => {
                self.greeted.get_or_insert(at);
            }
            record::Input::Exited(status) => self.exit = Some(status.to_string()),
            record::Input::LogRead(log) => self.log = lossy(log),
            record::Input::PrepareFailed(fault)
            | record::Input::SpawnFailed(fault)
            | record::Input::OpenFailed(_, fault)
            | record::Input::SignalFailed(_, fault)
            | record::Input::RemoveFailed(fault) => self.faults.push(fault.to_string()),
            _ => {}
        }
    }

    /// Returns the command line to paste into a shell. Empty means that it is not known.
    pub(super) fn command_line(&self, config: &Config) -> String {
        let line = config.command_line_with(&self.prepared);
        if line.arguments().is_empty() { String::new() } else { format!("{line:#}") }
    }

    /// Returns whether the launch failed, so that there is a reason to look for.
    pub(super) fn needs_reason(&self) -> bool {
        self.ready.is_none() && self.ended.is_some()
    }

    /// Returns how the run ended, in a few words.
    pub(super) fn verdict(&self) -> String {
        match (&self.failure, &self.ended, self.ready, self.launched) {
            (Some(failure), ..) => failure.clone(),
            (None, Some((_, how)), ..) => self.cause(how).to_string(),
            (None, None, Some(_), _) => "the machine runs: the record ends before its end".to_string(),
            (None, None, None, Some(_)) => "the launch is not over: the record ends before its end".to_string(),
            (None, None, None, None) => "the machine was not launched".to_string(),
        }
    }

    /// Returns the facts beside the verdict: the cause of a failed launch, the exit status, the unanswered commands.
    pub(super) fn details(&self) -> Vec<String> {
        let how = self.ended.as_ref().map_or("", |(_, how)| how);
        let cause = self.failure.as_ref().map(|_| self.cause(how).to_string()).filter(|cause| !cause.is_empty());
        let exit = self.exit.as_ref().map(|exit| format!("process: {exit}"));
        let unanswered = how.split("; ").find(|part| part.starts_with(UNANSWERED)).map(ToString::to_string);
        cause.into_iter().chain(exit).chain(unanswered).collect()
    }

    pub(super) fn tone(&self) -> Tone {
        let Some((_, how)) = &self.ended else { return Tone::Open };
        let is_failed_exit = self.exit.as_ref().is_some_and(|exit| exit != "exit status 0");
        let cause = self.cause(how);
        match () {
            () if self.failure.is_some() || self.needs_reason() => Tone::Alarm,
            () if is_calm(cause) && !how.contains(UNANSWERED) => {
                if is_failed_exit && !cause.contains("SIG") {
                    Tone::Open
                } else {
                    Tone::Calm
                }
            }
            () if is_open(cause) => Tone::Open,
            () => Tone::Alarm,
        }
    }

    /// Returns the cause in the text of an end (`record::Output::ended`): the part before the exit status and the count.
    fn cause<'a>(&self, how: &'a str) -> &'a str {
        let how = how.find(UNANSWERED).map_or(how, |at| how[..at].trim_end_matches("; "));
        let exit = self.exit.as_ref().and_then(|exit| how.strip_suffix(&**exit));
        exit.map_or(how, |cause| cause.trim_end_matches("; "))
    }

    /// Returns the phases, with their durations. Those that were not reached are left out.
    pub(super) fn phases(&self) -> Vec<(&'static str, &'static str, Duration)> {
        let (end, word) = match &self.ended {
            Some((at, _)) => (*at, "end"),
            None => (self.last, "end of the record"),
        };
        let points = [("launch", self.launched), ("greeting", self.greeted), ("ready", self.ready), (word, Some(end))];
        let reached: Vec<_> = points.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
        let phase = |pair: &[(&'static str, Moment)]| match pair {
            [(from, begin), (to, end)] => Some((*from, *to, end.since(*begin))),
            _ => None,
        };
        reached.windows(2).filter_map(phase).collect()
    }

    /// Returns the duration of the run so far.
    pub(super) fn duration(&self) -> Duration {
        self.launched.map(|from| self.last.since(from)).unwrap_or_default()
    }
}

const UNANSWERED: &str = "commands without a reply: ";

fn is_calm(cause: &str) -> bool {
    cause.starts_with("ended by the caller (")
        || [Cause::PowerOff, Cause::PowerButton, Cause::Disconnected].iter().any(|calm| calm.to_string() == cause)
}

fn is_open(cause: &str) -> bool {
    let open = [Cause::Reset, Cause::QuitByOther, Cause::QuitByUnknown];
    open.iter().any(|open| open.to_string() == cause)
        || ["exited by the guest (", "QEMU shut down ("].iter().any(|begin| cause.starts_with(begin))
}
