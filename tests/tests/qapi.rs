//! Tests of the types of `qapi-qmp` as commands and events; values that they do not know break nothing.

use std::path::Path;
use std::process::Command;

use qemu_machine_blocking::commands::QuerySchema;
use qemu_machine_blocking::qapi::{Qapi, qmp};
use qemu_machine_blocking::{CommandError, Config, Found, Mark, OutOfBand, Schema, Shutdown, Vm, Wait, json};
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::scripted::Script;
use qemu_machine_tests::{PATIENCE, bounded, qemu};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-qemu");

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

fn null(node: &str) -> qmp::blockdev_add {
    let options = qmp::BlockdevOptionsNull { size: Some(1 << 20), latency_ns: None, read_zeroes: None };
    qmp::blockdev_add(qmp::BlockdevOptions::null_co {
        base: qmp::BlockdevOptionsBase {
            node_name: Some(node.into()),
            discard: None,
            cache: None,
            read_only: None,
            auto_read_only: None,
            force_share: None,
            detect_zeroes: None,
        },
        null_co: options,
    })
}

#[test]
fn commands_are_answered_in_the_types_of_the_schema() {
    bounded(|| {
        let vm = Vm::launch(config()).expect("QEMU starts");
        let status = vm.execute(Qapi(qmp::query_status {})).expect("the monitor answers");
        assert_eq!((status.running, status.status), (false, qmp::RunState::prelaunch));
        let version = vm.execute(Qapi(&qmp::query_version {})).expect("a reference is a command as well");
        assert_eq!(Some(version.qemu.major), vm.greeting().map(|greeting| i64::from(greeting.version.qemu.major)));
        vm.execute(OutOfBand(Qapi(qmp::query_yank {}))).expect("query-yank may be executed out of band");

        let properties = vm.execute(Qapi(qmp::qom_list { path: "/chardevs".into() })).expect("it is there");
        assert!(properties.iter().any(|property| property.name == "type"), "{properties:?}");
        vm.execute(Qapi(null("disk"))).expect("the arguments are serialized as the schema has them");
        let nodes = vm.execute(("query-named-block-nodes", json!({"flat": true}))).expect("a list");
        assert_eq!((&nodes[0]["node-name"], &nodes[0]["image"]["virtual-size"]), (&"disk".into(), &(1 << 20).into()));

        let refused = vm.execute(Qapi(qmp::device_del { id: "nobody".into() })).expect_err("there is no such device");
        assert!(matches!(&refused, CommandError::Refused(refusal) if refusal.class == "DeviceNotFound"), "{refused}");
        vm.kill().expect("the machine was launched");
    });
}

#[test]
fn the_schema_checks_qapi_commands() {
    bounded(|| {
        let vm = Vm::launch(config()).expect("QEMU starts");
        let schema: Schema = vm.execute(QuerySchema).expect("QEMU returns its schema");
        schema.check(&Qapi(null("disk"))).expect("this QEMU has null-co");
        assert_eq!(
            schema.has("query-stats-schemas"),
            schema.check(&Qapi(qmp::query_stats_schemas { provider: None })).is_ok()
        );
        // The command is newer than QEMU 7.2, and older than the types.
        let newer = schema.check(&Qapi(qmp::request_ebpf { id: qmp::EbpfProgramID::rss }));
        assert_eq!(schema.has("request-ebpf"), newer.is_ok());
        vm.kill().expect("the machine was launched");
    });
}

#[test]
fn known_events_are_parsed() {
    bounded(|| {
        let vm = Vm::launch(config()).expect("QEMU starts");
        let before = vm.mark();
        vm.execute(Qapi(qmp::cont {})).expect("QEMU goes on");
        let hit = vm.wait_any(&before, [Wait::event("RESUME")], PATIENCE).expect("the event comes");
        let Found::Event(event) = hit.found else { panic!("{hit:?}") };
        assert!(matches!(Qapi::event(&event), Ok(qmp::Event::RESUME { .. })), "{event}");
        let outcome = vm.shutdown(Shutdown::default()).expect("the machine was launched");
        let last = outcome.last_events.first().map(Qapi::event).expect("the outcome has a last event");
        let Ok(qmp::Event::SHUTDOWN { data, .. }) = &last else { panic!("{last:?}") };
        assert_eq!((data.guest, data.reason), (false, qmp::ShutdownCause::host_qmp_quit));
    });
}

