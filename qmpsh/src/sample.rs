//! Sample schema for unit tests: a small one, with an entry of each kind.

use qemu_machine_blocking::Schema;
use qemu_machine_blocking::core::wire::Message;

const SCHEMA: &[u8] = br#"{"return": [
    {"name": "stop", "meta-type": "command", "arg-type": "none", "ret-type": "none"},
    {"name": "query-status", "meta-type": "command", "arg-type": "none", "ret-type": "status"},
    {"name": "query-block", "meta-type": "command", "arg-type": "none", "ret-type": "[status]"},
    {"name": "device_add", "meta-type": "command", "arg-type": "device", "ret-type": "none"},
    {"name": "device_del", "meta-type": "command", "arg-type": "id", "ret-type": "none"},
    {"name": "qom-get", "meta-type": "command", "arg-type": "qom", "ret-type": "any"},
    {"name": "blockdev-add", "meta-type": "command", "arg-type": "node", "ret-type": "none", "features": ["unstable"]},
    {"name": "set", "meta-type": "command", "arg-type": "all", "ret-type": "none", "allow-oob": true},
    {"name": "transaction", "meta-type": "command", "arg-type": "actions", "ret-type": "none"},
    {"name": "STOP", "meta-type": "event", "arg-type": "none"},
    {"name": "RESET", "meta-type": "event", "arg-type": "reset"},
    {"name": "none", "meta-type": "object", "members": []},
    {"name": "actions", "meta-type": "object", "members": [{"name": "actions", "type": "[action]"}]},
    {"name": "[action]", "meta-type": "array", "element-type": "action"},
    {"name": "action", "meta-type": "object", "tag": "type", "members": [{"name": "type", "type": "kind"}],
     "variants": [{"case": "abort", "type": "abort"}, {"case": "clear", "type": "clear"}]},
    {"name": "kind", "meta-type": "enum", "values": ["abort", "clear"]},
    {"name": "abort", "meta-type": "object", "members": [{"name": "data", "type": "none"}]},
    {"name": "clear", "meta-type": "object", "members": [{"name": "data", "type": "clearing"}]},
    {"name": "clearing", "meta-type": "object", "members": [
        {"name": "node", "type": "str"}, {"name": "count", "type": "int", "default": null}]},
    {"name": "status", "meta-type": "object", "members": [
        {"name": "running", "type": "bool"}, {"name": "note", "type": "str", "default": null}]},
    {"name": "[status]", "meta-type": "array", "element-type": "status"},
    {"name": "reset", "meta-type": "object", "members": [{"name": "guest", "type": "bool"}]},
    {"name": "id", "meta-type": "object", "members": [{"name": "id", "type": "str"}]},
    {"name": "device", "meta-type": "object", "members": [
        {"name": "driver", "type": "str"}, {"name": "id", "type": "str", "default": null}]},
    {"name": "qom", "meta-type": "object", "members": [
        {"name": "path", "type": "str"}, {"name": "property", "type": "str"}]},
    {"name": "node", "meta-type": "object", "tag": "driver", "members": [
        {"name": "node-name", "type": "str", "default": null}, {"name": "driver", "type": "driver"}],
     "variants": [{"case": "raw", "type": "raw"}, {"case": "null-co", "type": "null-co"}]},
    {"name": "driver", "meta-type": "enum", "values": ["null-co", "raw"]},
    {"name": "raw", "meta-type": "object", "members": [{"name": "file", "type": "ref"}]},
    {"name": "null-co", "meta-type": "object", "members": [{"name": "size", "type": "int", "default": null}]},
    {"name": "ref", "meta-type": "alternate", "members": [{"type": "node"}, {"type": "str"}]},
    {"name": "all", "meta-type": "object", "members": [
        {"name": "flag", "type": "bool", "default": null}, {"name": "count", "type": "int", "default": null},
        {"name": "ratio", "type": "number", "default": null}, {"name": "text", "type": "str", "default": null},
        {"name": "mode", "type": "auto", "default": null}, {"name": "maybe", "type": "maybe", "default": null},
        {"name": "list", "type": "[int]", "default": null}, {"name": "any", "type": "any", "default": null},
        {"name": "node", "type": "node", "default": null}, {"name": "ids", "type": "[id]", "default": null}]},
    {"name": "auto", "meta-type": "alternate", "members": [{"type": "onoff"}, {"type": "bool"}, {"type": "int"}]},
    {"name": "onoff", "meta-type": "enum", "values": ["auto", "on", "off"]},
    {"name": "maybe", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "null"}]},
    {"name": "[int]", "meta-type": "array", "element-type": "int"},
    {"name": "[id]", "meta-type": "array", "element-type": "id"},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
    {"name": "number", "meta-type": "builtin", "json-type": "number"},
    {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
    {"name": "null", "meta-type": "builtin", "json-type": "null"},
    {"name": "any", "meta-type": "builtin", "json-type": "value"}
], "id": 0}"#;

/// Returns the sample schema.
pub(crate) fn schema() -> Schema {
    match Message::read(&SCHEMA.into()) {
        Ok(Message::Reply { result: Ok(schema), .. }) => schema.reply().expect("a schema"),
        other => panic!("{other:?}"),
    }
}
