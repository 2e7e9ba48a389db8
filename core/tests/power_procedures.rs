//! Tests of the procedures about the power of the guest and about its state, step by step against a scripted QEMU.

use core::fmt::Debug;

use crate::rig::steps::{LONG, begun, on};
use crate::rig::{Rig, config, secs};
use qemu_machine_core::procedure::{
    self, DiskFailure, Procedure, ProcedureError, Reboot, RebootEnd, Resync, Run, Suspend, SuspendEnd, Wake, WakeEnd,
};
use qemu_machine_core::{Cause, CommandError, Event, ExitStatus, Gap, Limits, Mark, Missed, Misuse, WaitError, json};

/// Runs a step that sends one command.
fn asks<P: Procedure>(rig: &mut Rig, run: &mut Run<P>, command: &str)
where
    P::Return: PartialEq + Debug,
{
    assert_eq!((on(rig, run), rig.asked()), (None, vec![command.to_string()]));
}

/// Runs a step that sends no command.
fn waits<P: Procedure>(rig: &mut Rig, run: &mut Run<P>)
where
    P::Return: PartialEq + Debug,
{
    assert_eq!((on(rig, run), rig.take_sent()), (None, String::new()));
}

fn reset(rig: &mut Rig, is_by_guest: bool) {
    rig.happens_with("RESET", &format!(r#"{{"guest": {is_by_guest}, "reason": "x"}}"#));
}

/// The guest was asked, and has ten seconds.
fn asked() -> (Rig, Run<Reboot>) {
    begun(Reboot::asked(&Mark::default()).reset_after(secs(10)), LONG)
}

#[test]
fn a_guest_reboots_by_itself_or_is_reset() {
    let (mut rig, mut run) = asked();
    reset(&mut rig, true);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::ByGuest)));

    let (mut rig, mut run) = asked();
    rig.pass(secs(9));
    waits(&mut rig, &mut run);
    rig.pass(secs(1));
    asks(&mut rig, &mut run, "system_reset");
    rig.replies(1);
    waits(&mut rig, &mut run);
    reset(&mut rig, false);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::Forced)));
}

#[test]
fn a_reset_between_the_request_and_the_procedure_is_found() {
    let mut rig = Rig::ready(config());
    reset(&mut rig, true);
    let before = rig.vm.mark();
    let mut run = Run::new(Reboot::asked(&Mark::default()), LONG);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::ByGuest)));
    let mut run = Run::new(Reboot::asked(&before), LONG);
    waits(&mut rig, &mut run);
}

/// With `-no-reboot`, a reset ends QEMU, that of the guest as well as a forced one.
#[test]
fn a_reboot_may_end_qemu() {
    for is_forced in [false, true] {
        let (mut rig, mut run) = asked();
        if is_forced {
            rig.pass(secs(10));
            asks(&mut rig, &mut run, "system_reset");
            rig.replies(1);
        }
        rig.shuts_down("guest-reset");
        waits(&mut rig, &mut run);
        rig.dies(ExitStatus::Code(0));
        let Some(Ok(RebootEnd::Ended(outcome))) = on(&mut rig, &mut run) else { panic!("it has ended") };
        assert_eq!(outcome.cause, Cause::Reset);
    }
    // QEMU ends before it replies.
    let (mut rig, mut run) = asked();
    rig.pass(secs(10));
    asks(&mut rig, &mut run, "system_reset");
    rig.dies(ExitStatus::Code(1));
    let Some(Ok(RebootEnd::Ended(outcome))) = on(&mut rig, &mut run) else { panic!("it has ended") };
    assert_eq!(outcome.cause, Cause::Exit(1));
}

/// With `-no-shutdown`, QEMU stops a guest that powers off.
#[test]
fn a_guest_that_powered_off_is_reset_and_continued() {
    let (mut rig, mut run) = begun(Reboot::by_button(), LONG);
    assert_eq!(rig.asked(), ["system_powerdown"]);
    rig.replies(1);
    waits(&mut rig, &mut run);
    rig.shuts_down("guest-shutdown");
    waits(&mut rig, &mut run);
    rig.happens("STOP");
    asks(&mut rig, &mut run, "system_reset");
    rig.replies(2);
    waits(&mut rig, &mut run);
    reset(&mut rig, false);
    asks(&mut rig, &mut run, "cont");
    rig.replies(3);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::AfterPowerOff)));
}

