//! Tests of a schema: lookups by path, and errors of the check, which name the place.

use qemu_machine_core::schema::{Kind, Problem, Schema};
use qemu_machine_core::{Command, OutOfBand, Value, json};

/// A small schema with every shape of QEMU's.
fn schema() -> Schema {
    let schema = json!([
        {"name": "blockdev-add", "meta-type": "command", "arg-type": "10", "ret-type": "0"},
        {"name": "device_add", "meta-type": "command", "arg-type": "11", "ret-type": "0", "features": ["json-cli"]},
        {"name": "query-yank", "meta-type": "command", "arg-type": "0", "ret-type": "[12]", "allow-oob": true},
        {"name": "qom-set", "meta-type": "command", "arg-type": "13", "ret-type": "0"},
        {"name": "tomorrow", "meta-type": "command", "arg-type": "14", "ret-type": "0", "new": {"a": 1}},
        {"name": "JOB", "meta-type": "event", "arg-type": "15"},
        {"name": "0", "meta-type": "object", "members": []},
        {"name": "10", "meta-type": "object", "tag": "driver",
         "members": [{"name": "node-name", "default": null, "type": "str"}, {"name": "driver", "type": "20"},
                     {"name": "read-only", "default": null, "type": "bool"}],
         "variants": [{"case": "qcow2", "type": "21"}, {"case": "file", "type": "22"}, {"case": "null-co", "type": "0"}]},
        {"name": "11", "meta-type": "object",
         "members": [{"name": "driver", "type": "str"}, {"name": "id", "default": null, "type": "str"}]},
        {"name": "12", "meta-type": "object", "members": [{"name": "type", "type": "20", "features": ["unstable"]}]},
        {"name": "[12]", "meta-type": "array", "element-type": "12"},
        {"name": "13", "meta-type": "object", "members": [{"name": "path", "type": "str"}, {"name": "value", "type": "any"}]},
        {"name": "14", "meta-type": "object", "members": [{"name": "x", "type": "30"}]},
        {"name": "15", "meta-type": "object", "members": [{"name": "status", "type": "20"}]},
        {"name": "20", "meta-type": "enum", "values": ["file", "null-co", "qcow2"],
         "members": [{"name": "file"}, {"name": "null-co"}, {"name": "qcow2"}]},
        {"name": "21", "meta-type": "object",
         "members": [{"name": "file", "type": "23"}, {"name": "backing", "default": null, "type": "24"}]},
        {"name": "22", "meta-type": "object",
         "members": [{"name": "filename", "type": "str"}, {"name": "offset", "default": null, "type": "int"},
                     {"name": "servers", "default": null, "type": "[25]"}, {"name": "ratio", "default": null, "type": "number"}]},
        {"name": "23", "meta-type": "alternate", "members": [{"type": "10"}, {"type": "str"}]},
        {"name": "24", "meta-type": "alternate", "members": [{"type": "23"}, {"type": "null"}]},
        {"name": "25", "meta-type": "object", "members": [{"name": "port", "type": "int"}]},
        {"name": "[25]", "meta-type": "array", "element-type": "25"},
        {"name": "30", "meta-type": "quantum", "members": 7},
        {"name": "str", "meta-type": "builtin", "json-type": "string"},
        {"name": "int", "meta-type": "builtin", "json-type": "int"},
        {"name": "number", "meta-type": "builtin", "json-type": "number"},
        {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
        {"name": "null", "meta-type": "builtin", "json-type": "null"},
        {"name": "any", "meta-type": "builtin", "json-type": "value"},
    ]);
    serde_json::from_value(schema).expect("a schema")
}

#[test]
fn paths_find_what_the_schema_has() {
    let schema = schema();
    for path in [
        "blockdev-add",
        "JOB",
        "JOB/arg/status=qcow2",
        "blockdev-add/arg/read-only",
        "blockdev-add/arg/driver=qcow2",
        "blockdev-add/arg/driver=qcow2/backing",
        "blockdev-add/arg/driver=qcow2/file/driver=file/filename",
        "blockdev-add/arg/filename",
        "blockdev-add/arg/servers/port",
        "blockdev-add/ret",
        "query-yank/ret/type=file",
        "query-yank/ret/type@unstable",
        "device_add@json-cli",
        "device_add@json-cli/arg/driver",
    ] {
        assert!(schema.has(path), "{path}");
    }
    for path in [
        "",
        "blockdev-ad",
        "/arg",
        "blockdev-add/args",
        "blockdev-add/arg/driver=nvme",
        "blockdev-add/arg/read-only=true",
        "blockdev-add/arg/driver=file/backing",
        "blockdev-add/arg/driver/backing",
        "blockdev-add/ret/node-name",
        "query-yank/ret/type@deprecated",
        "device_add@hotplug",
        "JOB/ret",
        "0",
        "str",
    ] {
        assert!(!schema.has(path), "{path}");
    }
}

/// A schema with a feature at every level, of one version of QEMU. `of_values` returns the enum with these values, of
/// which one has a feature.
fn with_features(of_values: impl Fn(&str, [&str; 2], &str) -> Value) -> Schema {
    let schema = json!([
        {"name": "transaction", "meta-type": "command", "arg-type": "1", "ret-type": "6", "features": ["of-command"]},
        {"name": "JOB", "meta-type": "event", "arg-type": "7", "features": ["of-event"]},
        {"name": "1", "meta-type": "object", "features": ["of-arguments"],
         "members": [{"name": "actions", "type": "[2]", "features": ["of-member"]}, {"name": "mode", "type": "5"}]},
        {"name": "[2]", "meta-type": "array", "element-type": "2", "features": ["of-array"]},
        {"name": "2", "meta-type": "object", "tag": "type", "features": ["of-element"],
         "members": [{"name": "type", "type": "3"}],
         "variants": [{"case": "drive-backup", "type": "4"}, {"case": "abort", "type": "8"}]},
        of_values("3", ["abort", "drive-backup"], "drive-backup"),
        {"name": "4", "meta-type": "object", "members": [{"name": "data", "type": "5"}], "features": ["of-variant"]},
        {"name": "5", "meta-type": "alternate", "members": [{"type": "8"}, {"type": "9"}], "features": ["of-alternate"]},
        {"name": "6", "meta-type": "object", "members": [], "features": ["of-reply"]},
        {"name": "7", "meta-type": "object", "members": [{"name": "status", "type": "9"}], "features": ["of-data"]},
        {"name": "8", "meta-type": "object", "members": []},
        of_values("9", ["full", "none"], "none"),
    ]);
    serde_json::from_value(schema).expect("a schema")
}

/// Returns an enum as QEMU since 6.2 describes it.
fn both(name: &str, values: [&str; 2], special: &str) -> Value {
    let mut described = hidden(name, values, special);
    described["values"] = json!(values);
    described
}

/// Returns an enum as QEMU since 6.2 describes it with `-compat deprecated-output=hide`: without `values`.
fn hidden(name: &str, values: [&str; 2], special: &str) -> Value {
    let value = |value| {
        if value == special { json!({"name": value, "features": ["of-value"]}) } else { json!({"name": value}) }
    };
    json!({"name": name, "meta-type": "enum", "members": values.map(value), "features": ["of-enum"]})
}

/// Returns an enum as QEMU before 6.2 describes it: without features of values.
fn old(name: &str, values: [&str; 2], _: &str) -> Value {
    json!({"name": name, "meta-type": "enum", "values": values})
}

/// Returns the same with members that no QEMU has yet. The known ones must be read.
fn new(name: &str, values: [&str; 2], special: &str) -> Value {
    let mut described = hidden(name, values, special);
    described["since"] = json!({"version": [12, 0]});
    for value in described["members"].as_array_mut().expect("a list") {
        value["since"] = json!([{"version": null}]);
    }
    described
}

const WITHOUT_FEATURES: [&str; 5] = [
    "transaction/arg/actions/type=drive-backup",
    "transaction/arg/actions/type=drive-backup/data=none",
    "transaction/arg/actions/type=abort",
    "transaction/arg/mode=full",
    "JOB/arg/status=none",
];

const OF_VALUES: [&str; 6] = [
    "transaction/arg/actions/type=drive-backup@of-value",
    "transaction/arg/actions/type=drive-backup@of-value/data",
    "transaction/arg/actions/type=drive-backup/data=none@of-value",
    "transaction/arg/mode=none@of-value",
    "transaction/arg/mode/@of-enum",
    "JOB/arg/status=none@of-value",
];

const OF_OTHERS: [&str; 15] = [
    "transaction@of-command",
    "JOB@of-event",
    "transaction/arg@of-arguments",
    "transaction/arg/@of-arguments/actions",
    "transaction/ret@of-reply",
    "JOB/arg@of-data",
    "JOB/arg/@of-data/status=full",
    "transaction/arg/actions@of-member",
    "transaction/arg/actions/@of-array",
    "transaction/arg/actions/@of-element",
    "transaction/arg/actions/type=drive-backup@of-variant",
    "transaction/arg/actions/type=drive-backup@of-variant/data",
    "transaction/arg/actions/type=drive-backup/@of-variant/data/@of-alternate",
    "transaction/arg/actions/type=drive-backup/@of-element",
    "transaction/arg/mode/@of-alternate",
];

const WRONG: [&str; 16] = [
    "transaction@of-event",
    "JOB@of-data",
    "transaction/@of-command",
    "transaction/arg@of-command",
    "transaction/arg/@of-member",
    "transaction/arg@of-element",
    "transaction/arg/actions@of-element",
    "transaction/arg/actions@of-array",
    "transaction/arg/actions/@of-variant",
    "transaction/arg/actions/type=abort@of-value",
    "transaction/arg/actions/type=abort@of-variant",
    "transaction/arg/actions/type=abort/@of-variant",
    "transaction/arg/actions/type@of-value",
    "transaction/arg/actions/type=drive-backup@of-element",
    "transaction/arg/mode@of-alternate",
    "transaction/arg/mode=full@of-value",
];

fn assert_answers(schema: &Schema, paths: &[&str], expected: bool) {
    for path in paths {
        assert_eq!(schema.has(path), expected, "{path}");
    }
}

#[test]
fn features_are_found_at_every_level() {
    let schema = with_features(both);
    assert_answers(&schema, &[&WITHOUT_FEATURES[..], &OF_VALUES, &OF_OTHERS].concat(), true);
    assert_answers(&schema, &WRONG, false);
}

#[test]
fn a_schema_without_deprecated_members_has_the_same_answers() {
    assert_eq!(with_features(hidden), with_features(both));
}

#[test]
fn an_old_schema_has_no_features_of_values() {
    let schema = with_features(old);
    assert_answers(&schema, &[&WITHOUT_FEATURES[..], &OF_OTHERS].concat(), true);
    assert_answers(&schema, &[&OF_VALUES[..], &WRONG].concat(), false);
    // QEMU 2.5 knew no features, and neither `allow-oob`.
    let first = r#"[
        {"name": "eject", "meta-type": "command", "arg-type": "0", "ret-type": "1"},
        {"name": "STOP", "meta-type": "event", "arg-type": "1"},
        {"name": "0", "meta-type": "object", "members": [{"name": "when", "type": "2", "default": null}]},
        {"name": "1", "meta-type": "object", "members": []},
        {"name": "2", "meta-type": "enum", "values": ["now"]}
    ]"#;
    let first: Schema = serde_json::from_str(first).unwrap();
    assert!(first.has("eject/arg/when=now") && first.has("STOP/arg") && !first.has("eject/arg/when=now@deprecated"));
}

