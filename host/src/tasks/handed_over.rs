//! State of a run that was handed over to the supervisor.

use std::sync::Arc;

use crate::ending::Ending;
use crate::supervisor::Supervisor;

/// A run that the supervisor drives to its end.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) ending: Ending,
    supervisor: Arc<Supervisor>,
    token: u64,
}

impl HandedOver {
    pub(super) fn new(ending: Ending, supervisor: Arc<Supervisor>, token: u64) -> Self {
        Self { ending, supervisor, token }
    }

    /// Makes the supervisor look at the run soon, since a caller has made a request.
    pub(super) fn look(&self) {
        self.supervisor.look(self.token);
    }
}
