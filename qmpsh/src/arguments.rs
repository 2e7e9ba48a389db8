//! Arguments as the schema has them: the object that a path of names leads to, and its members.

use qemu_machine_blocking::Schema;
use qemu_machine_blocking::core::schema::{Kind, Member, Shape};

use crate::split::Word;

/// The arguments of a command as far as they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments<'a> {
    shape: Shape<'a>,
    written: &'a [Word],
}

/// An object among the arguments: what it looks like, and what stands before the names of its members.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    shape: Shape<'a>,
    prefix: String,
    arguments: Arguments<'a>,
}

impl<'a> Arguments<'a> {
    /// Those of a command; none when it is not known.
    pub(crate) fn of(schema: &'a Schema, command: &str, written: &'a [Word]) -> Option<Self> {
        Some(Self { shape: schema.arguments(command)?, written })
    }

    /// The object of the arguments themselves.
    pub(crate) fn root(self) -> Object<'a> {
        Object { shape: self.shape, prefix: String::new(), arguments: self }
    }

    /// The object that a path leads to: `servers.0`, or nothing for the arguments themselves.
    pub(crate) fn at(self, path: &str) -> Option<Object<'a>> {
        let mut steps = path.split('.').filter(|step| !step.is_empty());
        steps.try_fold(self.root(), |object, step| object.enter(step))
    }

    /// What the value of a key looks like.
    pub(crate) fn shape_of(self, key: &str) -> Option<Shape<'a>> {
        let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
        self.at(path)?.step(name)
    }

    /// Whether a key is written, or something below it.
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

    /// What a member looks like, or an element, by its number.
    fn step(&self, step: &str) -> Option<Shape<'a>> {
        if let Some(member) = self.members().into_iter().find(|member| member.name == step) {
            return Some(member.shape);
        }
        let array = choices(self.shape).find(|shape| shape.kind() == Kind::Array)?;
        step.parse::<usize>().ok().and_then(|_| array.element())
    }

    /// The members that are possible here, those first that must be there.
    pub(crate) fn members(&self) -> Vec<Member<'a>> {
        let mut members: Vec<_> =
            choices(self.shape).flat_map(|shape| shape.members_with(self.tag_of(shape))).collect();
        members.sort_by_key(|member| member.optional);
        members
    }

    /// The value of the member that decides which others there are, where that is written.
    fn tag_of(&self, shape: Shape<'a>) -> Option<&'a str> {
        let key = format!("{}{}", self.prefix, shape.tag()?);
        let word = self.arguments.written.iter().find(|word| word.key == key)?;
        Some(unquoted(&word.value.as_ref()?.text))
    }

    /// The member that decides which others there are, where it is not written yet.
    pub(crate) fn open_tag(&self) -> Option<&'a str> {
        choices(self.shape).filter(|shape| self.tag_of(*shape).is_none()).find_map(Shape::tag)
    }

    /// The key of a member.
    pub(crate) fn key(&self, member: &str) -> String {
        format!("{}{member}", self.prefix)
    }
}

/// What a value may look like: several shapes where there is a choice, and otherwise the one that it has.
pub(crate) fn choices<'a>(shape: Shape<'a>) -> impl Iterator<Item = Shape<'a>> {
    let itself = (shape.kind() != Kind::Alternate).then_some(shape);
    itself.into_iter().chain(shape.alternatives())
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