#[test]
fn a_newer_schema_is_read() {
    let newer = json!([
        {"name": "x", "meta-type": "command", "arg-type": "1", "ret-type": "2", "features": [], "since": [1]},
        {"name": "1", "meta-type": "object", "since": 1, "tag": "kind", "sealed": true,
         "members": [{"name": "kind", "type": "3", "since": {}}, {"name": "q", "type": "4", "default": 1, "note": []}],
         "variants": [{"case": "a", "type": "2", "features": ["of-branch"], "since": null}]},
        {"name": "2", "meta-type": "alternate", "members": [{"type": "4", "name": "q"}, {"type": "5"}], "since": 1},
        {"name": "3", "meta-type": "enum", "ranges": [[0, 1]]},
        {"name": "4", "meta-type": "quantum", "features": ["unstable"], "members": 7, "values": {}},
        {"name": "5", "meta-type": "builtin", "json-type": "complex", "since": 1},
        {"name": "6", "meta-type": "array", "element-type": "4", "length": 3},
        {"name": "E", "meta-type": "event", "arg-type": "6", "allow-oob": 3},
        {"name": "policy", "meta-type": "policy"},
    ]);
    let newer: Schema = serde_json::from_value(newer).expect("the unknown is ignored");
    assert!(newer.has("x/arg/q/@unstable") && newer.has("E/arg/@unstable") && !newer.has("policy"));
    assert_eq!(newer.check(&("x", json!({"kind": {"any": 1}, "q": {"theta": 0}}))), Ok(()), "what is unknown passes");
    assert_eq!(with_features(new), with_features(both));
}

