//! Companions of a machine: their events, and what follows from them for the machine.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use super::Machine;
use super::outstanding::Completion;
use super::queries::last_words;
use crate::companion::{self, Companion, CompanionFailure, Companions};
use crate::config::Config;
use crate::effect::{CompanionEffect, Effect};
use crate::fault::{FaultKind, HostFault, Misuse};
use crate::input::{CompanionInput, ExitStatus};
use crate::lifecycle::{self, LaunchFailure, ProcessEvent, Shutdown, State};
use crate::notice::Notice;
use crate::outcome::CompanionEnd;
use crate::text::UntrustedText;
use crate::time::Moment;

/// How long the end of a companion waits for the end of its log. Reading takes less than a millisecond, unless the file
/// system does not answer or all processors are busy. The caller waits for the end, so this is short.
const LOG_WITHIN: Duration = Duration::from_secs(2);

/// The companions of the present run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CompanionRun {
    states: Companions,
    members: Vec<CompanionMember>,
    /// Whether QEMU reported its shutdown, and no pause after it, as it does when it is configured to pause at a shutdown
    /// (QEMU, `system/runstate.c`, `main_loop_should_exit`).
    has_shutdown: bool,
    /// Whether the files of the run are to be removed when no log is awaited.
    is_gone: bool,
}

/// State of one companion.
#[derive(Clone, Debug, Default, PartialEq)]
struct CompanionMember {
    /// `None` means that no process of it is alive.
    pid: Option<u32>,
    /// Why it could not be started.
    fault: Option<HostFault>,
    end: Option<CompanionEnd>,
    /// Whether its end is not reported yet: it may have ended because QEMU is ending.
    is_unreported: bool,
    /// Whether a second has passed since it ended, and QEMU was ending then.
    is_overdue: bool,
    /// Until when the end of its log is awaited. `None` means that it is not.
    log_until: Option<Moment>,
    /// Whether the end was announced: waits find it.
    is_announced: bool,
}

impl CompanionRun {
    /// Returns the companions of a run. `None` means that the machine has none.
    pub(super) fn of(config: &Config) -> Option<Box<Self>> {
        let companions = &config.companions;
        let states = Companions::new(companions.iter().map(Companion::policy));
        let members = companions.iter().map(|_| CompanionMember::default()).collect();
        (!companions.is_empty()).then(|| Box::new(Self { states, members, has_shutdown: false, is_gone: false }))
    }

    /// Returns the next deadline. `None` means that nothing is due.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.states.deadline().into_iter().chain(self.members.iter().filter_map(|member| member.log_until)).min()
    }

    /// Stops waiting for the logs whose time is over.
    fn log_time_passed(&mut self, now: Moment) {
        let awaited = self.members.iter_mut().map(|member| &mut member.log_until);
        awaited.filter(|until| until.is_some_and(|until| until <= now)).for_each(|until| *until = None);
    }

    /// Stops waiting for the logs.
    fn abandon_logs(&mut self) {
        self.members.iter_mut().for_each(|member| member.log_until = None);
    }

    /// Returns the index of a companion whose end can be announced, and records that it is.
    fn next_announced(&mut self) -> Option<usize> {
        let is_next = |member: &CompanionMember| {
            member.end.is_some() && !member.is_unreported && member.log_until.is_none() && !member.is_announced
        };
        let index = self.members.iter().position(is_next)?;
        self.members[index].is_announced = true;
        Some(index)
    }

    /// Returns whether the files of the run are to be removed now, once.
    fn take_gone(&mut self) -> bool {
        let is_due = self.is_gone && self.members.iter().all(|member| member.log_until.is_none());
        self.is_gone &= !is_due;
        is_due
    }

    /// Returns the ends of those that were started.
    pub(super) fn ends(&self) -> Vec<CompanionEnd> {
        self.members.iter().filter_map(|member| member.end.clone()).collect()
    }
}

impl CompanionMember {
    /// Returns how it ended. `None` means that it has not, or that this is not announced yet.
    fn announced_end(&self) -> Option<&CompanionEnd> {
        self.end.as_ref().filter(|_| self.is_announced)
    }
}

impl Machine {
    /// Returns the names of the companions, in the order of the configuration.
    pub fn companion_names(&self) -> impl Iterator<Item = &str> {
        self.config.companions.iter().map(|companion| companion.name.as_str())
    }

