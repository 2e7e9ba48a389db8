//! Tests that the schema of the real QEMU agrees with the behaviour of the real QEMU.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use qemu_machine_blocking::commands::{
    Cont, HumanMonitorCommand, QueryJobs, QuerySchema, QueryStatus, Stop, SystemPowerdown, SystemReset,
};
use qemu_machine_blocking::{CommandError, Config, ExitStatus, OutOfBand, Resource, Schema, Value, Vm, json};
use qemu_machine_core::schema::Kind;
use qemu_machine_tests::{PATIENCE, bounded, qemu};

/// The policies of a QEMU that hides what is deprecated (`-compat`, QEMU, `qapi/compat.json`, `CompatPolicy`).
const HIDING: [&str; 2] = ["deprecated-output=hide", "deprecated-input=crash,deprecated-output=hide"];

fn launch(arguments: &[&str]) -> (Vm, Schema) {
    let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"]).args(arguments.iter().copied());
    // A QEMU that aborts leaves no file behind.
    let config = config.resource_limit(Resource::CoreDump, 0);
    let vm = Vm::launch(config).expect("QEMU starts");
    let schema = vm.execute(QuerySchema).expect("QEMU returns its schema");
    (vm, schema)
}

fn with_schema(test: impl FnOnce(&Vm, &Schema) + Send + 'static) {
    bounded(|| {
        let (vm, schema) = launch(&[]);
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
        let registers = HumanMonitorCommand::new("info version");
        assert_eq!(schema.check(&registers), Ok(()));
        assert!(!vm.execute(registers).expect("the monitor answers").is_empty());
        let status = vm.execute(QueryStatus).expect("the monitor answers");
        assert_eq!((status.running, status.status.as_str()), (false, "prelaunch"));
        assert_eq!(vm.execute(QueryJobs), Ok(vec![]));
    });
}

/// Paths through QEMU's own description of its schema, each to one thing or to one feature of it, and whether the thing
/// is a part of something deprecated, which QEMU may hide. Each type is visited once.
struct Questions<'a> {
    types: BTreeMap<&'a str, &'a Value>,
    open: VecDeque<Step<'a>>,
    visited: BTreeSet<&'a str>,
    asked: Vec<(String, bool)>,
}

struct Step<'a> {
    kind: &'a str,
    path: String,
    is_hidden: bool,
    /// Whether the path leads to a member, whose value can follow.
    is_member: bool,
}

