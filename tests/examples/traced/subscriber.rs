//! Subscriber that prints each event: level, target, machine, its process, message and fields, separated by tabs. The last
//! field is the span in which the machine was launched, if there is one.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Prints every event of the library, whatever its level.
#[derive(Debug, Default)]
pub(crate) struct Printing(Mutex<Vec<Fields>>);

/// Fields by their names, in the order of their recording.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, String)>);

/// The function whose text is printed at each event of the wire. `None` means that nothing is.
static SHOWN: Mutex<Option<Box<dyn Fn() -> String + Send>>> = Mutex::new(None);

thread_local! {
    /// The spans that this thread has entered, the innermost last.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Calls `act`, and meanwhile prints the text of `show` at each event of the wire.
pub(crate) fn while_shown<T>(show: impl Fn() -> String + Send + 'static, act: impl FnOnce() -> T) -> T {
    let set = |show| std::mem::replace(&mut *SHOWN.lock().unwrap_or_else(PoisonError::into_inner), show);
    set(Some(Box::new(show)));
    let done = act();
    // Dropped without the lock: the drop of the function may itself log an event, and would deadlock.
    drop(set(None));
    done
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| *other == name).map_or("-", |(_, value)| value)
    }

    fn without(&self, name: &str) -> String {
        let others = self.0.iter().filter(|(other, _)| *other != name);
        others.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\t")
    }
}

impl Subscriber for Printing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("qemu_machine::")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let around = INSIDE.with_borrow(|inside| inside.last().copied());
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(around) = around {
            let name = spans[around as usize - 1].get("name").to_owned();
            fields.0.push(("around", name));
        }
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.record(&mut spans[span.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let inside = INSIDE.with_borrow(|inside| inside.last().copied());
        let (machine, pid) = inside.map_or_else(Default::default, |inside| {
            let spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let span = &spans[inside as usize - 1];
            fields.0.extend(span.0.iter().filter(|(name, _)| *name == "around").cloned());
            (span.get("name").to_owned(), span.get("pid").to_owned())
        });
        let message = fields.get("message");
        println!("{level}\t{target}\t{machine}\t{pid}\t{message}\t{}", fields.without("message"));
        if target == "qemu_machine::wire" {
            if let Some(show) = &*SHOWN.lock().unwrap_or_else(PoisonError::into_inner) {
                println!("shown\t{}", show());
            }
        }
    }

    fn enter(&self, span: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        INSIDE.with_borrow_mut(|inside| {
            let place = inside.iter().rposition(|other| *other == span.into_u64());
            place.map(|place| inside.remove(place))
        });
    }
}