/// With `-no-shutdown` and `-no-reboot`, QEMU neither ends nor resets.
#[test]
fn a_guest_that_stays_stopped_is_reported() {
    let (mut rig, mut run) = asked();
    rig.shuts_down("guest-reset");
    rig.happens("STOP");
    asks(&mut rig, &mut run, "system_reset");
    rig.replies(1);
    rig.shuts_down("host-qmp-system-reset");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::Stopped)));

    let (mut rig, mut run) = asked();
    rig.pass(secs(10));
    asks(&mut rig, &mut run, "system_reset");
    rig.replies(1);
    rig.shuts_down("host-qmp-system-reset");
    waits(&mut rig, &mut run);
    rig.happens("STOP");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::Stopped)));
}

#[test]
fn a_reboot_ends_at_its_deadline() {
    let (mut rig, mut run) = begun(Reboot::asked(&Mark::default()).reset_after(secs(61)), LONG);
    rig.pass(secs(60));
    assert_eq!(on(&mut rig, &mut run), Some(Err(WaitError::TimedOut.into())));
    let (mut rig, mut run) = begun(Reboot::by_button(), LONG);
    rig.refuses(1);
    let refused = on(&mut rig, &mut run).expect("it is over");
    assert!(matches!(refused, Err(ProcedureError::Command(CommandError::Refused(_)))), "{refused:?}");
}

/// Returns a machine that has evicted all events but the last.
fn forgetful() -> Rig {
    let mut limits = Limits::default();
    limits.events = 2 * Event::OVERHEAD;
    Rig::ready(config().limits(limits))
}

fn floods(rig: &mut Rig) {
    (0..9).for_each(|_| rig.happens("OTHER"));
}

#[test]
fn after_missed_events_a_suspension_is_queried() {
    let mut rig = forgetful();
    rig.happens("SUSPEND");
    floods(&mut rig);
    let mut run = Run::new(Suspend::asked(&Mark::default()), LONG);
    asks(&mut rig, &mut run, "query-status");
    rig.returns(1, r#"{"running": false, "status": "suspended"}"#);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(SuspendEnd::Suspended)));
    // It is not suspended yet.
    let mut run = Run::new(Suspend::asked(&Mark::default()), LONG);
    asks(&mut rig, &mut run, "query-status");
    rig.returns(2, r#"{"running": true, "status": "running"}"#);
    waits(&mut rig, &mut run);
    rig.happens("SUSPEND");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(SuspendEnd::Suspended)));
}

#[test]
fn after_missed_events_a_reboot_is_waited_for_again() {
    let mut rig = forgetful();
    floods(&mut rig);
    let mut run = Run::new(Reboot::asked(&Mark::default()).reset_after(secs(10)), LONG);
    waits(&mut rig, &mut run);
    reset(&mut rig, true);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::ByGuest)));
}

#[test]
fn a_suspension_may_end_qemu() {
    let (mut rig, mut run) = begun(Suspend::asked(&Mark::default()), LONG);
    rig.shuts_down("guest-shutdown");
    rig.dies(ExitStatus::Code(0));
    let Some(Ok(SuspendEnd::Ended(outcome))) = on(&mut rig, &mut run) else { panic!("it has ended") };
    assert_eq!(outcome.cause, Cause::PowerOff);
}

#[test]
fn a_guest_is_woken_up_or_is_awake() {
    let (mut rig, mut run) = begun(Wake::new(), LONG);
    assert_eq!(rig.asked(), ["system_wakeup"]);
    rig.replies(1);
    waits(&mut rig, &mut run);
    rig.happens("WAKEUP");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(WakeEnd::Woken)));

    for (status, is_awake) in [("running", true), ("paused", false)] {
        let (mut rig, mut run) = begun(Wake::new(), LONG);
        rig.take_sent();
        rig.refuses(1);
        asks(&mut rig, &mut run, "query-status");
        rig.returns(2, &format!(r#"{{"running": {is_awake}, "status": "{status}"}}"#));
        let end = on(&mut rig, &mut run).expect("it is over");
        match end {
            Err(ProcedureError::Command(CommandError::Refused(refusal))) if !is_awake => {
                assert_eq!(&*refusal.command, "system_wakeup");
            }
            end => assert_eq!((end, is_awake), (Ok(WakeEnd::Awake), true)),
        }
    }
    let (mut rig, mut run) = begun(Wake::new(), LONG);
    rig.take_sent();
    rig.replies(1);
    waits(&mut rig, &mut run);
    rig.dies(ExitStatus::Code(0));
    let ended = on(&mut rig, &mut run).expect("it is over");
    assert!(matches!(ended, Err(ProcedureError::Wait(WaitError::Ended(_)))), "{ended:?}");
}

const BLOCKS: &str = r#"[
    {"device": "a", "io-status": "ok", "type": "unknown", "locked": false, "removable": false},
    {"device": "", "qdev": "disk", "io-status": "nospace", "inserted": {"node-name": "n"}},
    {"device": "b", "io-status": "failed"},
    {"device": "c", "io-status": "melted", "qdev": 7},
    {"device": "cd"}, 7, null
]"#;

