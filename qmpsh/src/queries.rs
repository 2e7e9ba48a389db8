//! Queries of completion: one at a time, so that they do not accumulate at a peer that does not answer.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::spawn;
use std::time::Instant;

use qemu_machine_blocking::{Command, FOREVER, Value, Vm};

/// The queries to one peer, with the receiver of the last reply, if that is outstanding. A query whose caller has stopped
/// waiting is still in the queue of the peer, so no other one is sent before its reply.
#[derive(Debug, Default)]
pub(crate) struct Queries(Mutex<Option<Receiver<Option<Value>>>>);

impl Queries {
    /// Executes a command, and returns its reply. `None` means that it failed, that the reply does not come in time, or
    /// that an earlier one is outstanding.
    pub(crate) fn ask<C>(&self, vm: &Vm, command: C, within: Instant) -> Option<Value>
    where
        C: Command<Reply = Value> + Send + 'static,
    {
        let left = || within.saturating_duration_since(Instant::now());
        let mut outstanding = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = outstanding.take()
            && earlier.recv_timeout(left()) == Err(RecvTimeoutError::Timeout)
        {
            *outstanding = Some(earlier);
            return None;
        }
        let (sender, receiver) = sync_channel(1);
        let vm = vm.clone();
        spawn(move || {
            // Without a deadline: only the reply, or the end of the connection, shows that the peer is done with it. The
            // channel has room, and sending fails when the client is gone.
            let _ = sender.send(vm.execute_by(command, FOREVER).ok());
        });
        let reply = receiver.recv_timeout(left());
        if reply.is_err() {
            *outstanding = Some(receiver);
        }
        reply.ok().flatten()
    }
}
