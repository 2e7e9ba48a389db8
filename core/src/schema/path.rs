//! Lookup of a path in a schema.

use alloc::vec;
use alloc::vec::Vec;

use super::{Kind, Member, Schema, Shape};

impl Schema {
    /// Returns whether a path exists in the schema. A path begins with the name of a command or an event, and goes on
    /// with `arg` (its arguments, or its data) or `ret` (its reply), and the names of members:
    ///
    /// | path | question |
    /// |---|---|
    /// | `query-yank` | does this command exist? |
    /// | `DEVICE_UNPLUG_GUEST_ERROR` | does this event exist? |
    /// | `blockdev-add/arg/read-only` | does the command have this argument? |
    /// | `blockdev-add/arg/driver=nvme` | does the argument have this value? |
    /// | `blockdev-add/arg/driver=qcow2/backing` | does the command have this argument when another has this value? |
    /// | `query-block/ret/inserted/image/filename` | does the reply have this? Arrays and alternates need no step |
    /// | `device_add@json-cli-hotplug` | does the command have this feature? Members have features as well |
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let mut steps = path.split('/');
        let (name, feature) = featured(steps.next().unwrap_or_default());
        let is_known = self.commands.contains_key(name) || self.events.contains_key(name);
        let has_feature = feature.is_none_or(|feature| self.features(name).iter().any(|other| other == feature));
        if !is_known || !has_feature {
            return false;
        }
        let start = match steps.next() {
            None => return true,
            Some("arg") => self.arguments(name).or_else(|| self.data(name)),
            Some("ret") => self.reply(name),
            Some(_) => None,
        };
        let mut places: Vec<Place<'_>> = start.map(Place::whole).into_iter().collect();
        for step in steps {
            places = places.iter().flat_map(|place| place.step(step)).collect();
        }
        !places.is_empty()
    }
}

fn featured(step: &str) -> (&str, Option<&str>) {
    step.split_once('@').map_or((step, None), |(name, feature)| (name, Some(feature)))
}

/// Place that a path leads to.
#[derive(Clone, Copy)]
struct Place<'a> {
    shape: Shape<'a>,
    /// The value of the tag of this object. `None` means any value.
    narrowed: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn whole(shape: Shape<'a>) -> Self {
        Self { shape, narrowed: None }
    }

    /// Returns the places that the next step leads to from here.
    fn step(&self, step: &str) -> Vec<Self> {
        let (step, feature) = featured(step);
        let (name, value) = step.split_once('=').map_or((step, None), |(name, value)| (name, Some(value)));
        let has_feature =
            |member: &Member<'_>| feature.is_none_or(|feature| member.features.iter().any(|other| other == feature));
        let mut places = Vec::new();
        for object in self.objects() {
            for member in object.all_members().filter(|member| member.name == name).filter(has_feature) {
                match value {
                    None => places.push(Self::whole(member.shape)),
                    Some(value) => {
                        places.extend(words(member.shape, value).map(|word| object.narrow(member.name, word)))
                    }
                }
            }
        }
        places
    }

    /// Returns the objects at this place. An array counts as its elements, and an alternate as each of its
    /// alternatives.
    fn objects(&self) -> Vec<Self> {
        let (mut open, mut objects) = (vec![*self], Vec::new());
        while let Some(place) = open.pop() {
            match place.shape.kind() {
                Kind::Object => objects.push(place),
                Kind::Array => open.extend(place.shape.element().map(Self::whole)),
                Kind::Alternate => open.extend(place.shape.alternatives().map(Self::whole)),
                _ => {}
            }
        }
        objects
    }

    fn all_members(&self) -> impl Iterator<Item = Member<'a>> {
        let shape = self.shape;
        let (of, of_any) = match self.narrowed {
            Some(value) => (Some(shape.members_of(value)), None),
            None => (None, Some(shape.members_of_any())),
        };
        shape.members().chain(of.into_iter().flatten()).chain(of_any.into_iter().flatten())
    }

    /// Returns the same object, with this value of a member. Only the value of its tag matters.
    fn narrow(&self, member: &str, value: &'a str) -> Self {
        let is_tag = self.shape.tag() == Some(member);
        Self { shape: self.shape, narrowed: if is_tag { Some(value) } else { self.narrowed } }
    }
}

/// Returns the word if it is a value of the enum here, directly or as an alternative or an element.
fn words<'a>(shape: Shape<'a>, word: &str) -> impl Iterator<Item = &'a str> {
    let alternatives = shape.alternatives().flat_map(Shape::values);
    let elements = shape.element().into_iter().flat_map(Shape::values);
    let mut all = shape.values().chain(alternatives).chain(elements);
    all.find(|other| *other == word).into_iter()
}
