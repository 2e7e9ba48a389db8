//! Companions of a machine: the orders for them, which the host carries out, and their events, which it reports.
#![deny(clippy::wildcard_enum_match_arm, reason = "an order that is not carried out leaves the machine waiting")]

use std::io;

use qemu_machine_core::{CompanionEffect, CompanionInput, Input, Machine, Moment};

use crate::companion_process::CompanionProcess;
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
        self.companions.get(index).map(CompanionProcess::log).unwrap_or_default()
    }

    /// Applies an effect to a companion. Returns its result, unless that is reported later, or was a signal that was sent.
    pub(crate) fn apply_companion_effect(
        &mut self,
        index: usize,
        effect: CompanionEffect,
        watch: &mut dyn Watch,
    ) -> Option<CompanionInput> {
        let guarded = self.scratch.as_deref().map(ScratchDir::guarded).unwrap_or_default();
        // The machine has as many as were prepared.
        let companion = self.companions.get_mut(index);
        match effect {
            CompanionEffect::Start(spawn) => {
                let missing = || Err(fault("start a companion".into(), &io::ErrorKind::NotFound.into()));
                let started = companion.map_or_else(missing, |companion| companion.start(spawn, &guarded, watch));
                started.err().map(CompanionInput::StartFailed)
            }
            CompanionEffect::Probe => {
                Some(companion.map_or(CompanionInput::Probed { is_open: false }, |companion| companion.probe()))
            }
            CompanionEffect::Signal(signal) => {
                companion.and_then(|companion| companion.signal(signal).err()).map(CompanionInput::NotSignalled)
            }
        }
    }

    /// Reports which companions execute their programs, and which have ended.
    pub(crate) fn reap_companions(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        for index in 0..self.companions.len() {
            while let Some(event) = self.companions[index].next_event(watch) {
                self.keep_guard(index);
                self.report(machine, now, Input::Companion(index, event));
            }
        }
    }

    /// Takes over the guard of a companion that has ended, if no other one removes the files when this program ends: QEMU
    /// was not started.
    fn keep_guard(&mut self, index: usize) {
        let guard = self.companions[index].take_unused_guard();
        let has_files = self.scratch.as_deref().is_some_and(ScratchDir::is_guarded);
        if has_files && self.guard.is_none() {
            self.guard = guard;
        }
    }

    /// Stops reading the logs of companions: the machine no longer waits for them.
    pub(crate) fn abandon_companion_logs(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        for index in 0..self.companions.len() {
            if self.companions[index].abandon_reading(watch) {
                self.report(machine, now, Input::Companion(index, CompanionInput::LogRead(Vec::new())));
            }
        }
    }
}
