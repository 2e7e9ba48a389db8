//! Implementations of `Arbitrary` for plain data whose members are bounded or hidden.
//!
//! Other types derive it at their definition.

use core::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::config::Limits;
use crate::fault::HostFault;
use crate::lifecycle::Shutdown;
use crate::time::{Deadline, FOREVER};

/// Returns a duration of at most ten minutes, in whole milliseconds. Much longer ones would pass no other deadline.
fn duration(data: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(Duration::from_millis(data.int_in_range(0..=600_000)?))
}

/// Any operation, kind, error number and message.
impl<'a> Arbitrary<'a> for HostFault {
    fn arbitrary(data: &mut Unstructured<'a>) -> Result<Self> {
        let (operation, reason): (&str, &str) = data.arbitrary()?;
        let (kind, errno) = data.arbitrary()?;
        Ok(Self { operation: operation.into(), kind, errno, reason: reason.into() })
    }
}

/// [`FOREVER`], or at most ten minutes.
impl<'a> Arbitrary<'a> for Deadline {
    fn arbitrary(data: &mut Unstructured<'a>) -> Result<Self> {
        Ok(if data.ratio(1, 4)? { FOREVER } else { Self::after(duration(data)?) })
    }
}

/// Each step of the policy with at most ten minutes.
impl<'a> Arbitrary<'a> for Shutdown {
    fn arbitrary(data: &mut Unstructured<'a>) -> Result<Self> {
        let policy = Self::within(duration(data)?).power_down(duration(data)?).power_down_again(duration(data)?);
        Ok(policy.quit(duration(data)?).terminate(duration(data)?))
    }
}

/// Each limit between zero and its default. Most are small, so that a short input exceeds them.
impl<'a> Arbitrary<'a> for Limits {
    fn arbitrary(data: &mut Unstructured<'a>) -> Result<Self> {
        let mut limit = |default: usize| match data.ratio(1, 4)? {
            true => data.int_in_range(0..=default),
            false => data.int_in_range(0..=default.min(1_000)),
        };
        let Self { message, events, subscription, subscriptions, console, console_input, .. } = Self::default();
        let Self { commands, waits, last_words, log, .. } = Self::default();
        Ok(Self {
            message: limit(message)?,
            events: limit(events)?,
            subscription: limit(subscription)?,
            subscriptions: limit(subscriptions)?,
            console: limit(console)?,
            console_input: limit(console_input)?,
            commands: limit(commands)?,
            waits: limit(waits)?,
            last_words: limit(last_words)?,
            log: limit(log)?,
            ..Self::default()
        })
    }
}