    /// Returns the id of the process of a companion. `None` means that it is not alive.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownCompanion`].
    pub fn companion_pid(&self, name: &str) -> Result<Option<u32>, Misuse> {
        Ok(self.companion(self.companion_index(name)?).and_then(|companion| companion.pid))
    }

    /// Returns how a companion ended in this run. `None` means that it was not started, or runs, or that it has ended with
    /// status 0 while QEMU was running and may have followed QEMU: that is known when QEMU has ended, or after a second.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownCompanion`].
    pub fn companion_end(&self, name: &str) -> Result<Option<&CompanionEnd>, Misuse> {
        Ok(self.companion(self.companion_index(name)?).and_then(CompanionMember::announced_end))
    }

    pub(super) fn companion_index(&self, name: &str) -> Result<usize, Misuse> {
        let index = self.companion_names().position(|other| other == name);
        index.ok_or_else(|| Misuse::UnknownCompanion(name.into()))
    }

    fn companion(&self, index: usize) -> Option<&CompanionMember> {
        self.companions.as_ref()?.members.get(index)
    }

    fn companion_mut(&mut self, index: usize) -> Option<&mut CompanionMember> {
        self.companions.as_mut()?.members.get_mut(index)
    }

    fn companion_name(&self, index: usize) -> String {
        self.companion_names().nth(index).unwrap_or_default().to_owned()
    }

    /// Completes the waits for companions that have ended.
    pub(super) fn find_ended_companions(&mut self) {
        let Some(companions) = &self.companions else { return };
        for (index, member) in companions.members.iter().enumerate() {
            if let Some(end) = member.announced_end() {
                self.waits.companion_ended(index, end);
            }
        }
    }

    /// Begins to start the companions, or reports that the run is prepared if there is none.
    pub(super) fn start_companions(&mut self) {
        match self.companions {
            Some(_) => {
                let until = self.lifecycle.launch_deadline();
                self.step_companions(companion::Input::Start { until });
            }
            None => self.step_process(ProcessEvent::Prepared),
        }
    }

    /// Removes what was prepared, when all companions are gone.
    pub(super) fn remove_after_companions(&mut self) {
        if self.companions.is_some() {
            self.step_lifecycle(lifecycle::Input::RemovedLater);
            self.report_companions(false);
            self.step_companions(companion::Input::Await);
        } else {
            self.issue_effect(Completion::Remove, Effect::Remove);
        }
    }

    /// Notifies the companions that QEMU has ended, or could not be started.
    pub(super) fn qemu_ended(&mut self) {
        let was_ready = self.lifecycle.is_launched();
        self.report_companions(false);
        self.step_companions(companion::Input::QemuEnded { was_ready });
    }

    /// Notes that QEMU reported its shutdown, or that it paused. If it pauses at its shutdown, it runs on, and the companions
    /// that ended meanwhile are missed.
    pub(super) fn note_shutdown(&mut self, has_shutdown: bool) {
        self.companions.iter_mut().for_each(|companions| companions.has_shutdown = has_shutdown);
        self.miss_overdue();
    }

    /// Acts upon the ends of companions that were not missed because QEMU was ending, if it runs on.
    pub(super) fn miss_overdue(&mut self) {
        if self.is_qemu_ending() {
            return;
        }
        let overdue =
            |(index, member): (usize, &mut CompanionMember)| mem::take(&mut member.is_overdue).then_some(index);
        let members = self.companions.iter_mut().flat_map(|companions| companions.members.iter_mut().enumerate());
        let missed: Vec<_> = members.filter_map(overdue).collect();
        missed.into_iter().for_each(|index| self.missed(index));
    }

    /// Returns whether QEMU has shown that it is about to end, which can take long: it writes its caches to the disks.
    fn is_qemu_ending(&self) -> bool {
        self.lifecycle.is_qemu_ending() || self.companions.as_ref().is_some_and(|companions| companions.has_shutdown)
    }

    /// Reports the ends of companions that are not reported yet.
    fn report_companions(&mut self, is_early: bool) {
        let count = self.companions.as_ref().map_or(0, |companions| companions.members.len());
        (0..count).for_each(|index| self.report_companion(index, is_early));
    }

