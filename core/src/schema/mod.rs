//! Decides what a running QEMU says that it understands: its schema as a model, and places in it.

mod check;
mod nearest;
mod path;
mod read;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

pub use check::{Invalid, Problem};

/// What a QEMU understands, as it says itself: the reply of `query-qmp-schema`
/// ([`QuerySchema`](crate::commands::QuerySchema)).
///
/// A version number says little of what a QEMU can do, since distributions leave things out and bring others in early.
/// The schema says it exactly. It is read once in a connection: it does not change while QEMU runs.
///
/// ```
/// use qemu_machine_core::{Schema, json};
/// # let reply = r#"[
/// #   {"name": "device_add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
/// #   {"name": "blockdev-add", "meta-type": "command", "arg-type": "2", "ret-type": "0"},
/// #   {"name": "0", "meta-type": "object", "members": []},
/// #   {"name": "1", "meta-type": "object", "members": [{"name": "driver", "type": "str"}]},
/// #   {"name": "2", "meta-type": "object", "tag": "driver", "variants": [{"case": "nvme", "type": "4"}],
/// #    "members": [{"name": "driver", "type": "3"}, {"name": "node-name", "type": "str", "default": null}]},
/// #   {"name": "3", "meta-type": "enum", "values": ["nvme", "raw"]},
/// #   {"name": "4", "meta-type": "object", "members": [{"name": "namespace", "type": "int"}]},
/// #   {"name": "str", "meta-type": "builtin", "json-type": "string"},
/// #   {"name": "int", "meta-type": "builtin", "json-type": "int"}
/// # ]"#;
/// # let schema: Schema = serde_json::from_str(reply)?;
/// // let schema = vm.execute(QuerySchema)?;
/// assert!(schema.has("blockdev-add/arg/driver=nvme"));
/// assert!(!schema.has("blockdev-add/arg/driver=floppy"));
///
/// let wrong = schema.check(&("blockdev-add", json!({"driver": "raw", "nod-name": "disk"}))).unwrap_err();
/// assert_eq!(wrong.to_string(), "`blockdev-add`: no argument `nod-name`; did you mean `node-name`?");
/// let unknown = schema.check(&"device_ad").unwrap_err();
/// assert_eq!(unknown.to_string(), "`device_ad`: no such command; did you mean `device_add`?");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    commands: BTreeMap<String, Signature>,
    events: BTreeMap<String, Signature>,
    types: BTreeMap<String, Type>,
}

/// What is known of a command, or of an event, which has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    arguments: String,
    reply: Option<String>,
    out_of_band: bool,
    features: Vec<String>,
}

/// A type. Types have names of their own, which mean nothing and change from build to build.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    Builtin(Kind),
    Enum(Vec<String>),
    /// The type of the elements.
    Array(String),
    Object {
        members: Vec<Field>,
        /// The member whose value says which variant it is.
        tag: Option<String>,
        /// The type with the members that there are besides, by the value of the tag.
        variants: BTreeMap<String, String>,
    },
    /// One of several types, told apart by what kind of JSON it is.
    Alternate(Vec<String>),
    /// A kind of type that this library does not know yet: it stands for everything.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    kind: String,
    optional: bool,
    features: Vec<String>,
}

/// What kind of JSON a place in the schema takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Anything.
    Any,
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number without a fraction.
    Integer,
    /// A number.
    Number,
    /// Text.
    String,
    /// One of several words: [`Shape::values`].
    Enum,
    /// A list of things of one shape: [`Shape::element`].
    Array,
    /// Members with names: [`Shape::members`].
    Object,
    /// One of several shapes: [`Shape::alternatives`].
    Alternate,
}

/// A place in the schema: what the arguments of a command look like, or a member of them.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    schema: &'a Schema,
    kind: &'a Type,
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it may be left out.
    pub optional: bool,
    /// What QEMU says besides of it: `deprecated`, `unstable`, or the name of something that it can do.
    pub features: &'a [String],
    /// What it looks like.
    pub shape: Shape<'a>,
}