/// The type of a peer's array may be that array.
#[test]
fn a_circle_of_types_ends_a_lookup() {
    let circle = json!([
        {"name": "x", "meta-type": "command", "arg-type": "1"},
        {"name": "1", "meta-type": "object", "members": [{"name": "a", "type": "2"}]},
        {"name": "2", "meta-type": "array", "element-type": "3"},
        {"name": "3", "meta-type": "alternate", "members": [{"type": "2"}, {"type": "3"}, {"type": "1"}]},
    ]);
    let circle: Schema = serde_json::from_value(circle).unwrap();
    assert!(circle.has("x/arg/a/a/a") && !circle.has("x/arg/a/b") && !circle.has("x/arg/a/@b"));
}

#[test]
fn features_can_be_looked_at() {
    let schema = with_features(both);
    assert_eq!(
        (schema.features("transaction"), schema.features("JOB")),
        (&["of-command".into()][..], &["of-event".into()][..])
    );
    let arguments = schema.arguments("transaction").unwrap();
    assert_eq!(
        (arguments.features(), schema.data("JOB").unwrap().features()),
        (&["of-arguments".into()][..], &["of-data".into()][..])
    );
    let actions = arguments.members().next().unwrap();
    assert_eq!((actions.features, actions.shape.features()), (&["of-member".into()][..], &["of-array".into()][..]));
    let action = actions.shape.element().unwrap();
    let backup = action.variant("drive-backup").unwrap();
    assert_eq!((action.features(), backup.features()), (&["of-element".into()][..], &["of-variant".into()][..]));
    assert!(action.variant("none").is_none() && backup.variant("drive-backup").is_none());
    let (kind, data) = (action.members().next().unwrap().shape, backup.members().next().unwrap().shape);
    assert_eq!((kind.features(), data.features()), (&["of-enum".into()][..], &["of-alternate".into()][..]));
    assert_eq!(kind.value_features("drive-backup"), ["of-value"]);
    assert!(kind.value_features("abort").is_empty() && kind.value_features("x").is_empty());
    assert!(action.value_features("drive-backup").is_empty(), "an object is no enum");
}