#[test]
fn an_unknown_enum_value_fails_one_command() {
    bounded(|| {
        const DREAMING: &str = r#"{"running":true,"status":"dreaming"}"#;
        const RUNNING: &str = r#"{"running":true,"status":"running","news":[1]}"#;
        let script = Script::launched().hear().event("NOVELTY").reply(DREAMING).hear().reply(RUNNING).obey();
        let vm = Vm::launch(script.config(SCRIPTED)).expect("the script starts");
        let error = vm.execute(Qapi(qmp::query_status {})).expect_err("the value is unknown");
        let CommandError::Unexpected { reason, reply } = &error else { panic!("{error}") };
        assert!(reason.contains("unknown variant `dreaming`"), "{reason}");
        assert_eq!(reply.as_str(), DREAMING);
        let status = vm.execute(Qapi(qmp::query_status {})).expect("the connection stays usable");
        assert_eq!(status.status, qmp::RunState::running);
        let events = vm.events_from(&Mark::default(), [Wait::any_event()]).expect("the filter names events").queued();
        let unknown = Qapi::event(&events[0]).expect_err("the event is unknown");
        assert_eq!((unknown.name.as_str(), events[0].name()), ("NOVELTY", "NOVELTY"));
        assert!(unknown.to_string().contains("unknown variant `NOVELTY`"), "{unknown}");
        vm.kill().expect("the machine was launched");
    });
}

#[test]
fn an_event_that_does_not_fit_the_types_is_still_an_event() {
    bounded(|| {
        let said = [
            r#"{"timestamp":{"seconds":-1,"microseconds":-1},"event":"RESET","data":{"guest":true,"reason":"guest-reset"}}"#,
            r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"RESET","data":{"guest":true,"reason":"boredom"}}"#,
            r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"RESET"}"#,
            r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"STOP","data":{"news":1}}"#,
        ];
        let script = said.iter().fold(Script::launched(), |script, line| script.line(line)).hear().reply("{}").obey();
        let vm = Vm::launch(script.config(SCRIPTED)).expect("the script starts");
        vm.execute("behind-the-events").expect("the monitor answers");
        let events = vm.events_from(&Mark::default(), [Wait::any_event()]).expect("the filter names events").queued();
        let read: Vec<_> = events.iter().map(Qapi::event).collect();
        let [Ok(timeless), Err(bored), Err(bare), Ok(stopped)] = &*read else { panic!("{read:?}") };
        assert!(matches!(timeless, qmp::Event::RESET { data, .. } if data.guest), "{timeless:?}");
        assert!(bored.reason.contains("boredom") && bare.reason.contains("data"), "{bored}; {bare}");
        assert!(matches!(stopped, qmp::Event::STOP { .. }), "{stopped:?}");
        vm.kill().expect("the machine was launched");
    });
}

#[test]
fn every_runtime_executes_qapi_commands() {
    bounded(|| {
        smol::block_on(async {
            use qemu_machine_smol::qapi::Qapi;
            let vm = qemu_machine_smol::Vm::launch(config()).await.expect("QEMU starts");
            let status = vm.execute(Qapi(qmp::query_status {})).await.expect("the monitor answers");
            assert_eq!(status.status, qmp::RunState::prelaunch);
            vm.kill().await.expect("the machine was launched");
        });
        let mut event_loop = EventLoop::new().expect("a poll can be created");
        let (registry, tokens) = event_loop.parts();
        let mut vm = qemu_machine_mio::Vm::launch(config(), registry, tokens).expect("the machine is registered");
        let vms = std::slice::from_mut(&mut vm);
        event_loop.run(vms, |vms| vms[0].launched()).expect("the poll works").expect("QEMU starts");
        let ticket = vms[0].execute(Qapi(qmp::query_status {})).expect("the command is sent");
        let status =
            event_loop.run(vms, |vms| vms[0].claim(&ticket)).expect("the poll works").expect("the monitor answers");
        assert_eq!(status.status, qmp::RunState::prelaunch);
        vms[0].kill().expect("the machine was launched");
        event_loop.run(vms, |vms| vms[0].outcome().map(drop)).expect("the poll works");
    });
}

/// The feature adds three crates to a user's dependencies; `qapi-codegen` and its parser only run at build time.
#[test]
fn the_feature_adds_three_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = |features: &str| {
        let arguments = ["tree", "--locked", "--offline", "--package", "qemu-machine-blocking", "--edges", "normal"];
        let mut cargo = Command::new(env!("CARGO"));
        let cargo = cargo.current_dir(&root).args(arguments).args(["--prefix", "none", "--features", features]);
        let output = cargo.output().expect("cargo runs, as it compiled this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).expect("the names of crates are ASCII");
        tree.lines().filter_map(|line| line.split(' ').next().map(String::from)).collect::<Vec<_>>()
    };
    let without = tree("");
    let mut brought = tree("qapi");
    brought.retain(|name| !without.contains(name));
    brought.sort();
    brought.dedup();
    assert_eq!(brought, ["base64", "qapi-qmp", "qapi-spec"]);
}
