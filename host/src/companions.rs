//! Companions of a machine, as its host starts, signals and reaps them beside QEMU.
#![deny(clippy::wildcard_enum_match_arm, reason = "an order that is not carried out leaves the machine waiting")]

use std::io;

use qemu_machine_core::{CompanionEvent, CompanionOrder, Input, Machine, Moment};

use crate::fault::fault;
use crate::host::Host;
use crate::log_reader::LogReader;
use crate::scratch_dir::ScratchDir;
use crate::watch::Watch;

impl Host {
    /// Returns a reader of what a companion prints, by its index. It stays valid after the end of the companion, and is
    /// empty if there is none.
    #[must_use]
    pub fn companion_log(&self, index: usize) -> LogReader {
        self.companions.get(index).map(|companion| companion.log_reader()).unwrap_or_default()
    }

    /// Carries out an order for a companion. Returns its result, unless that is reported later, or was a signal that was
    /// sent.
    pub(crate) fn order_companion(
        &mut self,
        index: usize,
        order: CompanionOrder,
        watch: &mut impl Watch,
    ) -> Option<CompanionEvent> {
        let guarded = self.scratch.as_deref().map(ScratchDir::guarded).unwrap_or_default();
        // The machine has as many as were prepared.
        let companion = self.companions.get_mut(index);
        match order {
            CompanionOrder::Start(spawn) => {
                let missing = || Err(fault("start a companion".into(), &io::ErrorKind::NotFound.into()));
                let started = companion.map_or_else(missing, |companion| companion.start(spawn, &guarded, watch));
                started.err().map(CompanionEvent::StartFailed)
            }
            CompanionOrder::Look => {
                Some(CompanionEvent::Looked { is_open: companion.is_some_and(|companion| companion.is_open()) })
            }
            CompanionOrder::Signal(signal) => {
                companion.and_then(|companion| companion.signal(signal).err()).map(CompanionEvent::NotSignalled)
            }
        }
    }

    /// Reports which companions execute their programs, and which have ended.
    pub(crate) fn reap_companions(&mut self, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        for index in 0..self.companions.len() {
            while let Some(event) = self.companions[index].next_event(watch) {
                self.report(machine, now, Input::Companion(index, event));
            }
        }
    }
}