#[test]
fn shapes_can_be_looked_at() {
    let schema = schema();
    assert_eq!(
        schema.commands().collect::<Vec<_>>(),
        ["blockdev-add", "device_add", "qom-set", "query-yank", "tomorrow"]
    );
    assert_eq!(schema.events().collect::<Vec<_>>(), ["JOB"]);
    assert!(schema.is_out_of_band("query-yank") && !schema.is_out_of_band("qom-set") && !schema.is_out_of_band("x"));
    assert_eq!((schema.features("device_add"), schema.features("x")), (&["json-cli".to_owned()][..], &[][..]));
    let node = schema.arguments("blockdev-add").unwrap();
    assert_eq!((node.kind(), node.tag()), (Kind::Object, Some("driver")));
    let names: Vec<_> = node.members().map(|member| (member.name, member.optional, member.shape.kind())).collect();
    assert_eq!(
        names,
        [("node-name", true, Kind::String), ("driver", false, Kind::Enum), ("read-only", true, Kind::Boolean)]
    );
    let of_qcow2: Vec<_> = node.members_of("qcow2").map(|member| (member.name, member.shape.kind())).collect();
    assert_eq!(of_qcow2, [("file", Kind::Alternate), ("backing", Kind::Alternate)]);
    assert_eq!((node.members_of("none").count(), node.members_of_any().count()), (0, 6));
    let with = |tag| node.members_with(tag).map(|member| member.name).collect::<Vec<_>>();
    assert_eq!(with(Some("qcow2")), ["node-name", "driver", "read-only", "file", "backing"]);
    assert_eq!(
        (with(Some("none")), with(None)),
        (names.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), with(Some("null-co")))
    );
    let reply = schema.reply("query-yank").unwrap();
    let element = reply.element().unwrap();
    assert_eq!((reply.kind(), element.kind(), element.element().is_none()), (Kind::Array, Kind::Object, true));
    let values: Vec<_> = element.members().flat_map(|member| member.shape.values()).collect();
    assert_eq!(values, ["file", "null-co", "qcow2"]);
    assert_eq!(schema.data("JOB").unwrap().members().count(), 1);
    assert!(schema.reply("x").is_none() && schema.data("x").is_none() && schema.arguments("x").is_none());
}

