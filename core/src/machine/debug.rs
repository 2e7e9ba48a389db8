//! Decides how a machine is shown to those who look for a mistake: where it stands, and nothing that was said.

use core::fmt;

use super::Machine;
use crate::session::Counters;

/// Where the machine stands, on one line: its state and its process; what is due next and how soon, as of the latest
/// moment that it was told; what is under way; what came that nobody waited for; how it ended. What was said on its
/// channels, which may be secret, is not in it.
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
        if let Some((until, why)) = self.dues().min_by_key(|(until, _)| *until) {
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
