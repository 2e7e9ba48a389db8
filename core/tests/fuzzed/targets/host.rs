//! Simulated host that completes effects.

use qemu_machine_core::{Effect, HostFault, Inherited, Input, Prepared};

/// Returns the completion of an effect with this result.
#[deny(clippy::wildcard_enum_match_arm, reason = "a driver that misses an effect must not compile")]
pub(super) fn completion(effect: &Effect, result: Result<(), HostFault>) -> Input<'static> {
    match (effect, result) {
        (Effect::Prepare(wanted), Ok(())) => {
            let channels = wanted.channels.iter().map(|(channel, _)| Inherited::Channel(*channel));
            Input::Prepared(Prepared {
                descriptors: channels.zip(3..).collect(),
                nonce: 77 << 16,
                ..Prepared::default()
            })
        }
        (Effect::Prepare(_), Err(fault)) => Input::PrepareFailed(fault),
        (Effect::Spawn(_), Ok(())) => Input::Spawned { pid: 7 },
        (Effect::Spawn(_), Err(fault)) => Input::SpawnFailed(fault),
        (Effect::Open(channel), Ok(())) => Input::Opened(*channel),
        (Effect::Open(channel), Err(fault)) => Input::OpenFailed(*channel, fault),
        (Effect::Close(channel), _) => Input::Closed(*channel),
        (Effect::Signal(signal), result) => Input::Signalled(*signal, result),
        (Effect::ReadLog { .. }, _) => Input::LogRead(b"last words"),
        (Effect::Remove, result) => Input::Removed(result),
        (Effect::Detach, _) => Input::Detached,
        (Effect::Companion(..), _) => unreachable!("these machines have no companions"),
    }
}
