//! Text of a machine's outputs in the lines of a record.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::{format, vec};

use crate::command::CommandId;
use crate::effect::{CompanionEffect, Effect};
use crate::error::{CommandError, WaitError};
use crate::fault::Refusal;
use crate::outcome::Outcome;
use crate::payload::Payload;
use crate::record;
use crate::signal::Signal;
use crate::wait::{Found, Hit};

fn describe(effect: &CompanionEffect) -> String {
    match effect {
        CompanionEffect::Start(spawn) => {
            let words = spawn.arguments.iter().map(|argument| crate::text::lossy(argument));
            words.fold("start".to_owned(), |line, word| line + " " + &word)
        }
        CompanionEffect::Probe => "probe whether its socket listens".to_owned(),
        CompanionEffect::Signal(Signal::Terminate) => "send SIGTERM".to_owned(),
        CompanionEffect::Signal(Signal::Kill) => "send SIGKILL".to_owned(),
    }
}

impl record::Output {
    /// Returns the line for an effect that was issued.
    ///
    /// The arguments of a command line are not quoted: a masked secret may not need the quotes that the secret needed,
    /// and the redacted record would not replay.
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
            Effect::Companion(index, order) => format!("companion {index}: {}", describe(order)),
        })
    }

    /// Returns the line for the answer to a command.
    pub(crate) fn answer(id: CommandId, answer: &Result<Payload, CommandError>) -> Self {
        match answer {
            Ok(payload) => Self::Answered { id: id.0, reply: payload.as_bytes().to_vec() },
            // Complete, so that a redaction after a gap finds each secret in it.
            Err(CommandError::Refused(Refusal { command, class, description })) => {
                Self::Failure { id: id.0, problem: format!("`{command:#}` was refused: {class:#}: {description:#}") }
            }
            Err(error) => Self::Failure { id: id.0, problem: error.to_string() },
        }
    }

    /// Returns the line for the outcome, without the command line, which follows from the first line.
    pub(crate) fn ended(outcome: &Outcome) -> Self {
        let exit = outcome.exit.map(|exit| format!("; {exit}")).unwrap_or_default();
        let unanswered = match outcome.unanswered {
            0 => String::new(),
            count => format!("; commands without a reply: {count}"),
        };
        Self::Ended(format!("{}{exit}{unanswered}", outcome.cause))
    }

    /// Returns the line for the result of a wait.
    pub(crate) fn found(over: &Result<Hit, WaitError>) -> Self {
        Self::Found(match over {
            Ok(Hit { index, found, .. }) => match found {
                Found::Event(event) => format!("{index}: {event:#}"),
                Found::Queued(_) => format!("{index}: an event in its queue"),
                // The text is in the lines of the console already, and may be all of its output; so is the line of the log.
                Found::Text(text) | Found::Line { text, .. } => format!("{index}: {} bytes of text", text.len()),
                Found::Log(line) => format!("{index}: a line of {} bytes", line.text.len()),
                Found::Companion(end) => format!("{index}: the end of companion {}", end.name),
                Found::End(outcome) => format!("{index}: {}", outcome.cause),
            },
            Err(WaitError::Ended(outcome)) => format!("the machine ended first: {}", outcome.cause),
            Err(error) => error.to_string(),
        })
    }
}
