//! Parser of the reply of `query-qmp-schema`. It ignores members and meta-types that it does not know, so that a newer
//! QEMU can be read (`docs/interop/qmp-spec.rst`, Compatibility Considerations).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::{EnumValue, Field, Kind, MetaType, Schema, Signature, Type};

/// An element of the reply (`SchemaInfo` in QEMU's `qapi/introspect.json`).
#[derive(Deserialize)]
struct Info {
    name: String,
    #[serde(default)]
    features: Vec<String>,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(tag = "meta-type", rename_all = "kebab-case")]
enum What {
    #[serde(rename_all = "kebab-case")]
    Command {
        arg_type: String,
        ret_type: Option<String>,
        #[serde(default)]
        allow_oob: bool,
    },
    #[serde(rename_all = "kebab-case")]
    Event {
        arg_type: String,
    },
    #[serde(rename_all = "kebab-case")]
    Builtin {
        json_type: String,
    },
    /// QEMU before 6.2 has no `members`. QEMU since 6.2 deprecates `values`, which repeats their names, and leaves it
    /// out with `-compat deprecated-output=hide` (`qapi/introspect.json`, `SchemaInfoEnum`).
    Enum {
        members: Option<Vec<EnumValueInfo>>,
        values: Option<Vec<String>>,
    },
    #[serde(rename_all = "kebab-case")]
    Array {
        element_type: String,
    },
    Object {
        members: Vec<MemberInfo>,
        tag: Option<String>,
        #[serde(default)]
        variants: Vec<VariantInfo>,
    },
    Alternate {
        members: Vec<AlternativeInfo>,
    },
    #[serde(other)]
    Unknown,
}

/// `SchemaInfoEnumMember` in QEMU's `qapi/introspect.json`.
#[derive(Deserialize)]
struct EnumValueInfo {
    name: String,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Deserialize)]
struct MemberInfo {
    name: String,
    r#type: String,
    /// A member is optional if its `default` is present, even if that is `null` (QEMU, `qapi/introspect.json`,
    /// `SchemaInfoObjectMember`).
    #[serde(default, deserialize_with = "is_there", rename = "default")]
    optional: bool,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Deserialize)]
struct VariantInfo {
    case: String,
    r#type: String,
}

#[derive(Deserialize)]
struct AlternativeInfo {
    r#type: String,
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(reply: D) -> Result<Self, D::Error> {
        let mut schema = Self::default();
        for info in Vec::deserialize(reply)? {
            schema.learn(info);
        }
        Ok(schema)
    }
}

impl Schema {
    fn learn(&mut self, Info { name, features, what }: Info) {
        match what {
            What::Command { arg_type, ret_type, allow_oob } => {
                let signature = Signature { arguments: arg_type, reply: ret_type, out_of_band: allow_oob, features };
                self.commands.insert(name, signature);
            }
            What::Event { arg_type } => {
                let signature = Signature { arguments: arg_type, reply: None, out_of_band: false, features };
                self.events.insert(name, signature);
            }
            other => drop(self.types.insert(name, Type { meta: MetaType::from(other), features })),
        }
    }
}

impl From<What> for MetaType {
    fn from(what: What) -> Self {
        match what {
            What::Builtin { json_type } => Self::Builtin(builtin(&json_type)),
            What::Enum { members: Some(members), .. } => Self::Enum(members.into_iter().map(EnumValue::from).collect()),
            What::Enum { values: Some(values), .. } => {
                Self::Enum(values.into_iter().map(|name| EnumValue { name, features: Vec::new() }).collect())
            }
            What::Array { element_type } => Self::Array(element_type),
            What::Object { members, tag, variants } => {
                let variants: BTreeMap<_, _> =
                    variants.into_iter().map(|VariantInfo { case, r#type }| (case, r#type)).collect();
                Self::Object { members: members.into_iter().map(Field::from).collect(), tag, variants }
            }
            What::Alternate { members } => Self::Alternate(members.into_iter().map(|member| member.r#type).collect()),
            What::Enum { .. } | What::Command { .. } | What::Event { .. } | What::Unknown => Self::Unknown,
        }
    }
}

impl From<EnumValueInfo> for EnumValue {
    fn from(EnumValueInfo { name, features }: EnumValueInfo) -> Self {
        Self { name, features }
    }
}

impl From<MemberInfo> for Field {
    fn from(MemberInfo { name, r#type, optional, features }: MemberInfo) -> Self {
        Self { name, kind: r#type, optional, features }
    }
}

fn builtin(json_type: &str) -> Kind {
    match json_type {
        "string" => Kind::String,
        "int" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        "null" => Kind::Null,
        // Also `value`, which means any value (QEMU, `qapi/introspect.json`, `JSONType`).
        _ => Kind::Any,
    }
}
