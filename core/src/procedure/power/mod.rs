//! Procedures about the power of the guest: reboot, suspension, and the request to its agent.

mod ask;
mod reboot;
mod suspend;
mod wake;

pub use ask::{AskGuest, AskGuestEnd};
pub use reboot::{Reboot, RebootEnd};
pub use suspend::{Suspend, SuspendEnd};
pub use wake::{Wake, WakeEnd};
