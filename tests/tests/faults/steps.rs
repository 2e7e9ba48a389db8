//! Tests of signals to a real QEMU at each phase of a launch: the event loop stops at the phase.

use std::path::Path;

use qemu_machine_blocking::{Cause, LaunchError, LaunchFailure, Shutdown, State};
use qemu_machine_core::Phase;
use qemu_machine_mio::{EventLoop, Vm};
use qemu_machine_tests::leak_check::{leaving_nothing, send, stop};

use crate::config;
use crate::signals::{FATAL, SHORT, assert_ended_by};

/// The phases in which QEMU runs. QEMU may be further than the core knows.
const STEPS: [Phase; 2] = [Phase::Greeting, Phase::Negotiating];

/// Launches up to a phase, and returns the process id. A quick QEMU completes the last phase in the same turn.
fn launch_until(step: Phase, scratch: &Path) -> (EventLoop, [Vm; 1], u32) {
    let mut event_loop = EventLoop::new().unwrap();
    let (registry, tokens) = event_loop.parts();
    let mut vms = [Vm::launch(config(scratch).launch_within(3 * SHORT), registry, tokens).unwrap()];
    let at_the_step = |vms: &mut [Vm]| match vms[0].machine().state() {
        State::Launching(phase) if phase != step => None,
        State::Launching(_) => vms[0].machine().pid(),
        State::Running if step == Phase::Negotiating => vms[0].machine().pid(),
        other => panic!("past {step:?}: {other:?}"),
    };
    let pid = event_loop.run(&mut vms, at_the_step).unwrap();
    (event_loop, vms, pid)
}

#[test]
fn g04_a_signal_at_each_step_of_a_launch_is_its_cause() {
    for (step, (signal, number)) in STEPS.into_iter().flat_map(|step| FATAL.map(|signal| (step, signal))) {
        leaving_nothing(move |scratch| {
            let (mut event_loop, mut vms, pid) = launch_until(step, scratch);
            send(pid, signal);
            let outcome = event_loop.run(&mut vms, |vms| vms[0].outcome().cloned()).unwrap();
            assert_eq!(outcome.cause, Cause::Signal { number: Some(number), sender: None }, "{outcome}");
            assert_ended_by(&outcome, number);
            // Bytes that QEMU sent before the signal may complete the launch, and are read before the exit or after it.
            match vms[0].launched() {
                Some(Ok(())) => {}
                Some(Err(LaunchError::Failed { failure: LaunchFailure::Exited(phase), .. })) => {
                    let is_behind = matches!(phase, Phase::Negotiating | Phase::Querying | Phase::Running);
                    assert!(phase == step || is_behind, "{phase:?} after {step:?}");
                }
                other => panic!("{other:?}"),
            }
        });
    }
}

#[test]
fn g01_a_process_that_is_stopped_at_each_step_of_a_launch_is_ended() {
    for step in STEPS {
        leaving_nothing(move |scratch| {
            let (mut event_loop, mut vms, pid) = launch_until(step, scratch);
            stop(pid);
            if let Err(error) = event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap() {
                let LaunchError::Failed { failure: LaunchFailure::TimedOut(_), outcome } = error else {
                    panic!("{error}")
                };
                return assert_ended_by(&outcome, 9);
            }
            // QEMU had sent everything before it stopped.
            vms[0].shutdown(Shutdown::within(SHORT)).unwrap();
            assert_ended_by(&event_loop.run(&mut vms, |vms| vms[0].outcome().cloned()).unwrap(), 9);
        });
    }
}