fn list<'a>(of: &'a Value, member: &str) -> &'a [Value] {
    of[member].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(of: &'a Value, member: &str) -> &'a str {
    of[member].as_str().unwrap_or_else(|| panic!("no {member}: {of}"))
}

fn features(of: &Value) -> impl Iterator<Item = &str> {
    list(of, "features").iter().filter_map(Value::as_str)
}

fn is_deprecated(thing: &Value) -> bool {
    features(thing).any(|feature| feature == "deprecated")
}

impl<'a> Questions<'a> {
    fn of(described: &'a Value) -> Vec<(String, bool)> {
        let described = described.as_array().expect("a list");
        let types = described.iter().map(|thing| (text(thing, "name"), thing)).collect();
        let mut questions = Self { types, open: VecDeque::new(), visited: BTreeSet::new(), asked: Vec::new() };
        for thing in described.iter().filter(|thing| ["command", "event"].contains(&text(thing, "meta-type"))) {
            let (name, is_hidden) = (text(thing, "name"), is_deprecated(thing));
            questions.ask(name, thing, is_hidden);
            for (step, member) in [("arg", "arg-type"), ("ret", "ret-type")] {
                if let Some(kind) = thing[member].as_str() {
                    questions.open.push_back(Step {
                        kind,
                        path: format!("{name}/{step}"),
                        is_hidden,
                        is_member: false,
                    });
                }
            }
        }
        while let Some(place) = questions.open.pop_front() {
            if questions.visited.insert(place.kind) {
                questions.visit(&place);
            }
        }
        questions.asked
    }

    fn ask(&mut self, path: &str, thing: &Value, is_hidden: bool) {
        self.asked.push((path.into(), is_hidden));
        self.asked.extend(features(thing).map(|feature| (format!("{path}@{feature}"), is_hidden)));
    }

    fn go_on(&mut self, kind: &'a str, path: &str, is_hidden: bool, is_member: bool) {
        self.open.push_back(Step { kind, path: path.into(), is_hidden, is_member });
    }

    fn visit(&mut self, Step { kind, path, is_hidden, is_member }: &Step<'a>) {
        let (thing, is_hidden) = (self.types[kind], *is_hidden);
        self.asked.extend(features(thing).map(|feature| (format!("{path}/@{feature}"), is_hidden)));
        match text(thing, "meta-type") {
            "object" => {
                for member in list(thing, "members") {
                    let (path, is_hidden) =
                        (format!("{path}/{}", text(member, "name")), is_hidden || is_deprecated(member));
                    self.ask(&path, member, is_hidden);
                    self.go_on(text(member, "type"), &path, is_hidden, true);
                }
                for variant in list(thing, "variants") {
                    let path = format!("{path}/{}={}", text(thing, "tag"), text(variant, "case"));
                    self.ask(&path, self.types[text(variant, "type")], is_hidden);
                    self.go_on(text(variant, "type"), &path, is_hidden, false);
                }
            }
            // QEMU hides no values of enums, deprecated or not.
            "enum" if *is_member => {
                for value in list(thing, "members") {
                    self.ask(&format!("{path}={}", text(value, "name")), value, is_hidden);
                }
            }
            "array" => self.go_on(text(thing, "element-type"), path, is_hidden, *is_member),
            "alternate" => {
                for alternative in list(thing, "members") {
                    self.go_on(text(alternative, "type"), path, is_hidden, *is_member);
                }
            }
            _ => {}
        }
    }
}

/// QEMU leaves deprecated commands, events and members out of the schema, and `values` of enums. All other answers are
/// the same: each thing and each feature that QEMU describes is found in all of its schemas.
#[test]
fn a_qemu_that_hides_what_is_deprecated_has_the_other_answers() {
    with_schema(|vm, schema| {
        let questions = Questions::of(&vm.execute("query-qmp-schema").expect("the monitor answers"));
        let count = |part: &str| questions.iter().filter(|(path, _)| path.contains(part)).count();
        assert!(questions.len() > 3000 && count("@") > 30 && count("/@") > 0, "{}", questions.len());
        assert!(questions.iter().any(|(_, is_hidden)| *is_hidden), "the schema has something deprecated");
        for (path, _) in &questions {
            assert!(schema.has(path), "{path}");
            assert!(!schema.has(&format!("{path}@no-such-feature")), "{path}");
        }
        for policy in HIDING {
            let (vm, hidden) = launch(&["-compat", policy]);
            for (path, is_hidden) in &questions {
                assert_eq!(hidden.has(path), !is_hidden, "{policy}: {path}");
            }
            for (path, is_hidden) in Questions::of(&vm.execute("query-qmp-schema").expect("the monitor answers")) {
                assert!(hidden.has(&path) && schema.has(&path) && !is_hidden, "{policy}: {path}");
            }
            vm.kill().expect("the machine was launched");
        }
    });
}

/// Each release has these: libvirt asks for them as well.
#[test]
fn features_of_values_and_of_variants_are_found() {
    bounded(|| {
        for arguments in [&[][..], &["-compat", HIDING[0]], &["-compat", HIDING[1]]] {
            let (vm, schema) = launch(arguments);
            for path in [
                "transaction/arg/actions/type=drive-backup@deprecated",
                "blockdev-add/arg/driver=file@dynamic-auto-read-only",
                "blockdev-add/arg/driver=file/@dynamic-auto-read-only",
                "migrate-set-capabilities/arg/capabilities/capability=x-colo@unstable",
            ] {
                assert!(schema.has(path), "{arguments:?}: {path}");
            }
            for path in [
                "transaction/arg/actions/type=blockdev-backup@deprecated",
                "blockdev-add/arg/driver=qcow2@dynamic-auto-read-only",
                "blockdev-add/arg@dynamic-auto-read-only",
            ] {
                assert!(!schema.has(path), "{arguments:?}: {path}");
            }
            vm.kill().expect("the machine was launched");
        }
    });
}

/// The check refuses what would end such a QEMU, and no command of the library does.
#[test]
fn a_command_that_is_hidden_is_refused_by_the_check_and_aborts_qemu() {
    with_schema(|_, schema| {
        let (vm, hidden) = launch(&["-compat", HIDING[1]]);
        let own = HumanMonitorCommand::new("info version");
        let checks = [
            (hidden.check(&QueryStatus), hidden.check(&Stop), hidden.check(&Cont), hidden.check(&SystemReset)),
            (hidden.check(&SystemPowerdown), hidden.check(&QueryJobs), hidden.check(&QuerySchema), hidden.check(&own)),
        ];
        assert_eq!(checks, [const { (Ok(()), Ok(()), Ok(()), Ok(())) }; 2]);
        let is_deprecated = |name: &&str| schema.features(name).iter().any(|feature| feature == "deprecated");
        let deprecated = schema.commands().find(is_deprecated).expect("a deprecated command");
        assert!(hidden.check(&deprecated).unwrap_err().to_string().contains("no such command"));
        let reply = vm.execute(deprecated);
        assert!(matches!(reply, Err(CommandError::Disconnected(_))), "{reply:?}");
        let outcome = vm.wait(PATIENCE).expect("QEMU aborts");
        assert!(matches!(outcome.exit, Some(ExitStatus::Signal { number: 6, .. })), "{outcome:?}");
    });
}
