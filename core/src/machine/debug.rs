//! Debug output of a machine: its state, and no bytes of its channels, which may be secret.

use core::fmt;

use super::Machine;
use crate::session::Counters;

/// Writes one line: the state and the process; the next deadline and how far it is away, as of the latest moment that
/// the driver passed; the commands and waits in progress; the messages that no caller waited for; the cause of the end.
/// Bytes of the channels are left out, since they may be secret.
///
/// ```
/// use qemu_machine_core::{Config, Machine, Moment};
///
/// let mut machine = Machine::new(Config::new("qemu-system-x86_64"))?;
/// machine.launch(Moment::ORIGIN)?;
/// assert_eq!(
///     format!("{machine:?}"),
///     "Machine { state: Launching(Starting), due: Launch(Starting) in 30s, in_flight: 0, queued: 0, waits: 0 }"
/// );
/// # Ok::<(), qemu_machine_core::Misuse>(())
/// ```
impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Machine");
        shown.field("state", &self.state());
        if let Some(pid) = self.pid() {
            shown.field("pid", &pid);
        }
        if let Some((until, why)) = self.due() {
            shown.field("due", &format_args!("{why:?} in {:?}", until.since(self.now)));
        }
        shown.field("in_flight", &self.session.in_flight());
        shown.field("queued", &(self.session.commands() - self.session.in_flight()));
        shown.field("waits", &self.waits.pending());
        let Counters { late, unmatched, malformed, too_large, stale, nameless } = self.session.counters();
        let counters = [
            ("late", late),
            ("unmatched", unmatched),
            ("malformed", malformed),
            ("too_large", too_large),
            ("stale", stale),
            ("nameless", nameless),
        ];
        for (name, count) in counters.iter().filter(|(_, count)| *count > 0) {
            shown.field(name, count);
        }
        if let Some(outcome) = &self.outcome {
            shown.field("cause", &outcome.cause);
        }
        shown.finish()
    }
}
