//! Simulated host that completes effects.

use qemu_machine_core::{Effect, FaultKind, HostFault, Inherited, Input, Prepared};

pub(super) fn fault() -> HostFault {
    HostFault { operation: "oblige".into(), kind: FaultKind::Refused, errno: Some(111), reason: "no".into() }
}

/// Returns the completion of an effect: with success, or with a fault.
#[deny(clippy::wildcard_enum_match_arm, reason = "a driver that misses an effect must not compile")]
pub(super) fn answer(order: &Effect, well: bool) -> Input<'static> {
    let result = if well { Ok(()) } else { Err(fault()) };
    match order {
        Effect::Prepare(wanted) if well => {
            let channels = wanted.channels.iter().map(|(channel, _)| Inherited::Channel(*channel));
            Input::Prepared(Prepared {
                descriptors: channels.zip(3..).collect(),
                nonce: 77 << 16,
                ..Prepared::default()
            })
        }
        Effect::Prepare(_) => Input::PrepareFailed(fault()),
        Effect::Spawn(_) if well => Input::Spawned { pid: 7 },
        Effect::Spawn(_) => Input::SpawnFailed(fault()),
        Effect::Open(channel) if well => Input::Opened(*channel),
        Effect::Open(channel) => Input::OpenFailed(*channel, fault()),
        Effect::Close(channel) => Input::Closed(*channel),
        Effect::Signal(signal) => Input::Signalled(*signal, result),
        Effect::ReadLog { .. } => Input::LogRead(b"last words"),
        Effect::Remove => Input::Removed(result),
        Effect::Detach => Input::Detached,
    }
}
