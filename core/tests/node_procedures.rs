//! Tests of the procedures that open and close a node on a descriptor, step by step against a scripted QEMU.

use core::fmt::Debug;

use crate::rig::Rig;
use crate::rig::steps::{LONG, begun, on};
use crate::rig::{config, secs};
use qemu_machine_core::procedure::{
    CLEAN_UP_WITHIN, CloseNode, Created, OpenNode, OpenedNode, Procedure, ProcedureError, Run,
};
use qemu_machine_core::{Channel, CommandError, Descriptor, Liveness, Progress, json};

const ADD_NODE: &str = "blockdev-add,arguments:{driver:file,filename:/dev/fdset/3,node-name:n}";
const REMOVE_NODE: &str = "blockdev-del,arguments:{node-name:n}";
const REMOVE_FD: &str = "remove-fd,arguments:{fdset-id:3}";
const NODES: &str = "query-named-block-nodes,arguments:{flat:true}";
const SETS: &str = "query-fdsets";

fn open() -> OpenNode {
    OpenNode::new("n", Descriptor::new(17_u32), |path| json!({"driver": "file", "filename": path}))
}

/// Runs a step that sends one command.
fn asks<P: Procedure>(rig: &mut Rig, run: &mut Run<P>, command: &str)
where
    P::Return: PartialEq + Debug,
{
    assert_eq!((on(rig, run), rig.asked()), (None, vec![command.to_string()]));
}

