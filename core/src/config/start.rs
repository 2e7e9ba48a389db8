//! Start of the guest: whether QEMU holds it until the monitor is ready.

use alloc::vec::Vec;

use crate::config::Config;
use crate::transport::Monitor;
use crate::wait::Wait;

/// The options that decide when the guest starts. `-gdb` (`-s` for short) is one of them: QEMU stops the guest when a
/// debugger sends its first byte (measured with QEMU 7.2.22), and such a guest must not be continued. With `-S` the
/// state is `prelaunch` with and without a debugger, so a guest that a debugger has stopped could not be told apart.
const DECIDE: [&[u8]; 5] = [Config::HOLD, b"-incoming", b"-preconfig", b"-gdb", b"-s"];

/// Options of a wrapper that leave the state `prelaunch`, and yet forbid `cont`.
const HIDDEN: [&[u8]; 2] = [Config::HOLD, b"-preconfig"];

/// Returns how many arguments are one of these options. QEMU takes each with one dash or two (QEMU, `system/vl.c`,
/// `lookup_opt`).
fn count(arguments: &[Vec<u8>], options: &[&[u8]]) -> usize {
    let is_option = |argument: &&Vec<u8>| {
        let short = argument.strip_prefix(b"-").filter(|rest| rest.starts_with(b"-"));
        options.contains(&short.unwrap_or(argument))
    };
    arguments.iter().filter(is_option).count()
}

impl Config {
    /// The argument by which QEMU holds the guest.
    pub(crate) const HOLD: &'static [u8] = b"-S";

    /// Lets QEMU start the guest by itself, before the monitor is ready. Default: QEMU is started with `-S`, and the
    /// machine continues the guest when the monitor is ready, before it executes the first command of a caller. So no
    /// event of the guest is lost, and a guest that ends within milliseconds ends the same way each time.
    ///
    /// The caller sees none of that: [`CommandLine`](crate::CommandLine) displays no `-S`, no `RESUME` is delivered, and
    /// the first `query-status` returns `running`. QEMU's Python class starts QEMU without `-S` (QEMU,
    /// `python/qemu/machine/machine.py`, `_base_args`). If QEMU refuses to continue the guest, the launch succeeds
    /// nevertheless, and `query-status` returns `prelaunch`.
    ///
    /// The library adds no `-S`, and does not continue the guest, if the caller's arguments contain `-S`, `-incoming`,
    /// `-preconfig`, `-gdb` or `-s`. Without a monitor it adds no `-S` either.
    ///
    /// If a [wrapper](Self::wrapper) adds `-S` or `-preconfig`, the guest is not continued; if it adds `-incoming`, the
    /// guest is continued after the migration. A wrapper that adds `-gdb` or `-s` is not noticed: give that option as
    /// an argument instead. The library reads the arguments that a wrapper adds from `/proc`. When it cannot read them,
    /// it continues the guest.
    #[must_use]
    pub fn autostart(mut self) -> Self {
        self.autostart = true;
        self
    }

    /// Subscribes to the events that match one of these filters ([`Wait::event`], [`Wait::any_event`]) from the beginning
    /// of the launch, before the guest runs. Each call adds one subscription, in the order in which
    /// [`Machine::take_launch_subscription`](crate::Machine::take_launch_subscription) returns them after the launch.
    ///
    /// Without it, a subscription or a wait from `Mark::default()` finds what happened since the beginning of the run, as
    /// far as the history still has it ([`Limits::events`](crate::Limits::events)).
    #[must_use]
    pub fn subscribe(mut self, filter: impl IntoIterator<Item = Wait>) -> Self {
        self.subscriptions.push(filter.into_iter().collect());
        self
    }

    /// Returns whether QEMU holds the guest until the machine continues it.
    pub(crate) fn holds_guest(&self) -> bool {
        let is_launched = self.peer.is_none() && self.monitor != Monitor::None;
        is_launched && !self.autostart && count(&self.args, &DECIDE) == 0
    }

    /// Returns whether the caller's arguments hold the guest, so that it does not run before the caller continues it. The
    /// state after an `-incoming` or a debugger is not known.
    pub(crate) fn leaves_guest_held(&self) -> bool {
        let is_launched = self.peer.is_none() && self.monitor != Monitor::None;
        is_launched && count(&self.args, &[Self::HOLD]) > 0
    }

    /// Returns whether QEMU starts the guest by itself with this command line, in which no argument decides otherwise.
    pub(crate) fn starts_guest(arguments: &[Vec<u8>]) -> bool {
        count(arguments, &DECIDE) == 0
    }

    /// Returns whether the command line of a QEMU that holds the guest decides when the guest starts, beyond the argument
    /// that the machine adds itself: a wrapper has added more.
    pub(crate) fn is_start_decided_by(&self, executed: &[Vec<u8>]) -> bool {
        count(executed, &HIDDEN) > 1
    }
}
