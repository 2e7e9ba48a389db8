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
        {"name": "20", "meta-type": "enum", "values": ["file", "null-co", "qcow2"], "members": [{"name": "file"}]},
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
