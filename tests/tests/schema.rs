//! Tests that the schema of the real QEMU agrees with the behaviour of the real QEMU.

use qemu_machine_blocking::commands::{HumanMonitorCommand, QueryJobs, QuerySchema, QueryStatus};
use qemu_machine_blocking::{CommandError, Config, OutOfBand, Schema, Vm, json};
use qemu_machine_core::schema::Kind;
use qemu_machine_tests::{bounded, qemu};

fn with_schema(test: impl FnOnce(&Vm, &Schema) + Send + 'static) {
    bounded(|| {
        let vm = Vm::launch(Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])).expect("QEMU starts");
        let schema = vm.execute(QuerySchema).expect("QEMU returns its schema");
        test(&vm, &schema);
        vm.kill().expect("the machine was launched");
    });
}

#[test]
fn the_schema_has_what_every_qemu_has() {
    with_schema(|vm, schema| {
        assert!(schema.commands().count() > 100 && schema.events().count() > 30);
        for path in [
            "query-status/ret/running",
            "query-yank",
            "device_add/arg/driver",
            "blockdev-add/arg/driver=qcow2/backing",
            "blockdev-add/arg/driver=file/filename",
            "human-monitor-command/arg/command-line",
            "SHUTDOWN/arg/reason=host-qmp-quit",
            "DEVICE_DELETED/arg/path",
            "JOB_STATUS_CHANGE/arg/status=concluded",
        ] {
            assert!(schema.has(path), "{path}");
        }
        for path in ["query-stat", "blockdev-add/arg/driver=floppy", "SHUTDOWN/arg/reason=boredom", "STOP/arg/x"] {
            assert!(!schema.has(path), "{path}");
        }
        assert!(schema.is_out_of_band("query-yank") && !schema.is_out_of_band("query-status"));
        // Each command and each member that the schema names can be looked up.
        for command in schema.commands() {
            let arguments = schema.arguments(command).expect("each command has an object of arguments, perhaps empty");
            assert_eq!(arguments.kind(), Kind::Object, "{command}");
            let members = arguments.members().chain(arguments.members_of_any());
            assert!(members.map(|member| member.name).all(|name| schema.has(&format!("{command}/arg/{name}"))));
        }
        let commands = vm.execute("query-commands").expect("the monitor answers");
        let commands = commands.as_array().expect("a list");
        assert_eq!(commands.len(), schema.commands().count());
        assert!(commands.iter().all(|command| schema.has(command["name"].as_str().expect("a name"))));
    });
}

/// QEMU refuses the form of exactly those arguments that the check refuses.
#[test]
fn the_schema_refuses_what_qemu_refuses() {
    let cases = [
        ("query-status", json!({})),
        ("query-status", json!({"x": 1})),
        ("query-statu", json!({})),
        ("qom-list", json!({"path": "/"})),
        ("qom-list", json!({"path": 1})),
        ("qom-list", json!({})),
        ("qom-set", json!({"path": "/machine", "property": "none", "value": [1, {"x": null}]})),
        ("qom-list", json!({"path": "/", "pat": "/"})),
        ("blockdev-add", json!({"driver": "null-co", "node-name": "a", "size": 1024})),
        ("blockdev-add", json!({"driver": "null-co", "node-name": "b", "size": "1024"})),
        ("blockdev-add", json!({"driver": "null-co", "node-name": "b", "size": 1.5})),
        ("blockdev-add", json!({"driver": "null-co", "node-name": "b", "sizes": 1})),
        ("blockdev-add", json!({"driver": "nul-co", "node-name": "b"})),
        ("blockdev-add", json!({"driver": "raw", "node-name": "c", "file": "a"})),
        ("blockdev-add", json!({"driver": "raw", "node-name": "d", "file": {"driver": "null-co"}})),
        ("blockdev-add", json!({"driver": "raw", "node-name": "e", "file": {"driver": "null-co", "x": 1}})),
        ("blockdev-add", json!({"driver": "raw", "node-name": "e", "file": 1})),
        ("blockdev-add", json!({"node-name": "e"})),
        ("blockdev-add", json!({"driver": "null-co", "node-name": "f", "cache": {"direct": true}})),
        ("blockdev-add", json!({"driver": "null-co", "node-name": "g", "cache": {"direct": "on"}})),
        ("migrate-set-capabilities", json!({"capabilities": [{"capability": "events", "state": true}]})),
        ("migrate-set-capabilities", json!({"capabilities": [{"capability": "event", "state": true}]})),
        ("migrate-set-capabilities", json!({"capabilities": {"capability": "events", "state": true}})),
        ("object-add", json!({"qom-type": "iothread", "id": "io", "poll-max-ns": 0})),
        ("object-add", json!({"qom-type": "iothread", "id": "io2", "poll-max": 0})),
    ];
    with_schema(move |vm, schema| {
        for (name, arguments) in cases {
            let checked = schema.check(&(name, arguments.clone()));
            match vm.execute((name, arguments.clone())) {
                Ok(_) => assert_eq!(checked, Ok(()), "{name} {arguments}"),
                Err(CommandError::Refused(refusal)) => {
                    let words =
                        ["Parameter", "parameter", "Invalid", "invalid", "missing", "expects", "has not been found"];
                    let is_about_form = words.iter().any(|word| refusal.description.contains(word));
                    assert_eq!(checked.is_err(), is_about_form, "{name} {arguments}: {refusal}; {checked:?}");
                }
                Err(error) => panic!("{name} {arguments}: {error}"),
            }
        }
        assert!(schema.check(&OutOfBand("query-status")).is_err() && vm.execute(OutOfBand("query-status")).is_err());
        assert!(schema.check(&OutOfBand("query-yank")).is_ok() && vm.execute(OutOfBand("query-yank")).is_ok());
    });
}

#[test]
fn typed_commands_pass_the_check_and_execute() {
    with_schema(|vm, schema| {
        let registers = HumanMonitorCommand { command_line: "info version".into() };
        assert_eq!(schema.check(&registers), Ok(()));
        assert!(!vm.execute(registers).expect("the monitor answers").is_empty());
        let status = vm.execute(QueryStatus).expect("the monitor answers");
        assert_eq!((status.running, status.status.as_str()), (false, "prelaunch"));
        assert_eq!(vm.execute(QueryJobs), Ok(vec![]));
    });
}
