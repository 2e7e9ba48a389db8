//! Tests of messages and requests that are nested deeply, on a thread whose stack has 512 KiB.

use qemu_machine_core::{Command, CommandError, Empty, Misuse, Payload, Value, Wait, WithRawReply, drop_deep, json};

use crate::rig::{Rig, config};

/// Runs a test on a small stack, as that of a thread of a program that has many.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(test);
    thread.expect("a thread").join().expect("the test succeeds");
}

/// A reply of so many levels, of objects and arrays in turn, as QEMU nests a backing chain.
fn deep(levels: usize) -> String {
    let begin: String = (0..levels).map(|level| if level % 2 == 0 { r#"{"image": "# } else { "[" }).collect();
    let end: String = (0..levels).rev().map(|level| if level % 2 == 0 { "}" } else { "]" }).collect();
    format!("{begin}7{end}")
}

fn levels(mut value: &Value) -> usize {
    let mut levels = 0;
    while let Some(inner) = value.get("image").or_else(|| value.get(0)) {
        (value, levels) = (inner, levels + 1);
    }
    levels
}

fn answer<C: Command>(rig: &mut Rig, command: C, value: &str) -> Result<C::Reply, CommandError> {
    let ticket = rig.issue(command);
    let id = rig.take_ids()[0];
    rig.says(&format!(r#"{{"return": {value}, "id": {id}}}"#));
    rig.vm.claim(&ticket).expect("a reply")
}

#[test]
fn g34_a_reply_of_1024_levels_is_read_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut rig = Rig::ready(config());
        for depth in [1, 127, 128, 1_000, 1_024] {
            let value = answer(&mut rig, "query-block", &deep(depth)).expect("a value");
            assert_eq!(levels(&value), depth);
            drop_deep(value);
            let payload: Payload = answer(&mut rig, WithRawReply("query-block"), &deep(depth)).expect("a payload");
            assert_eq!((payload.as_str(), &*payload.command()), (&*deep(depth), "query-block"));
        }
    });
}

#[test]
fn g34_a_deeper_reply_fails_its_command_alone_and_names_it() {
    on_a_small_stack(|| {
        let mut rig = Rig::ready(config());
        for depth in [1_025, 200_000] {
            let error = answer(&mut rig, "query-block", &deep(depth)).expect_err("too deep");
            let text = error.to_string();
            assert!(text.contains("query-block") && text.contains(&depth.to_string()), "{text}");
            let CommandError::Unexpected { reply, .. } = error else { panic!("{text}") };
            assert_eq!(reply.as_str(), deep(depth));
            // Unparsed it is readable, and the connection is in order.
            assert!(answer(&mut rig, WithRawReply("query-block"), &deep(depth)).is_ok());
            assert_eq!(answer(&mut rig, "query-status", "1").expect("a value"), json!(1));
        }
    });
}

/// A command whose reply has a type of its own.
struct Typed;

impl Command for Typed {
    type Reply = Vec<Empty>;

    fn name(&self) -> &str {
        "query-typed"
    }

    fn arguments(&self) -> Option<impl serde::Serialize> {
        None::<()>
    }
}

#[test]
fn g34_a_type_reads_members_that_it_ignores_at_any_depth_and_127_levels_of_its_own() {
    on_a_small_stack(|| {
        let mut rig = Rig::ready(config());
        let ignored = format!(r#"[{{"other": {}}}]"#, deep(5_000));
        assert_eq!(answer(&mut rig, Typed, &ignored).expect("a list").len(), 1);
        let error = answer(&mut rig, Typed, &deep(5_000)).expect_err("not a list").to_string();
        assert!(error.contains("query-typed") && error.contains("5000"), "{error}");
    });
}

#[test]
fn g34_a_raw_reply_and_an_event_of_any_depth_are_read_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut rig = Rig::ready(config());
        let ticket = rig.issue_raw(r#"{"execute": "query-block"}"#);
        let id = rig.take_ids()[0];
        rig.says(&format!(r#"{{"return": {}, "id": {id}}}"#, deep(1_023)));
        let reply = rig.claim_raw(&ticket).expect("a reply").expect("a value");
        assert_eq!(levels(&reply["return"]), 1_023);
        drop_deep(reply);
        let mark = rig.vm.mark();
        let wait = rig.wait(&mark, [Wait::event("DEEP").with(json!({"id": 1}))]);
        rig.says(&format!(r#"{{"event": "DEEP", "data": {{"deep": {}, "id": 1}}}}"#, deep(5_000)));
        let hit = rig.vm.claim_wait(wait).expect("it is over").expect("an event");
        let event = hit.event().expect("an event");
        let error = event.read_value().expect_err("too deep").to_string();
        assert!(error.contains("5001"), "{error}");
    });
}

#[test]
fn g34_a_request_that_is_too_deep_for_qemu_is_refused_and_not_sent() {
    let mut rig = Rig::ready(config());
    let now = rig.now;
    let nested = |levels: usize| (0..levels).fold(Value::Null, |inner, _| json!([inner]));
    // The command and its arguments are two levels.
    assert!(rig.vm.execute(now, &("a", json!({"b": nested(1_022)})), qemu_machine_core::FOREVER).is_ok());
    rig.take_sent();
    let error = rig.vm.execute(now, &("a", json!({"b": nested(1_023)})), qemu_machine_core::FOREVER).map(drop);
    let Err(Misuse::Arguments { command, problem }) = &error else { panic!("{error:?}") };
    assert!(command == "a" && problem.contains("1025"), "{problem}");
    on_a_small_stack(|| {
        let mut rig = Rig::ready(config());
        let now = rig.now;
        for (levels, is_accepted) in [(1_023, true), (1_024, false), (500_000, false)] {
            let raw =
                [r#"{"execute": "a", "b": "#.to_owned(), "[".repeat(levels), "]".repeat(levels), "}".into()].concat();
            let result = rig.vm.execute_raw(now, raw.as_bytes(), qemu_machine_core::FOREVER).map(drop);
            assert_eq!(result.is_ok(), is_accepted, "{levels}");
        }
    });
    assert_eq!(rig.take_sent(), "");
}
