//! Text of what a machine puts out, as the lines of a record have it.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::{format, vec};

use crate::command::CommandId;
use crate::effect::Effect;
use crate::error::{CommandError, WaitError};
use crate::outcome::Outcome;
use crate::payload::Payload;
use crate::record;
use crate::signal::Signal;
use crate::wait::{Found, Hit};

impl record::Output {
    /// The effect that was issued.
    ///
    /// The arguments of a command line stand there without quotes: hiding a secret must not change where they are needed.
    pub(crate) fn effect(effect: &Effect) -> Self {
        Self::Effect(match effect {
            Effect::Prepare(_) => "prepare".to_owned(),
            Effect::Spawn(spawn) => {
                let mut words = vec!["spawn".to_owned()];
                words.extend(spawn.arguments.iter().map(|argument| crate::text::lossy(argument)));
                words.join(" ")
            }
            Effect::Open(channel) => format!("open {channel}"),
            Effect::Close(channel) => format!("close {channel}"),
            Effect::Signal(Signal::Terminate) => "send SIGTERM".to_owned(),
            Effect::Signal(Signal::Kill) => "send SIGKILL".to_owned(),
            Effect::ReadLog { limit } => format!("read the last {limit} bytes of the log"),
            Effect::Detach => "detach".to_owned(),
            Effect::Remove => "remove".to_owned(),
        })
    }

    /// How a command was answered.
    pub(crate) fn answer(id: CommandId, answer: &Result<Payload, CommandError>) -> Self {
        match answer {
            Ok(payload) => Self::Answered { id: id.0, reply: payload.as_bytes().to_vec() },
            Err(error) => Self::Failure { id: id.0, problem: error.to_string() },
        }
    }

    /// How the run ended, without the command line, which is in the first line.
    pub(crate) fn ended(outcome: &Outcome) -> Self {
        let exit = outcome.exit.map(|exit| format!("; {exit}")).unwrap_or_default();
        let unanswered = match outcome.unanswered {
            0 => String::new(),
            count => format!("; commands without a reply: {count}"),
        };
        Self::Ended(format!("{}{exit}{unanswered}", outcome.cause))
    }

    /// What a wait came to.
    pub(crate) fn found(over: &Result<Hit, WaitError>) -> Self {
        Self::Found(match over {
            Ok(Hit { index, found, .. }) => match found {
                Found::Event(event) => format!("{index}: {event}"),
                Found::Queued(_) => format!("{index}: an event in its queue"),
                // What it is follows from what the console printed, and may be all of that.
                Found::Text(text) => format!("{index}: {} bytes of text", text.len()),
                Found::End(outcome) => format!("{index}: {}", outcome.cause),
            },
            Err(WaitError::Ended(outcome)) => format!("the machine ended first: {}", outcome.cause),
            Err(error) => error.to_string(),
        })
    }
}
