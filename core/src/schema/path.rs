//! Lookup of a path in a schema.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr;

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
    /// | `device_add@json-cli-hotplug` | does the command have this feature? Events have features as well |
    /// | `block-commit/arg/base@deprecated` | does the member have this feature? |
    /// | `transaction/arg/actions/type=drive-backup@deprecated` | does the value have this feature, or the type of the members that it selects? |
    /// | `blockdev-add/arg/driver=file/@dynamic-auto-read-only` | does the type here have this feature, or that of the members that a value selected? |
    ///
    /// QEMU before 6.2 does not report features of values, so the answer is `false` there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let mut steps = path.split('/');
        let (name, feature) = featured(steps.next().unwrap_or_default());
        let is_known = self.commands.contains_key(name) || self.events.contains_key(name);
        let has_feature = feature.is_none_or(|feature| contains(self.features(name), feature));
        if !is_known || !has_feature {
            return false;
        }
        let Some(step) = steps.next() else { return true };
        let (step, feature) = featured(step);
        let start = match step {
            "arg" => self.arguments(name).or_else(|| self.data(name)),
            "ret" => self.reply(name),
            _ => None,
        };
        let start = start.map(Place::whole).filter(|place| feature.is_none_or(|feature| place.has(feature)));
        let mut places: Vec<Place<'_>> = start.into_iter().collect();
        for step in steps {
            places = places.iter().flat_map(|place| place.step(step)).collect();
        }
        !places.is_empty()
    }
}

fn featured(step: &str) -> (&str, Option<&str>) {
    step.split_once('@').map_or((step, None), |(name, feature)| (name, Some(feature)))
}

fn contains(features: &[String], feature: &str) -> bool {
    features.iter().any(|other| other == feature)
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
        let mut places = Vec::new();
        if let ("", Some(feature)) = (step, feature) {
            places.extend(self.has(feature).then_some(*self));
            return places;
        }
        for object in self.objects() {
            for member in object.all_members().filter(|member| member.name == name) {
                let place = Self::whole(member.shape);
                let Some(value) = value else {
                    places.extend(feature.is_none_or(|feature| contains(member.features, feature)).then_some(place));
                    continue;
                };
                let Some((word, of_value)) = place.word(value) else { continue };
                let object = object.narrow(member.name, word);
                let variant = object.shape.variant(word).filter(|_| object.shape.tag() == Some(name));
                let of_variant = variant.map_or(&[][..], Shape::features);
                let has_feature = |feature| contains(of_value, feature) || contains(of_variant, feature);
                places.extend(feature.is_none_or(has_feature).then_some(object));
            }
        }
        places
    }

    /// Returns whether a type at this place has a feature. The type of the members that a value has selected counts as
    /// well.
    fn has(&self, feature: &str) -> bool {
        self.types().iter().any(|place| {
            let variant = place.narrowed.and_then(|value| place.shape.variant(value));
            [Some(place.shape), variant].into_iter().flatten().any(|shape| contains(shape.features(), feature))
        })
    }

    /// Returns the objects at this place.
    fn objects(&self) -> Vec<Self> {
        self.types().into_iter().filter(|place| place.shape.kind() == Kind::Object).collect()
    }

    /// Returns all types at this place: with an array its elements, and with an alternate each of its alternatives.
    fn types(&self) -> Vec<Self> {
        let (mut open, mut types) = (vec![*self], Vec::<Self>::new());
        while let Some(place) = open.pop() {
            // A peer may describe an array of itself. Without this, the lookup would not end.
            if types.iter().any(|known| ptr::eq(known.shape.kind, place.shape.kind)) {
                continue;
            }
            open.extend(place.shape.element().map(Self::whole));
            open.extend(place.shape.alternatives().map(Self::whole));
            types.push(place);
        }
        types
    }

    /// Returns the word, with its features, if it is a value of an enum at this place.
    fn word(&self, word: &str) -> Option<(&'a str, &'a [String])> {
        self.types().into_iter().find_map(|Self { shape, .. }| {
            let word = shape.values().find(|other| *other == word)?;
            Some((word, shape.value_features(word)))
        })
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