fn refusal<C: Command>(command: &C) -> String {
    schema().check(command).expect_err("the schema refuses it").to_string()
}

#[test]
fn valid_arguments_pass() {
    let schema = schema();
    for arguments in [
        json!({"driver": "null-co"}),
        json!({"driver": "file", "filename": "/disk", "offset": 18_446_744_073_709_551_615_u64, "ratio": 1}),
        json!({"driver": "file", "filename": "/disk", "ratio": 0.5, "servers": []}),
        json!({"driver": "file", "filename": "/disk", "servers": [{"port": 1}, {"port": 2}]}),
        json!({"driver": "qcow2", "file": "node", "backing": null}),
        json!({"driver": "qcow2", "file": {"driver": "file", "filename": "x"}, "node-name": "n", "read-only": true}),
    ] {
        assert_eq!(schema.check(&("blockdev-add", arguments.clone())), Ok(()), "{arguments}");
    }
    assert_eq!(schema.check(&OutOfBand("query-yank")), Ok(()));
    assert_eq!(schema.check(&("query-yank", json!({}))), Ok(()));
    for value in [json!(null), json!({"x": [1]}), json!(1.5)] {
        assert_eq!(schema.check(&("qom-set", json!({"path": "/", "value": value}))), Ok(()));
    }
    assert_eq!(schema.check(&("tomorrow", json!({"x": {"whatever": 1}}))), Ok(()), "a value of an unknown kind passes");
    let device = json!({"driver": "virtio-net-pci", "netdev": "n", "mac": "x"});
    assert_eq!(schema.check(&("device_add", device)), Ok(()), "the properties are not in the schema");
}