impl Schema {
    /// The names of all commands, in their order.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.commands.keys().map(String::as_str)
    }

    /// The names of all events, in their order.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.events.keys().map(String::as_str)
    }

    /// What the arguments of a command look like: always an object. None where there is no such command.
    #[must_use]
    pub fn arguments(&self, command: &str) -> Option<Shape<'_>> {
        self.shape(&self.commands.get(command)?.arguments)
    }

    /// What a command is answered by.
    #[must_use]
    pub fn reply(&self, command: &str) -> Option<Shape<'_>> {
        self.shape(self.commands.get(command)?.reply.as_ref()?)
    }

    /// What the data of an event look like.
    #[must_use]
    pub fn data(&self, event: &str) -> Option<Shape<'_>> {
        self.shape(&self.events.get(event)?.arguments)
    }

    /// Whether a command can be executed out of band.
    #[must_use]
    pub fn is_out_of_band(&self, command: &str) -> bool {
        self.commands.get(command).is_some_and(|command| command.out_of_band)
    }

    /// What QEMU says besides of a command, or of an event: `deprecated`, `unstable`, or what it can do.
    #[must_use]
    pub fn features(&self, name: &str) -> &[String] {
        self.commands.get(name).or_else(|| self.events.get(name)).map_or(&[], |signature| &signature.features)
    }

    fn shape(&self, name: &str) -> Option<Shape<'_>> {
        Some(Shape { schema: self, kind: self.types.get(name)? })
    }
}

impl<'a> Shape<'a> {
    /// What kind of JSON it takes.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.kind {
            Type::Builtin(kind) => *kind,
            Type::Enum(_) => Kind::Enum,
            Type::Array(_) => Kind::Array,
            Type::Object { .. } => Kind::Object,
            Type::Alternate(_) => Kind::Alternate,
            Type::Unknown => Kind::Any,
        }
    }

    /// The words of an enum; nothing for what is none.
    pub fn values(self) -> impl Iterator<Item = &'a str> {
        let values: &[String] = if let Type::Enum(values) = self.kind { values } else { &[] };
        values.iter().map(String::as_str)
    }

    /// What the elements of an array look like.
    #[must_use]
    pub fn element(self) -> Option<Shape<'a>> {
        let Type::Array(element) = self.kind else { return None };
        self.schema.shape(element)
    }

    /// What it may look like, where there is a choice.
    pub fn alternatives(self) -> impl Iterator<Item = Shape<'a>> {
        let names: &[String] = if let Type::Alternate(names) = self.kind { names } else { &[] };
        names.iter().filter_map(move |name| self.schema.shape(name))
    }

    /// The members that an object has in any case.
    pub fn members(self) -> impl Iterator<Item = Member<'a>> {
        let fields: &[Field] = if let Type::Object { members, .. } = self.kind { members } else { &[] };
        fields.iter().filter_map(move |field| self.member(field))
    }

    /// The member whose value decides which other members an object has.
    #[must_use]
    pub fn tag(self) -> Option<&'a str> {
        let Type::Object { tag, .. } = self.kind else { return None };
        tag.as_deref()
    }

    /// The members that an object has besides, when its [`tag`](Self::tag) has this value.
    pub fn members_of(self, value: &str) -> impl Iterator<Item = Member<'a>> {
        self.variant(value).into_iter().flat_map(Shape::members)
    }

    /// All members that an object has, when its [`tag`](Self::tag) has this value; without one, those that it has in any
    /// case.
    ///
    /// ```
    /// # use qemu_machine_core::Schema;
    /// # let reply = r#"[
    /// #   {"name": "blockdev-add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
    /// #   {"name": "0", "meta-type": "object", "members": []},
    /// #   {"name": "1", "meta-type": "object", "tag": "driver", "variants": [{"case": "nvme", "type": "3"}],
    /// #    "members": [{"name": "driver", "type": "2"}]},
    /// #   {"name": "2", "meta-type": "enum", "values": ["nvme", "raw"]},
    /// #   {"name": "3", "meta-type": "object", "members": [{"name": "namespace", "type": "2"}]}
    /// # ]"#;
    /// # let schema: Schema = serde_json::from_str(reply)?;
    /// let node = schema.arguments("blockdev-add").expect("a command of this QEMU");
    /// let names = |tag| node.members_with(tag).map(|member| member.name).collect::<Vec<_>>();
    /// assert_eq!(names(None), ["driver"]);
    /// assert_eq!(names(Some("nvme")), ["driver", "namespace"]);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn members_with(self, value: Option<&str>) -> impl Iterator<Item = Member<'a>> {
        self.members().chain(value.into_iter().flat_map(move |value| self.members_of(value)))
    }

    /// The members that an object has with one value of its [`tag`](Self::tag) or another.
    pub fn members_of_any(self) -> impl Iterator<Item = Member<'a>> {
        let names = if let Type::Object { variants, .. } = self.kind { Some(variants.values()) } else { None };
        names.into_iter().flatten().filter_map(move |name| self.schema.shape(name)).flat_map(Shape::members)
    }

    fn variant(self, value: &str) -> Option<Shape<'a>> {
        let Type::Object { variants, .. } = self.kind else { return None };
        self.schema.shape(variants.get(value)?)
    }

    fn member(self, field: &'a Field) -> Option<Member<'a>> {
        let shape = self.schema.shape(&field.kind)?;
        Some(Member { name: &field.name, optional: field.optional, features: &field.features, shape })
    }
}