#[test]
fn the_situation_is_queried_after_a_gap() {
    let (mut rig, mut run) = begun(Gap::before_this_session().resync(), LONG);
    assert_eq!(rig.asked(), ["query-status"]);
    rig.happens("STOP");
    rig.returns(1, r#"{"running": false, "status": "io-error"}"#);
    asks(&mut rig, &mut run, "query-jobs");
    rig.lists(2, "running", None);
    asks(&mut rig, &mut run, "query-migrate");
    rig.returns(3, r#"{"status": "failed", "error-desc": "it broke"}"#);
    asks(&mut rig, &mut run, "query-block");
    rig.returns(4, &BLOCKS.replace('\n', ""));
    let found = on(&mut rig, &mut run).expect("it is over").expect("it is known");
    assert_eq!(found.status.map(|status| status.status).as_deref(), Some("io-error"));
    assert_eq!(found.jobs.expect("known").iter().map(|job| &*job.id).collect::<Vec<_>>(), ["i", "j"]);
    let migration = found.migration.expect("there was one");
    assert_eq!((&*migration.status, migration.error), ("failed", Some("it broke".into())));
    let disks: Vec<_> = found.failing_disks.iter().map(ToString::to_string).collect();
    assert_eq!(disks, ["disk disk: no space left", "disk b: an operation failed", "disk c: melted"]);
    assert_eq!(found.failing_disks[0].node.as_deref(), Some("n"));
    assert_eq!(found.failing_disks[0].failure, DiskFailure::NoSpace);
    assert_eq!(found.unknown, []);
    // What has changed since then is found from the mark.
    let mut run = Run::new(Reboot::asked(&found.mark), LONG);
    reset(&mut rig, true);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(RebootEnd::ByGuest)));
}

/// `qemu-storage-daemon` has no guest, and an older QEMU fewer commands.
#[test]
fn what_qemu_refuses_is_unknown() {
    let (mut rig, mut run) = begun(Missed::default().resync(), LONG);
    rig.take_sent();
    rig.refuses(1);
    asks(&mut rig, &mut run, "query-jobs");
    rig.returns(2, "7");
    asks(&mut rig, &mut run, "query-migrate");
    rig.returns(3, "{}");
    asks(&mut rig, &mut run, "query-block");
    rig.refuses(4);
    let found = on(&mut rig, &mut run).expect("it is over").expect("it does not fail");
    assert_eq!((found.status, found.jobs, found.migration, found.failing_disks), (None, None, None, vec![]));
    let kinds: Vec<_> = found.unknown.iter().map(|error| matches!(error, CommandError::Refused(_))).collect();
    assert_eq!(kinds, [true, false, true], "{:?}", found.unknown);
}

#[test]
fn a_resync_fails_with_the_connection_and_at_its_deadline() {
    let (mut rig, mut run) = begun(Resync::new(), LONG);
    rig.pass(secs(60));
    let late = on(&mut rig, &mut run).expect("it is over");
    assert!(matches!(late, Err(ProcedureError::Command(CommandError::TimedOut(..)))), "{late:?}");
    let (mut rig, mut run) = begun(Resync::new(), LONG);
    rig.dies(ExitStatus::Code(0));
    let lost = on(&mut rig, &mut run).expect("it is over");
    assert!(matches!(lost, Err(ProcedureError::Command(CommandError::Disconnected(_)))), "{lost:?}");
}

/// QEMU nests the images of a chain deeper than a type is read.
#[test]
fn a_deep_chain_of_images_is_read() {
    let (mut rig, mut run) = begun(Resync::new(), LONG);
    rig.take_sent();
    (1..4).for_each(|id| {
        rig.returns(id, "{}");
        assert_eq!(on(&mut rig, &mut run), None);
    });
    let deep = (0..400).fold(json!({}), |image, _| json!({"backing-image": image}));
    rig.returns(4, &json!([{"device": "d", "io-status": "failed", "inserted": {"image": deep}}]).to_string());
    let found = on(&mut rig, &mut run).expect("it is over").expect("it is known");
    assert_eq!(found.failing_disks.len(), 1);
}

#[test]
fn a_procedure_runs_once() {
    fn again<P: Procedure>(mut procedure: P) {
        drop(procedure.step(procedure::Input::Begun(Mark::default())));
        let second = procedure.step(procedure::Input::Begun(Mark::default()));
        assert!(matches!(second, procedure::Output::Execute(Err(Misuse::ProcedureReused))));
    }
    again(Resync::new());
    again(Reboot::by_button());
    again(Reboot::asked(&Mark::default()));
    again(Suspend::asked(&Mark::default()));
    again(Wake::new());
}