    /// Reports the end of a companion, unless it is reported.
    fn report_companion(&mut self, index: usize, is_early: bool) {
        let Some(member) = self.companion_mut(index).filter(|member| member.is_unreported) else { return };
        member.is_unreported = false;
        member.end.iter_mut().for_each(|end| end.is_early = is_early);
        self.announce_companions();
    }

    /// Announces the ends that are reported, once their logs are read.
    fn announce_companions(&mut self) {
        while let Some(index) = self.companions.as_mut().and_then(|companions| companions.next_announced()) {
            self.notices.push_back(Notice::CompanionEnded(index));
            self.find_ended_companions();
        }
    }

    pub(super) fn companion_event(&mut self, index: usize, event: CompanionInput) {
        match event {
            CompanionInput::Started { pid } => {
                // One that was left while it was started has its end already.
                let member = self.companion_mut(index).filter(|member| member.end.is_none());
                member.into_iter().for_each(|member| member.pid = Some(pid));
                self.step_companions(companion::Input::Started(index));
            }
            CompanionInput::StartFailed(fault) => {
                if let Some(member) = self.companion_mut(index) {
                    member.fault = Some(fault);
                }
                self.companion_ended(index, None);
                self.step_companions(companion::Input::StartFailed(index));
                self.report_unless_pending(index);
            }
            CompanionInput::Probed { is_open } => self.step_companions(companion::Input::Probed { index, is_open }),
            CompanionInput::ProbeFailed(fault) => {
                if let Some(member) = self.companion_mut(index) {
                    member.fault = Some(fault);
                }
                self.fail_by_companion(index);
            }
            CompanionInput::Exited(status) => {
                self.companion_ended(index, Some(status));
                let until = self.now.after(LOG_WITHIN);
                self.companion_mut(index).into_iter().for_each(|member| member.log_until = Some(until));
                self.step_companions(companion::Input::Exited(index, status));
                self.report_unless_pending(index);
            }
            CompanionInput::LogRead(log) => {
                let log = UntrustedText::from(last_words(&log, self.config.limits.log));
                if let Some(member) = self.companion_mut(index) {
                    member.log_until = None;
                    member.end.iter_mut().for_each(|end| end.log = log.clone());
                }
                self.step_companions(companion::Input::TimePassed);
            }
            CompanionInput::NotSignalled(fault) => self.evidence().faults.push(fault),
        }
    }

    /// Records the end of a companion. Whether it is early is found by the outputs that follow. One that was left and ends
    /// at last has been reported.
    fn companion_ended(&mut self, index: usize, exit: Option<ExitStatus>) {
        let (name, log) = (self.companion_name(index), UntrustedText::default());
        let command_line = self.config.companion_command_line(index, &self.prepared);
        let end = CompanionEnd { name, exit, is_early: false, log, command_line };
        if let Some(member) = self.companion_mut(index) {
            member.is_unreported = member.end.is_none();
            (member.pid, member.end) = (None, Some(end));
        }
    }

    /// Reports the end of a companion as not early, unless whether it was missed decides.
    fn report_unless_pending(&mut self, index: usize) {
        let stage = self.companions.as_ref().and_then(|companions| companions.states.stage(index));
        if stage.is_none_or(|stage| stage.missed_at().is_none()) || self.state() == State::Ending {
            self.report_companion(index, false);
        }
    }

    pub(super) fn step_companions(&mut self, input: companion::Input) {
        let mut outputs = Vec::new();
        let Some(companions) = &mut self.companions else { return };
        companions.log_time_passed(self.now);
        if input == companion::Input::Abandon {
            companions.abandon_logs();
        }
        companions.states.advance(self.now, input, &mut |output| outputs.push(output));
        outputs.into_iter().for_each(|output| self.carry_out_companion(output));
        self.announce_companions();
        if self.companions.as_mut().is_some_and(|companions| companions.take_gone()) {
            self.step_lifecycle(lifecycle::Input::CompanionsGone);
            self.issue_effect(Completion::Remove, Effect::Remove);
        }
    }