#[test]
fn an_error_names_the_place_and_the_nearest_name() {
    let add = |arguments: Value| refusal(&("blockdev-add", arguments));
    for (refused, words) in [
        (refusal(&"device-ad"), "`device-ad`: no such command; did you mean `device_add`?"),
        (refusal(&"launch"), "`launch`: no such command"),
        (refusal(&OutOfBand("qom-set")), "`qom-set` cannot be executed out of band"),
        (add(json!({})), "`blockdev-add`: `driver` is missing"),
        (add(json!({"drivr": "file"})), "`blockdev-add`: no argument `drivr`; did you mean `driver`?"),
        (
            add(json!({"driver": "null-co", "nod-name": "x"})),
            "`blockdev-add`: no argument `nod-name`; did you mean `node-name`?",
        ),
        (
            add(json!({"driver": "fil", "filename": 1})),
            "`blockdev-add`: `driver` cannot be `fil`; did you mean `file`?",
        ),
        (add(json!({"driver": "nvme"})), "`blockdev-add`: `driver` cannot be `nvme`"),
        (add(json!({"driver": "null-co", "filename": "x"})), "`blockdev-add`: no argument `filename`"),
        (add(json!({"driver": "file"})), "`blockdev-add`: `filename` is missing"),
        (
            add(json!({"driver": "file", "filename": 1})),
            "`blockdev-add`: `filename` must be a string, and is an integer",
        ),
        (
            add(json!({"driver": "file", "filename": "", "offset": 1.5})),
            "`blockdev-add`: `offset` must be an integer, and is a number",
        ),
        (
            add(json!({"driver": "null-co", "read-only": "on"})),
            "`blockdev-add`: `read-only` must be a boolean, and is a string",
        ),
        (
            add(json!({"driver": "file", "filename": "", "servers": [{"port": 1}, {"prot": 2}]})),
            "`blockdev-add`: no argument `servers[1].prot`; did you mean `port`?",
        ),
        (
            add(json!({"driver": "file", "filename": "", "servers": {"port": 1}})),
            "`blockdev-add`: `servers` must be an array, and is an object",
        ),
        (
            add(json!({"driver": "qcow2", "file": {"driver": "file", "filenam": ""}})),
            "`blockdev-add`: no argument `file.filenam`; did you mean `filename`?",
        ),
        (
            add(json!({"driver": "qcow2", "file": null})),
            "`blockdev-add`: `file` must be one of several kinds, and is null",
        ),
        (add(json!([1])), "`blockdev-add`: the arguments must be an object, and is an array"),
        (refusal(&"device_add"), "`device_add`: `driver` is missing"),
        (
            refusal(&("device_add", json!({"driver": 1, "x": 1}))),
            "`device_add`: `driver` must be a string, and is an integer",
        ),
        (refusal(&("query-yank", json!({"x": 1}))), "`query-yank`: no argument `x`"),
    ] {
        assert_eq!(refused, words);
    }
}

#[test]
fn an_error_has_fields_for_programs() {
    let wrong = schema().check(&("blockdev-add", json!({"driver": "qcow2", "file": {"drivr": 1}}))).unwrap_err();
    assert_eq!((wrong.command.as_str(), wrong.at.as_str()), ("blockdev-add", "file.drivr"));
    assert_eq!((wrong.problem, wrong.nearest.as_deref()), (Problem::UnknownArgument, Some("driver")));
}

#[test]
fn a_reply_that_is_no_schema_is_an_error() {
    for text in ["{}", "[1]", r#"[{"name": "x"}]"#, r#"[{"meta-type": "enum", "values": []}]"#] {
        assert!(serde_json::from_str::<Schema>(text).is_err(), "{text}");
    }
    assert_eq!(serde_json::from_str::<Schema>("[]").unwrap(), Schema::default());
}

/// A reference to a missing type is no error, and arguments of that type pass.
#[test]
fn a_schema_with_holes_is_no_trap() {
    let holes = json!([
        {"name": "a", "meta-type": "command", "arg-type": "none", "ret-type": "none"},
        {"name": "b", "meta-type": "command", "arg-type": "1"},
        {"name": "1", "meta-type": "object", "members": [], "tag": "x", "variants": [{"case": "y", "type": "none"}]},
    ]);
    let holes: Schema = serde_json::from_value(holes).unwrap();
    assert!(holes.has("a") && !holes.has("a/arg") && !holes.has("b/arg/x"));
    assert_eq!(holes.check(&("a", json!({"anything": 1}))), Ok(()));
    assert!(holes.check(&("b", json!({"x": "y"}))).is_err());
}
