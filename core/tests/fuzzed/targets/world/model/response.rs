//! Response of a command, as a model can predict it.

use qemu_machine_core::{CommandError, Payload, Value};

/// The answer of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// The reply with this number, or the refusal with it.
    Reply(u64),
    Refusal(u64),
    /// A reply or refusal that QEMU did not send as the answer of a command.
    Foreign,
    TimedOut,
    Disconnected,
    Broken,
    Misuse,
}

impl Response {
    pub(super) fn of(result: Result<Payload, CommandError>) -> Self {
        match result {
            Ok(payload) => {
                let value: Value = payload.read().unwrap_or_default();
                let value = if value["return"].is_null() { &value } else { &value["return"] };
                match (value["n"].as_u64(), Self::refused(value["error"]["desc"].as_str())) {
                    (Some(number), _) => Self::Reply(number),
                    (None, refused) => refused,
                }
            }
            Err(CommandError::Refused(refusal)) => Self::refused(Some(&refusal.description.to_string())),
            Err(CommandError::TimedOut(..)) => Self::TimedOut,
            Err(CommandError::Disconnected(_)) => Self::Disconnected,
            Err(CommandError::Broken(_)) => Self::Broken,
            Err(CommandError::Misuse(_)) => Self::Misuse,
            Err(error) => panic!("no command here can fail so: {error}"),
        }
    }

    fn refused(description: Option<&str>) -> Self {
        description.and_then(|text| text.parse().ok()).map_or(Self::Foreign, Self::Refusal)
    }
}
