//! Schema of a running QEMU (the reply of `query-qmp-schema`) as a model, and places in it.

mod check;
mod nearest;
mod path;
mod read;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

pub use check::{Invalid, Problem};

/// Commands, events and types of a running QEMU: the reply of `query-qmp-schema`
/// ([`QuerySchema`](crate::commands::QuerySchema)).
///
/// To find out whether a QEMU has a feature, ask its schema, not its version: distributions leave features out and
/// backport others, and a build leaves out what its configuration lacks. The schema does not change while QEMU runs, so
/// one query per connection is enough. It lists what exists, not every rule: a command that fits the schema may still
/// be refused (QEMU, `qapi/introspect.json`, `query-qmp-schema`).
///
/// A QEMU with `-compat deprecated-output=hide` leaves deprecated commands, events and members out of its schema, so
/// they do not exist here, and [`check`](Self::check) refuses them. Deprecated values of enums stay (`qapi/compat.json`,
/// `CompatPolicy`; measured with QEMU 7.2.22, 10.0.13 and 11.1.3).
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

/// A command or an event. An event has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    arguments: String,
    reply: Option<String>,
    out_of_band: bool,
    features: Vec<String>,
}

/// A type. The names of types are not part of the wire ABI (QEMU, `qapi/introspect.json`, `SchemaInfo`): a client that
/// relies on one breaks with the next build.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Type {
    meta: MetaType,
    features: Vec<String>,
}

/// Meta-type of a type, with the details that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MetaType {
    Builtin(Kind),
    Enum(Vec<EnumValue>),
    /// The type of the elements.
    Array(String),
    Object {
        members: Vec<Field>,
        /// The member whose value selects the variant.
        tag: Option<String>,
        /// The type with the additional members, by the value of the tag.
        variants: BTreeMap<String, String>,
    },
    /// One of several types, which differ in their kind of JSON (QEMU, `qapi/introspect.json`, `SchemaInfoAlternate`).
    Alternate(Vec<String>),
    /// A meta-type that this crate does not know. It accepts every value, so that a newer QEMU is not refused.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct EnumValue {
    name: String,
    features: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    kind: String,
    optional: bool,
    features: Vec<String>,
}

/// Kind of JSON value that a place in the schema accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Anything.
    Any,
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// An integer.
    Integer,
    /// A number.
    Number,
    /// Text.
    String,
    /// A string out of a fixed set: [`Shape::values`].
    Enum,
    /// An array whose elements have one shape: [`Shape::element`].
    Array,
    /// An object: [`Shape::members`].
    Object,
    /// One of several shapes: [`Shape::alternatives`].
    Alternate,
}

/// A place in the schema: the arguments or the reply of a command, the data of an event, or a part of them.
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
    /// Its features, as in the schema: `deprecated`, `unstable`, or the name of an ability.
    pub features: &'a [String],
    /// The shape of its value.
    pub shape: Shape<'a>,
}

impl Schema {
    /// Returns the names of all commands, sorted.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.commands.keys().map(String::as_str)
    }

    /// Returns the names of all events, sorted.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.events.keys().map(String::as_str)
    }

    /// Returns the shape of a command's arguments, which is always an object. `None` means that there is no such
    /// command.
    #[must_use]
    pub fn arguments(&self, command: &str) -> Option<Shape<'_>> {
        self.shape(&self.commands.get(command)?.arguments)
    }

    /// Returns the shape of a command's reply. `None` means that there is no such command.
    #[must_use]
    pub fn reply(&self, command: &str) -> Option<Shape<'_>> {
        self.shape(self.commands.get(command)?.reply.as_ref()?)
    }

    /// Returns the shape of an event's data. `None` means that there is no such event.
    #[must_use]
    pub fn data(&self, event: &str) -> Option<Shape<'_>> {
        self.shape(&self.events.get(event)?.arguments)
    }

    /// Returns whether a command can be executed out of band. `false` for a command that does not exist.
    #[must_use]
    pub fn is_out_of_band(&self, command: &str) -> bool {
        self.commands.get(command).is_some_and(|command| command.out_of_band)
    }

    /// Returns the features of a command or an event: `deprecated`, `unstable`, or names of abilities. Empty when there
    /// is no such command or event.
    #[must_use]
    pub fn features(&self, name: &str) -> &[String] {
        self.commands.get(name).or_else(|| self.events.get(name)).map_or(&[], |signature| &signature.features)
    }

    fn shape(&self, name: &str) -> Option<Shape<'_>> {
        Some(Shape { schema: self, kind: self.types.get(name)? })
    }
}

