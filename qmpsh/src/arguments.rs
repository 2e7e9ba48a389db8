//! Arguments of a command by the schema: the object at a path of names, and its members.

use qemu_machine_blocking::Schema;
use qemu_machine_blocking::core::schema::{Kind, Member, Shape};

use crate::split::Word;

/// The arguments of a command: their shape, and those that are written so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments<'a> {
    shape: Shape<'a>,
    written: &'a [Word],
}

/// An object among the arguments: its shape, and the prefix of the keys of its members.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    shape: Shape<'a>,
    prefix: String,
    arguments: Arguments<'a>,
}

impl<'a> Arguments<'a> {
    /// Returns the arguments of a command. `None` means that the schema does not have the command.
    pub(crate) fn of(schema: &'a Schema, command: &str, written: &'a [Word]) -> Option<Self> {
        Some(Self::new(schema.arguments(command)?, written))
    }

    /// Returns the arguments of this shape.
    pub(crate) fn new(shape: Shape<'a>, written: &'a [Word]) -> Self {
        Self { shape, written }
    }

    /// Returns those that are written so far.
    pub(crate) fn written(self) -> &'a [Word] {
        self.written
    }

    /// Returns the object of all arguments.
    pub(crate) fn root(self) -> Object<'a> {
        Object { shape: self.shape, prefix: String::new(), arguments: self }
    }

    /// Returns the object at a path such as `servers.0`; an empty path is the object of all arguments.
    pub(crate) fn at(self, path: &str) -> Option<Object<'a>> {
        let mut steps = path.split('.').filter(|step| !step.is_empty());
        steps.try_fold(self.root(), |object, step| object.enter(step))
    }

    /// Returns the shape of the value of a key.
    pub(crate) fn shape_of(self, key: &str) -> Option<Shape<'a>> {
        let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
        self.at(path)?.step(name)
    }

    /// Reports whether a key, or a key below it, is written.
    pub(crate) fn has(self, key: &str) -> bool {
        let below = format!("{key}.");
        self.written.iter().any(|word| word.key == key || word.key.starts_with(&below))
    }
}

impl<'a> Object<'a> {
    fn enter(&self, step: &str) -> Option<Self> {
        let shape = self.step(step)?;
        Some(Self { shape, prefix: format!("{}{step}.", self.prefix), arguments: self.arguments })
    }

    /// Returns the shape of a member by its name, or of an element by its number.
    fn step(&self, step: &str) -> Option<Shape<'a>> {
        if let Some(member) = self.members().into_iter().find(|member| member.name == step) {
            return Some(member.shape);
        }
        let array = choices(self.shape).find(|shape| shape.kind() == Kind::Array)?;
        step.parse::<usize>().ok().and_then(|_| array.element())
    }

    /// Returns the members that are possible here, mandatory ones first.
    pub(crate) fn members(&self) -> Vec<Member<'a>> {
        let mut members: Vec<_> =
            choices(self.shape).flat_map(|shape| shape.members_with(self.tag_of(shape))).collect();
        members.sort_by_key(|member| member.optional);
        members
    }

    /// Returns the value of the type tag, if it is written. The tag selects the variant members (QEMU,
    /// `qapi/introspect.json`, `SchemaInfoObject`).
    fn tag_of(&self, shape: Shape<'a>) -> Option<&'a str> {
        let key = format!("{}{}", self.prefix, shape.tag()?);
        let word = self.arguments.written.iter().find(|word| word.key == key)?;
        Some(unquoted(&word.value.as_ref()?.text))
    }

    /// Returns the name of a type tag that is not written yet.
    pub(crate) fn open_tag(&self) -> Option<&'a str> {
        choices(self.shape).filter(|shape| self.tag_of(*shape).is_none()).find_map(Shape::tag)
    }

    /// Returns the key of a member: its name after the prefix of the object.
    pub(crate) fn key(&self, member: &str) -> String {
        format!("{}{member}", self.prefix)
    }
}

/// Returns the shapes that a value may have: those of an alternate, or else the shape itself.
pub(crate) fn choices<'a>(shape: Shape<'a>) -> impl Iterator<Item = Shape<'a>> {
    let itself = (shape.kind() != Kind::Alternate).then_some(shape);
    itself.into_iter().chain(shape.alternatives())
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
