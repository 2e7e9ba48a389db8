//! Files of a machine, as its host creates, reads and removes them: on threads, since each operation may block.

use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use qemu_machine_core::{FaultKind, HostFault, Input, Machine, Moment, Preparation, Prepared, RunningProcess};

use crate::background::{Background, Cancelled, Progress};
use crate::companion_process::CompanionProcess;
use crate::fault::fault;
use crate::file_operation::{self, FileOperation};
use crate::host::Host;
use crate::lock::lock;
use crate::log_reader::LogReader;
use crate::prepare::{Preparations, may_block, prepare};
use crate::scratch_dir::{Leftovers, ScratchDir};
use crate::sys::{Earlier, Os, System};
use crate::watch::Watch;

impl Host {
    /// Returns a reader of what the process prints. It stays valid after the end of the process. Reading may block, so
    /// read without holding a lock.
    #[must_use]
    pub fn log(&self) -> LogReader {
        match &self.log_pipe {
            Some(pipe) => LogReader::of(&pipe.printed),
            None => self.scratch.as_deref().map(ScratchDir::log_reader).unwrap_or_default(),
        }
    }

    /// Prepares a run, and returns the result unless it comes later.
    pub(crate) fn begin_to_prepare(
        &mut self,
        wanted: Preparation,
        watch: &mut dyn Watch,
    ) -> Result<Option<Prepared>, HostFault> {
        // The log of the run before is no longer read. Closing it may block.
        let previous = (self.scratch.take(), mem::take(&mut self.companions));
        self.readers.iter_mut().for_each(|readers| readers.begin_run());
        self.log_pipe = None;
        if !may_block(&wanted) {
            return prepare(&wanted).map(|preparations| Some(self.take_over(preparations)));
        }
        let prepare = move |cancelled: &Cancelled<'_>| {
            drop(previous);
            match prepare(&wanted) {
                Ok(preparations) if cancelled.get() => file_operation::Prepared::Undone(preparations.undo()),
                Ok(preparations) => file_operation::Prepared::Ready(Box::new(preparations)),
                Err(fault) => file_operation::Prepared::Failed(fault),
            }
        };
        let begun = Background::begin(watch, prepare).map_err(|error| fault("prepare the machine".into(), &error));
        self.files = Some(Box::new(FileOperation::Prepare(begun?)));
        Ok(None)
    }

    /// Takes over what was prepared.
    fn take_over(&mut self, preparations: Preparations) -> Prepared {
        let Preparations { mut scratch, parts, nonce, trusts_peer } = preparations;
        // Before it takes over those of a resumed machine.
        let monitor_sockets = scratch.monitor_sockets();
        scratch.take_over();
        scratch.unbounded().into_iter().for_each(|fault| self.trace.fault(fault));
        let prepared = Prepared {
            directory: scratch.directory(),
            signaller: Some(std::process::id()),
            log: scratch.log_path(),
            descriptors: parts.inherited.iter().map(|(what, _)| *what).zip(3..).collect(),
            nonce,
            monitor: parts.monitor,
            process: None,
            companions: parts.companions.iter().enumerate().filter_map(path_of_companion).collect(),
            monitor_sockets,
        };
        self.companions = parts.companions;
        self.scratch = scratch.is_used().then(|| Box::new(scratch));
        self.trusts_peer = trusts_peer;
        self.monitor_inode = parts.monitor_inode;
        self.local = parts.local;
        self.inherited = parts.inherited.into_iter().map(|(_, inherited)| inherited).collect();
        self.services = parts.services;
        self.log_pipe = parts.log_pipe.map(Box::new);
        prepared
    }

    /// Reads the end of the log, and returns it unless it comes later. A log that cannot be read counts as empty: the
    /// outcome does not depend on it.
    pub(crate) fn begin_to_read_log(&mut self, limit: usize, watch: &mut dyn Watch) -> Option<Vec<u8>> {
        let log = self.log();
        if !log.may_block() {
            return Some(self.known(log.read(limit)));
        }
        let reader = log.clone();
        match Background::begin(watch, move |_| reader.read(limit)) {
            Ok(reading) => {
                self.files = Some(Box::new(FileOperation::ReadLog(reading)));
                None
            }
            // At the limit of descriptors or threads, the log is read here: it explains what has happened.
            Err(_) => Some(self.known(log.read(limit))),
        }
    }

    fn known(&self, log: Result<Vec<u8>, HostFault>) -> Vec<u8> {
        log.inspect_err(|fault| self.trace.fault(fault)).unwrap_or_default()
    }

    /// Removes what was prepared, and returns whether that is complete.
    pub(crate) fn begin_to_remove(
        &mut self,
        machine: &mut Machine,
        now: Moment,
        watch: &mut dyn Watch,
    ) -> Result<bool, HostFault> {
        self.abandon_companion_logs(machine, now, watch);
        self.local.clear();
        self.inherited.clear();
        self.services.clear();
        self.log_pipe.iter_mut().for_each(|pipe| drop(pipe.inherited.take()));
        match self.files.take().map(|files| *files) {
            // It removes what it creates, which completes the removal.
            Some(FileOperation::Prepare(preparation)) => {
                preparation.cancel();
                self.files = Some(Box::new(FileOperation::UndoPreparation(preparation)));
                return Ok(false);
            }
            // The machine no longer waits for its log.
            Some(FileOperation::ReadLog(reading)) => {
                watch.unwatch_completion(reading.descriptor());
                self.report(machine, now, Input::LogRead(&[]));
            }
            // A machine removes once, and only after its preparation.
            Some(FileOperation::UndoPreparation(_) | FileOperation::Remove(_)) | None => {}
        }
        let Some(leftovers) = self.scratch.as_deref_mut().and_then(ScratchDir::take_leftovers) else {
            self.guard = None;
            return Ok(true);
        };
        let leftovers = Arc::new(Mutex::new(Some(leftovers)));
        let remove = |leftovers: &Mutex<Option<Leftovers>>| {
            let leftovers = lock(leftovers).take();
            leftovers.map_or(Ok(()), Leftovers::remove)
        };
        let shared = Arc::clone(&leftovers);
        match Background::begin(watch, move |_| remove(&shared)) {
            Ok(removal) => {
                self.files = Some(Box::new(FileOperation::Remove(removal)));
                Ok(false)
            }
            // At the limit of descriptors or threads, the files are removed here: they must not stay.
            Err(_) => {
                let removed = remove(&leftovers);
                self.guard = None;
                removed.map(|()| true)
            }
        }
    }

    /// Reports the result of the file operation, if it is over.
    pub(crate) fn finish_files(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        let Some(files) = self.files.as_deref() else { return };
        let descriptor = Arc::clone(files.descriptor());
        match files {
            FileOperation::Prepare(preparation) => {
                let Some(prepared) = result(preparation) else { return };
                self.over(&descriptor, watch);
                let input = match prepared {
                    Ok(file_operation::Prepared::Ready(preparations)) => {
                        return self.finish_preparation(*preparations, machine, now, watch);
                    }
                    Ok(file_operation::Prepared::Failed(fault)) | Err(fault) => Input::PrepareFailed(fault),
                    Ok(file_operation::Prepared::Undone(_)) => Input::PrepareFailed(cancelled()),
                };
                self.report(machine, now, input);
            }
            FileOperation::UndoPreparation(preparation) => {
                let Some(prepared) = result(preparation) else { return };
                self.over(&descriptor, watch);
                let (fault, removed) = match prepared {
                    // It was complete before it noticed that it was cancelled.
                    Ok(file_operation::Prepared::Ready(preparations)) => {
                        let Preparations { scratch, .. } = *preparations;
                        self.scratch = Some(Box::new(scratch));
                        (cancelled(), self.begin_to_remove(machine, now, watch))
                    }
                    Ok(file_operation::Prepared::Undone(removed)) => (cancelled(), removed.map(|()| true)),
                    Ok(file_operation::Prepared::Failed(fault)) | Err(fault) => (fault, Ok(true)),
                };
                self.report(machine, now, Input::PrepareFailed(fault));
                match removed {
                    Ok(true) => self.report(machine, now, Input::Removed(Ok(()))),
                    Ok(false) => {}
                    Err(fault) => self.report(machine, now, Input::Removed(Err(fault))),
                }
            }
            FileOperation::ReadLog(reading) => {
                let Some(log) = result(reading) else { return };
                self.over(&descriptor, watch);
                let log = self.known(log.and_then(|log| log));
                self.report(machine, now, Input::LogRead(&log));
            }
            FileOperation::Remove(removal) => {
                let Some(removed) = result(removal) else { return };
                self.over(&descriptor, watch);
                self.guard = None;
                self.report(machine, now, Input::Removed(removed.and_then(|removed| removed)));
            }
        }
    }

    /// Takes over what was prepared, and the process that an earlier program started, and reports both.
    fn finish_preparation(
        &mut self,
        mut preparations: Preparations,
        machine: &mut Machine,
        now: Moment,
        watch: &mut dyn Watch,
    ) {
        let earlier = preparations.parts.earlier.take();
        let pid = earlier.as_ref().map(|(pid, _)| *pid);
        let (running, ended) = match earlier {
            Some((_, Earlier::Running(child))) => (Some(child), None),
            Some((_, Earlier::Ended(status))) => (None, Some(status)),
            None => (None, None),
        };
        if let Some(child) = running {
            if let Err(error) = watch.watch_completion(child.descriptor()) {
                let fault = fault(format!("watch process {}", child.pid()), &error);
                // Files that an earlier program created stay.
                return self.report(machine, now, Input::PrepareFailed(undone(preparations, fault)));
            }
            (self.child, self.outlives, self.is_owner) = (Some(child), true, false);
        }
        let mut prepared = self.take_over(preparations);
        // The id of a process that has ended may be that of another one.
        let arguments = pid.filter(|_| ended.is_none()).map(Os::arguments).unwrap_or_default();
        prepared.process = pid.map(|pid| Box::new(RunningProcess { pid, arguments }));
        self.report(machine, now, Input::Prepared(prepared));
        ended.into_iter().for_each(|status| self.report(machine, now, Input::Exited(status)));
    }

    fn over(&mut self, descriptor: &Arc<OwnedFd>, watch: &mut dyn Watch) {
        self.files = None;
        watch.unwatch_completion(descriptor);
    }
}

/// Returns the result of an operation. `None` means that it is in progress.
fn result<T: Send>(operation: &Background<T>) -> Option<Result<T, HostFault>> {
    match operation.progress() {
        Progress::Pending => None,
        Progress::Done(result) => Some(Ok(result)),
        Progress::Lost => Some(Err(HostFault {
            operation: "complete a file operation".into(),
            kind: FaultKind::Other,
            errno: None,
            reason: "it panicked".into(),
        })),
    }
}

/// Undoes a preparation after this fault.
fn undone(preparations: Preparations, fault: HostFault) -> HostFault {
    let left = preparations.undo().err();
    left.map_or(fault.clone(), |left| HostFault {
        reason: format!("{}; and {left}", fault.reason.as_str()).into(),
        ..fault
    })
}

fn path_of_companion((index, companion): (usize, &CompanionProcess)) -> Option<(usize, Vec<u8>)> {
    companion.socket_path().map(|path| (index, path))
}

fn cancelled() -> HostFault {
    HostFault {
        operation: "prepare the machine".into(),
        kind: FaultKind::Gone,
        errno: None,
        reason: "the run has ended before".into(),
    }
}