/// Begins to open a node, up to `add-fd`. Another fd set has its name.
fn adding_fd() -> (Rig, Run<OpenNode>) {
    let (mut rig, mut run) = begun(open(), LONG);
    assert_eq!(rig.asked(), [SETS]);
    rig.returns(1, r#"[{"fdset-id": 2, "fds": [{"fd": 8, "opaque": "n"}]}]"#);
    assert!(on(&mut rig, &mut run).is_none());
    assert!(rig.vm.outgoing_descriptor(Channel::Monitor).is_some());
    assert_eq!(rig.asked(), ["add-fd,arguments:{opaque:n}"]);
    (rig, run)
}

/// Begins to open a node, up to `blockdev-add`.
fn adding() -> (Rig, Run<OpenNode>) {
    let (mut rig, mut run) = adding_fd();
    rig.returns(2, r#"{"fd": 9, "fdset-id": 3}"#);
    asks(&mut rig, &mut run, ADD_NODE);
    (rig, run)
}

fn opened() -> OpenedNode {
    let (mut rig, mut run) = adding();
    rig.replies(3);
    on(&mut rig, &mut run).expect("it is over").expect("it is opened")
}

fn timed_out() -> ProcedureError {
    CommandError::TimedOut(Progress::Sent, Liveness::Unknown).into()
}

/// Returns the error, and the things that remain.
fn split<T: Debug>(end: Option<Result<T, ProcedureError>>) -> (ProcedureError, Vec<Created>) {
    let error = end.expect("it is over").expect_err("it fails");
    let created = error.remains().iter().map(|remnant| remnant.created.clone()).collect();
    match error {
        ProcedureError::Remains { error, .. } => (*error, created),
        error => (error, created),
    }
}

#[test]
fn a_node_is_opened_and_closed() {
    let node = opened();
    assert_eq!((&*node.node, node.fd_set), ("n", 3));
    let (mut rig, mut run) = begun(CloseNode::new(&node), LONG);
    assert_eq!(rig.asked(), [REMOVE_NODE]);
    rig.replies(1);
    asks(&mut rig, &mut run, REMOVE_FD);
    rig.replies(2);
    asks(&mut rig, &mut run, SETS);
    rig.returns(3, r#"[{"fdset-id": 4, "fds": [{"fd": 1}]}]"#);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(())));
}

#[test]
fn g40_a_node_that_is_not_opened_leaves_no_fd_set() {
    for (sets, remains) in [
        ("[]", vec![]),
        (r#"[{"fdset-id": 3, "fds": []}]"#, vec![]),
        (r#"[{"fdset-id": 3, "fds": [{"fd": 9}]}]"#, vec![Created::FdSet(3)]),
    ] {
        let (mut rig, mut run) = adding();
        rig.refuses(3);
        asks(&mut rig, &mut run, REMOVE_FD);
        rig.replies(4);
        asks(&mut rig, &mut run, SETS);
        rig.returns(5, sets);
        let (error, created) = split(on(&mut rig, &mut run));
        assert!(matches!(error, ProcedureError::Command(CommandError::Refused(_))), "{error}");
        assert_eq!(created, remains, "{sets}");
    }
    // QEMU refuses the descriptor.
    let (mut rig, mut run) = adding_fd();
    rig.refuses(2);
    assert_eq!((split(on(&mut rig, &mut run)).1, rig.asked().len()), (vec![], 0));
}

#[test]
fn g40_an_fd_set_that_cannot_be_removed_is_named() {
    for is_answered in [false, true] {
        let (mut rig, mut run) = adding();
        rig.refuses(3);
        asks(&mut rig, &mut run, REMOVE_FD);
        if is_answered {
            rig.refuses(4);
        } else {
            rig.pass(secs(60));
        }
        let end = on(&mut rig, &mut run);
        assert!(end.as_ref().is_some_and(|end| matches!(end, Err(error) if error.to_string().contains("fd set 3"))));
        assert_eq!(split(end).1, [Created::FdSet(3)]);
    }
    // Whether QEMU has the descriptor is not known, nor under which id.
    let (mut rig, mut run) = adding_fd();
    rig.pass(secs(60));
    asks(&mut rig, &mut run, SETS);
    rig.refuses(3);
    assert_eq!(split(on(&mut rig, &mut run)), (timed_out(), vec![Created::FdSetFor("n".into())]));
}

/// The deadline passes before the reply to `blockdev-add`, so the node may exist, or one of another client.
#[test]
fn g40_a_node_that_was_opened_too_late_is_removed() {
    for (nodes, is_ours) in [
        (r#"[{"node-name": "m", "file": "/dev/fdset/3"}, {"node-name": "n", "file": "/dev/fdset/3"}]"#, true),
        (r#"[{"node-name": "n", "file": "json:{\"filename\": \"/dev/fdset/3\"}"}]"#, true),
        (r#"[{"node-name": "n", "file": "/dev/fdset/33"}]"#, false),
        (r#"[{"node-name": "m", "file": "/dev/fdset/3"}, {"file": "/dev/fdset/3"}]"#, false),
    ] {
        for is_removed in [false, true] {
            let (mut rig, mut run) = adding();
            rig.pass(secs(60));
            asks(&mut rig, &mut run, NODES);
            rig.returns(4, nodes);
            let mut next = 5;
            if is_ours {
                asks(&mut rig, &mut run, REMOVE_NODE);
                if is_removed {
                    rig.replies(next)
                } else {
                    rig.refuses(next)
                }
                next += 1;
            }
            asks(&mut rig, &mut run, REMOVE_FD);
            rig.replies(next);
            asks(&mut rig, &mut run, SETS);
            rig.returns(next + 1, "[]");
            let kept = if is_ours && !is_removed { vec![Created::Node("n".into())] } else { vec![] };
            assert_eq!(split(on(&mut rig, &mut run)), (timed_out(), kept), "{nodes}");
        }
    }
    // QEMU does not answer at all.
    let (mut rig, mut run) = adding();
    rig.pass(secs(60));
    asks(&mut rig, &mut run, NODES);
    rig.pass_exactly(CLEAN_UP_WITHIN);
    let mut end = on(&mut rig, &mut run);
    while end.is_none() && run.awaits().is_some() {
        rig.pass(secs(0));
        end = on(&mut rig, &mut run);
    }
    assert_eq!(split(end), (timed_out(), vec![Created::Node("n".into()), Created::FdSet(3)]));
}

#[test]
fn g40_a_dropped_run_removes_its_node_and_its_fd_set() {
    // Before the reply of `add-fd`, with which QEMU chooses the id.
    for reply in [Some(r#"{"fd": 9, "fdset-id": 3}"#), Some("{}"), None] {
        let (mut rig, mut run) = adding_fd();
        run.disown(&mut rig.vm, rig.now);
        match reply {
            Some(reply) => rig.returns(2, reply),
            None => rig.refuses(2),
        }
        let removes = reply.is_some_and(|reply| reply.contains('3'));
        assert_eq!(rig.asked(), if removes { vec![REMOVE_FD.to_string()] } else { vec![] });
    }
    for is_added in [true, false] {
        let (mut rig, mut run) = adding();
        run.disown(&mut rig.vm, rig.now);
        rig.serve();
        assert_eq!(rig.asked(), [REMOVE_FD], "QEMU executes it after the pending command");
        if is_added {
            rig.replies(3)
        } else {
            rig.refuses(3)
        }
        rig.replies(4);
        assert_eq!(rig.asked(), if is_added { vec![REMOVE_NODE.to_string()] } else { vec![] });
    }
    // While it cleans up.
    let (mut rig, mut run) = adding();
    rig.refuses(3);
    asks(&mut rig, &mut run, REMOVE_FD);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_eq!(rig.asked(), [REMOVE_FD]);

    for is_removed in [true, false] {
        let mut rig = Rig::ready(config());
        let mut run = Run::new(CloseNode::new(&opened()), LONG);
        asks(&mut rig, &mut run, REMOVE_NODE);
        run.disown(&mut rig.vm, rig.now);
        if is_removed {
            rig.replies(1)
        } else {
            rig.refuses(1)
        }
        assert_eq!(rig.asked(), if is_removed { vec![REMOVE_FD.to_string()] } else { vec![] });
    }
}

#[test]
fn g40_a_node_that_is_not_closed_says_what_remains() {
    let (mut rig, mut run) = begun(CloseNode::new(&opened()), LONG);
    rig.asked();
    rig.refuses(1);
    assert_eq!((split(on(&mut rig, &mut run)).1, rig.asked().len()), (vec![], 0), "it is as before");

    let (mut rig, mut run) = begun(CloseNode::new(&opened()), LONG);
    rig.asked();
    rig.replies(1);
    asks(&mut rig, &mut run, REMOVE_FD);
    rig.refuses(2);
    assert_eq!(split(on(&mut rig, &mut run)).1, [Created::FdSet(3)]);

    let (mut rig, mut run) = begun(CloseNode::new(&opened()), LONG);
    rig.asked();
    rig.replies(1);
    asks(&mut rig, &mut run, REMOVE_FD);
    rig.replies(2);
    asks(&mut rig, &mut run, SETS);
    rig.returns(3, r#"[{"fdset-id": 3, "fds": [{"fd": 9}]}]"#);
    assert_eq!(split(on(&mut rig, &mut run)), (ProcedureError::DescriptorOpen(3), vec![Created::FdSet(3)]));
}

/// The deadline passes before the reply to `add-fd`. An older fd set may have the same name.
#[test]
fn g40_a_descriptor_that_was_added_too_late_is_removed() {
    const OLDER: &str = r#"{"fdset-id": 2, "fds": [{"fd": 8, "opaque": "n"}]}"#;
    for (sets, is_added) in [
        (format!(r#"[{OLDER}, {{"fdset-id": 3, "fds": [{{"fd": 9, "opaque": "n"}}]}}]"#), true),
        (format!(r#"[{OLDER}, {{"fdset-id": 3, "fds": [{{"fd": 9, "opaque": "m"}}, {{"fd": 10}}]}}]"#), false),
    ] {
        let (mut rig, mut run) = adding_fd();
        rig.pass(secs(60));
        asks(&mut rig, &mut run, SETS);
        rig.returns(3, &sets);
        if is_added {
            asks(&mut rig, &mut run, REMOVE_FD);
            rig.replies(4);
            asks(&mut rig, &mut run, SETS);
            rig.returns(5, "[]");
        }
        assert_eq!(split(on(&mut rig, &mut run)), (timed_out(), vec![]));
        assert_eq!(rig.asked().len(), 0);
    }
}
