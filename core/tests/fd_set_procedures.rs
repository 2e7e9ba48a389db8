//! Tests of the procedures that add and remove fd sets, step by step against a scripted QEMU.

use crate::rig::steps::{LONG, begun, on};
use crate::rig::{Rig, secs};
use qemu_machine_core::procedure::{AddFdSet, Created, FdSet, ProcedureError, RemoveFdSet, Run};
use qemu_machine_core::{Channel, CommandError, Descriptor, Liveness, Misuse, Progress};

const SETS: &str = "query-fdsets";
const REMOVE: &str = "remove-fd,arguments:{fdset-id:3}";
const NEXT: &str = "add-fd,arguments:{fdset-id:3,opaque:n}";

/// Begins to add two descriptors, up to the first `add-fd`. Another set has the name.
fn adding() -> (Rig, Run<AddFdSet>) {
    let descriptors = [Descriptor::new(17_u32), Descriptor::new(18_u32)];
    let (mut rig, mut run) = begun(AddFdSet::of("n", descriptors), LONG);
    assert_eq!(rig.asked(), [SETS]);
    rig.returns(1, r#"[{"fdset-id": 2, "fds": [{"fd": 8, "opaque": "n"}]}]"#);
    assert!(on(&mut rig, &mut run).is_none());
    let descriptor = rig.vm.outgoing_descriptor(Channel::Monitor).and_then(|one| one.get::<u32>().copied());
    assert_eq!((descriptor, rig.asked()), (Some(17), vec!["add-fd,arguments:{opaque:n}".to_string()]));
    (rig, run)
}

/// Begins to add two descriptors, up to the second `add-fd`.
fn adding_next() -> (Rig, Run<AddFdSet>) {
    let (mut rig, mut run) = adding();
    rig.returns(2, r#"{"fd": 9, "fdset-id": 3}"#);
    assert!(on(&mut rig, &mut run).is_none());
    let descriptor = rig.vm.outgoing_descriptor(Channel::Monitor).and_then(|one| one.get::<u32>().copied());
    assert_eq!((descriptor, rig.asked()), (Some(18), vec![NEXT.to_string()]));
    (rig, run)
}

fn asks(rig: &mut Rig, run: &mut Run<AddFdSet>, command: &str) {
    assert_eq!((on(rig, run), rig.asked()), (None, vec![command.to_string()]));
}

fn created(end: Option<Result<FdSet, ProcedureError>>) -> Vec<Created> {
    let error = end.expect("it is over").expect_err("it fails");
    error.remains().iter().map(|remnant| remnant.created.clone()).collect()
}

fn timed_out() -> ProcedureError {
    CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into()
}

#[test]
fn each_descriptor_goes_with_a_command_of_its_own() {
    let (mut rig, mut run) = adding_next();
    rig.returns(3, r#"{"fd": 10, "fdset-id": 3}"#);
    let set = on(&mut rig, &mut run).expect("it is over").expect("it is added");
    assert_eq!((set.id, set.path()), (3, "/dev/fdset/3".to_string()));
}

#[test]
fn g40_a_set_that_is_incomplete_is_removed() {
    for is_late in [false, true] {
        for (sets, remains) in [("[]", vec![]), (r#"[{"fdset-id": 3, "fds": [{"fd": 9}]}]"#, vec![Created::FdSet(3)])] {
            let (mut rig, mut run) = adding_next();
            if is_late {
                rig.pass(secs(60))
            } else {
                rig.refuses(3)
            }
            asks(&mut rig, &mut run, REMOVE);
            rig.replies(4);
            asks(&mut rig, &mut run, SETS);
            rig.returns(5, sets);
            assert_eq!(created(on(&mut rig, &mut run)), remains);
        }
    }
    let (mut rig, mut run) = adding_next();
    rig.refuses(3);
    asks(&mut rig, &mut run, REMOVE);
    rig.refuses(4);
    assert_eq!(created(on(&mut rig, &mut run)), [Created::FdSet(3)]);
    // The first one is refused, so there is no set.
    let (mut rig, mut run) = adding();
    rig.refuses(2);
    assert_eq!((created(on(&mut rig, &mut run)), rig.asked().len()), (vec![], 0));
}

#[test]
fn g40_a_set_whose_id_came_too_late_is_found_by_its_name() {
    let older = r#"{"fdset-id": 2, "fds": [{"fd": 8, "opaque": "n"}]}"#;
    let (mut rig, mut run) = adding();
    rig.pass(secs(60));
    asks(&mut rig, &mut run, SETS);
    rig.returns(3, &format!(r#"[{older}, {{"fdset-id": 3, "fds": [{{"fd": 9, "opaque": "n"}}]}}]"#));
    asks(&mut rig, &mut run, REMOVE);
    rig.replies(4);
    asks(&mut rig, &mut run, SETS);
    rig.returns(5, &format!("[{older}]"));
    assert_eq!(on(&mut rig, &mut run), Some(Err(timed_out())));

    let (mut rig, mut run) = adding();
    rig.pass(secs(60));
    asks(&mut rig, &mut run, SETS);
    rig.returns(3, &format!("[{older}]"));
    assert_eq!(on(&mut rig, &mut run), Some(Err(timed_out())), "it was not added");

    let (mut rig, mut run) = adding();
    rig.pass(secs(60));
    asks(&mut rig, &mut run, SETS);
    rig.refuses(3);
    assert_eq!(created(on(&mut rig, &mut run)), [Created::FdSetFor("n".into())]);
}

#[test]
fn g40_a_dropped_run_removes_its_set() {
    for is_added in [true, false] {
        let (mut rig, mut run) = adding();
        run.disown(&mut rig.vm, rig.now);
        if is_added {
            rig.returns(2, r#"{"fd": 9, "fdset-id": 3}"#)
        } else {
            rig.refuses(2)
        }
        assert_eq!(rig.asked(), if is_added { vec![REMOVE.to_string()] } else { vec![] });
    }
    let (mut rig, mut run) = adding_next();
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked(), [REMOVE], "QEMU executes it after the pending command");
}

#[test]
fn a_set_is_removed_and_one_that_qemu_keeps_is_named() {
    let removing = || {
        let (mut rig, run) = begun(RemoveFdSet::of(FdSet::with_id(3)), LONG);
        assert_eq!(rig.asked(), [REMOVE]);
        (rig, run)
    };
    for (sets, is_open) in [("[]", false), (r#"[{"fdset-id": 3, "fds": [{"fd": 9}]}]"#, true)] {
        let (mut rig, mut run) = removing();
        rig.replies(1);
        assert_eq!((on(&mut rig, &mut run), rig.asked()), (None, vec![SETS.to_string()]));
        rig.returns(2, sets);
        let end = on(&mut rig, &mut run).expect("it is over");
        assert_eq!(end.is_err(), is_open);
        let remains = end.as_ref().err().map(ProcedureError::remains).unwrap_or_default();
        assert_eq!(remains.first().map(|one| &one.why), is_open.then_some(&ProcedureError::DescriptorOpen(3)));
    }
    let (mut rig, mut run) = removing();
    rig.refuses(1);
    assert_eq!(on(&mut rig, &mut run).expect("it is over").expect_err("there is none").remains(), []);
    let (mut rig, mut run) = removing();
    rig.pass(secs(60));
    let late = on(&mut rig, &mut run).expect("it is over").expect_err("it is late");
    assert_eq!(late.remains()[0].created, Created::FdSet(3));
}

#[test]
fn a_set_without_a_monitor_is_a_misuse() {
    let mut idle = Rig::new(crate::rig::config());
    let mut run = Run::new(AddFdSet::of("n", []), LONG);
    assert_eq!(on(&mut idle, &mut run), Some(Err(CommandError::Misuse(Misuse::NotLaunched).into())));
}