impl<'a> Shape<'a> {
    /// Returns the kind of JSON value that is accepted here.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.meta() {
            MetaType::Builtin(kind) => *kind,
            MetaType::Enum(_) => Kind::Enum,
            MetaType::Array(_) => Kind::Array,
            MetaType::Object { .. } => Kind::Object,
            MetaType::Alternate(_) => Kind::Alternate,
            MetaType::Unknown => Kind::Any,
        }
    }

    /// Returns the features of the type, as in the schema: `deprecated`, `unstable`, or the name of an ability. The
    /// features of a member whose value has this type are [`Member::features`].
    #[must_use]
    pub fn features(self) -> &'a [String] {
        &self.kind.features
    }

    /// Returns the values of an enum. Empty for every other kind.
    pub fn values(self) -> impl Iterator<Item = &'a str> {
        self.enum_values().iter().map(|value| value.name.as_str())
    }

    /// Returns the features of a value of an enum. Empty when there is no such value, and when QEMU is older than 6.2,
    /// which does not report them.
    ///
    /// ```
    /// # use qemu_machine_core::Schema;
    /// # let reply = r#"[
    /// #   {"name": "transaction", "meta-type": "command", "arg-type": "1", "ret-type": "1"},
    /// #   {"name": "1", "meta-type": "object", "members": [{"name": "type", "type": "2"}]},
    /// #   {"name": "2", "meta-type": "enum",
    /// #    "members": [{"name": "drive-backup", "features": ["deprecated"]}, {"name": "blockdev-backup"}]}
    /// # ]"#;
    /// # let schema: Schema = serde_json::from_str(reply)?;
    /// let actions = schema.arguments("transaction").expect("a command of this QEMU");
    /// let kind = actions.members().find(|member| member.name == "type").expect("a member");
    /// assert_eq!(kind.shape.value_features("drive-backup"), ["deprecated"]);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn value_features(self, value: &str) -> &'a [String] {
        self.enum_values().iter().find(|other| other.name == value).map_or(&[], |value| &value.features)
    }

    /// Returns the shape of the elements of an array. `None` for every other kind.
    #[must_use]
    pub fn element(self) -> Option<Shape<'a>> {
        let MetaType::Array(element) = self.meta() else { return None };
        self.schema.shape(element)
    }

    /// Returns the shapes of an alternate. Empty for every other kind.
    pub fn alternatives(self) -> impl Iterator<Item = Shape<'a>> {
        let names: &[String] = if let MetaType::Alternate(names) = self.meta() { names } else { &[] };
        names.iter().filter_map(move |name| self.schema.shape(name))
    }

    /// Returns the members that an object has whatever the value of its [`tag`](Self::tag). Empty for every other kind.
    pub fn members(self) -> impl Iterator<Item = Member<'a>> {
        let fields: &[Field] = if let MetaType::Object { members, .. } = self.meta() { members } else { &[] };
        fields.iter().filter_map(move |field| self.member(field))
    }

    /// Returns the name of the member whose value selects the additional members of an object. `None` means that it has
    /// no variants.
    #[must_use]
    pub fn tag(self) -> Option<&'a str> {
        let MetaType::Object { tag, .. } = self.meta() else { return None };
        tag.as_deref()
    }

    /// Returns the members that an object has in addition when its [`tag`](Self::tag) has this value.
    pub fn members_of(self, value: &str) -> impl Iterator<Item = Member<'a>> {
        self.variant(value).into_iter().flat_map(Shape::members)
    }

    /// Returns all members that an object has when its [`tag`](Self::tag) has this value. With `None`, returns those
    /// that it has whatever the value.
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

    /// Returns the additional members of all variants of an object, for every value of its [`tag`](Self::tag).
    pub fn members_of_any(self) -> impl Iterator<Item = Member<'a>> {
        let names = if let MetaType::Object { variants, .. } = self.meta() { Some(variants.values()) } else { None };
        names.into_iter().flatten().filter_map(move |name| self.schema.shape(name)).flat_map(Shape::members)
    }

    /// Returns the shape of the additional members that an object has when its [`tag`](Self::tag) has this value; it has
    /// [`features`](Self::features) of its own. `None` means that this value adds nothing.
    #[must_use]
    pub fn variant(self, value: &str) -> Option<Shape<'a>> {
        let MetaType::Object { variants, .. } = self.meta() else { return None };
        self.schema.shape(variants.get(value)?)
    }

    fn meta(self) -> &'a MetaType {
        &self.kind.meta
    }

    fn enum_values(self) -> &'a [EnumValue] {
        if let MetaType::Enum(values) = self.meta() { values } else { &[] }
    }

    fn member(self, field: &'a Field) -> Option<Member<'a>> {
        let shape = self.schema.shape(&field.kind)?;
        Some(Member { name: &field.name, optional: field.optional, features: &field.features, shape })
    }
}