    fn carry_out_companion(&mut self, output: companion::Output) {
        match output {
            companion::Output::Start(index) => {
                if let Some(spawn) = self.config.companion_spawn(index, &self.prepared) {
                    let start = Effect::Companion(index, CompanionEffect::Start(spawn));
                    self.issue_effect(Completion::CompanionStart(index), start);
                }
            }
            companion::Output::Probe(index) => {
                self.issue_effect(Completion::CompanionProbe(index), Effect::Companion(index, CompanionEffect::Probe));
            }
            companion::Output::Signal(index, signal) => {
                let effect = CompanionEffect::Signal(signal);
                self.issue_effect(Completion::CompanionSignal(index), Effect::Companion(index, effect));
            }
            companion::Output::Ready if self.lifecycle.is_preparing() => self.step_process(ProcessEvent::Prepared),
            // The caller has ended the machine meanwhile.
            companion::Output::Ready => {}
            companion::Output::Failed(index) => {
                self.report_companion(index, true);
                self.fail_by_companion(index);
            }
            companion::Output::Late(index) => self.fail_by_companion(index),
            companion::Output::Lost(index) => self.lost(index),
            companion::Output::Missed(index) => self.missed(index),
            companion::Output::Left(index) => self.left(index),
            // The files are removed when the logs are read.
            companion::Output::Gone => self.companions.iter_mut().for_each(|companions| companions.is_gone = true),
        }
    }

    /// Fails the launch by a companion that has ended, could not be started, or is late.
    fn fail_by_companion(&mut self, index: usize) {
        let failure = self.failure_of_companion(index);
        self.step_lifecycle(lifecycle::Input::CompanionFailed(failure));
    }

    fn failure_of_companion(&self, index: usize) -> LaunchFailure {
        let name = UntrustedText::from(self.companion_name(index));
        let member = self.companion(index);
        let exit = member.and_then(|member| member.end.as_ref()).and_then(|end| end.exit);
        let failure = match (member.and_then(|member| member.fault.clone()), exit) {
            (Some(fault), _) => CompanionFailure::Host(fault),
            (None, Some(status)) => CompanionFailure::Exited(status),
            (None, None) => CompanionFailure::NotReady,
        };
        LaunchFailure::Companion { name, failure }
    }

    /// Acts upon the end of a companion while QEMU runs. Most exit with status 0 when QEMU closes its connection, so only
    /// time tells whether one that does is missed; any other status shows that it failed.
    fn lost(&mut self, index: usize) {
        let exit = self.companion(index).and_then(|member| member.end.as_ref()).and_then(|end| end.exit);
        let may_follow_qemu = matches!(exit, Some(ExitStatus::Code(0) | ExitStatus::Unknown));
        match self.state() {
            State::Launching(_) => {
                self.report_companion(index, true);
                if may_follow_qemu {
                    let failure = self.failure_of_companion(index);
                    self.step_lifecycle(lifecycle::Input::CompanionEnded(failure));
                } else {
                    self.fail_by_companion(index);
                }
            }
            State::Running if !may_follow_qemu => self.report_companion(index, true),
            // A companion that ends while the machine is being ended was not missed.
            State::Idle | State::Running | State::Ending | State::Ended => {}
        }
    }

    /// Acts upon the end of a companion that QEMU has outlived by a second.
    fn missed(&mut self, index: usize) {
        if self.state() == State::Ending {
            return;
        }
        if self.is_qemu_ending() {
            self.companion_mut(index).into_iter().for_each(|member| member.is_overdue = true);
            return;
        }
        self.report_companion(index, true);
        if matches!(self.state(), State::Launching(_)) {
            return self.fail_by_companion(index);
        }
        if self.config.companions.get(index).is_some_and(|companion| companion.is_required) {
            let name = self.companion_name(index);
            self.evidence().missed_companion.get_or_insert(name);
            self.step_lifecycle(lifecycle::Input::Shutdown(Shutdown::default()));
        }
    }

    fn left(&mut self, index: usize) {
        let name = self.companion_name(index);
        let pid = self.companion(index).and_then(|member| member.pid);
        let which = pid.map_or_else(|| "which is being started".to_owned(), |pid| format!("process {pid}"));
        self.companion_ended(index, None);
        self.report_companion(index, false);
        self.evidence().faults.push(HostFault {
            operation: format!("end the companion {name}").into(),
            kind: FaultKind::Busy,
            errno: None,
            reason: format!("it survived SIGKILL: {which}").into(),
        });
    }
}
