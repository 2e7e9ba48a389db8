//! Counter of work for the tests of this crate: how many commands, waits, tokens and bytes were looked at.
//!
//! Times vary with the load of the host, and these counts do not. Other builds count nothing.

#[cfg(test)]
std::thread_local! {
    static COUNT: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// Adds to the count.
#[inline(always)]
pub(crate) fn count(steps: usize) {
    #[cfg(test)]
    COUNT.with(|count| count.set(count.get() + steps));
    let _ = steps;
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::prelude::v1::*;

    use crate::{
        Channel, Config, Deadline, Descriptor, Effect, FOREVER, Input, Machine, Mark, Moment, OutOfBand, Peer,
        Prepared, Value, Wait, json,
    };

    const NOW: Moment = Moment::ORIGIN;
    const LONG: Deadline = Deadline::after(core::time::Duration::from_secs(60));

    /// Returns how much work an action is.
    fn work(act: impl FnOnce()) -> usize {
        let before = super::COUNT.get();
        act();
        super::COUNT.get() - before
    }

    /// Asserts that an action on a machine is the same work, apart from a few steps, however many commands or waits
    /// there are.
    fn assert_constant(what: &str, prepared: impl Fn(usize) -> Machine, act: impl Fn(&mut Machine)) {
        let works = [10, 1_000, 8_000].map(|many| {
            let mut machine = prepared(many);
            work(|| act(&mut machine))
        });
        assert!(works.iter().all(|work| work.abs_diff(works[0]) <= 4), "{what}: {works:?}");
    }

    fn receive(machine: &mut Machine, line: impl AsRef<[u8]>) {
        machine.handle(NOW, Input::Received(Channel::Monitor, &[line.as_ref(), b"\n"].concat()));
        while machine.poll_notice().is_some() {}
    }

    /// Returns a machine that is ready, with out-of-band execution where `capabilities` has it.
    fn ready(capabilities: &str) -> Machine {
        let mut machine = Machine::new(Config::attach(Peer::Connected(Descriptor::new(())))).unwrap();
        machine.launch(NOW).unwrap();
        while let Some(effect) = machine.poll_effect() {
            match effect {
                Effect::Prepare(_) => machine.handle(NOW, Input::Prepared(Prepared::default())),
                Effect::Open(channel) => machine.handle(NOW, Input::Opened(channel)),
                _ => {}
            }
        }
        let version = r#"{"qemu": {"major": 9, "minor": 0, "micro": 0}}"#;
        receive(&mut machine, format!(r#"{{"QMP": {{"version": {version}, "capabilities": [{capabilities}]}}}}"#));
        receive(&mut machine, r#"{"return": {}, "id": 0}"#);
        machine.sent(Channel::Monitor, usize::MAX);
        machine
    }

    /// Returns the id of the last command among the outgoing bytes, and counts these as sent.
    fn last_id(machine: &mut Machine) -> u64 {
        let sent = machine.outgoing(Channel::Monitor).to_vec();
        machine.sent(Channel::Monitor, usize::MAX);
        let text = String::from_utf8(sent).unwrap();
        text.rsplit(":").next().unwrap().trim_end_matches('}').parse().unwrap()
    }

    #[test]
    fn the_work_for_a_reply_does_not_depend_on_the_commands_in_flight() {
        for (what, capabilities) in [("one in flight, the others queued", ""), ("seven in flight", r#""oob""#)] {
            let queued = |many| {
                let mut machine = ready(capabilities);
                (0..many).for_each(|_| drop(machine.execute(NOW, &"query-status", LONG).unwrap()));
                machine
            };
            assert_constant(what, queued, |machine| receive(machine, r#"{"return": {}, "id": 1}"#));
            let error = r#"{"id": 1, "error": {"class": "GenericError", "desc": "no"}}"#;
            assert_constant(what, queued, |machine| receive(machine, error));
            assert_constant(what, queued, |machine| drop(machine.execute(NOW, &"query-status", LONG)));
            assert_constant(what, queued, |machine| {
                let _ = (machine.deadline(), machine.session().deadline());
            });
        }
        let on_the_wire = |many| {
            let mut machine = ready(r#""oob""#);
            (0..many).for_each(|_| drop(machine.execute(NOW, &OutOfBand("query-yank"), LONG).unwrap()));
            machine
        };
        assert_constant("the first of all on the wire", on_the_wire, |machine| {
            receive(machine, r#"{"return": {}, "id": 1}"#);
        });
        assert_constant("the last of all on the wire", on_the_wire, |machine| {
            let id = last_id(machine);
            receive(machine, format!(r#"{{"return": {{}}, "id": {id}}}"#));
        });
    }

    #[test]
    fn the_work_for_a_reply_does_not_depend_on_other_results() {
        let asked = |many: usize| {
            let mut machine = ready("");
            (0..many).for_each(|_| drop(machine.execute(NOW, &"query-status", LONG).unwrap()));
            machine
        };
        let next = |machine: &mut Machine| {
            let ticket = machine.execute(NOW, &"query-status", LONG).unwrap();
            let id = last_id(machine);
            receive(machine, format!(r#"{{"return": {{}}, "id": {id}}}"#));
            assert!(machine.claim(&ticket).is_some());
        };
        // The ids are given in the order 1 to 9, 0, 10, 11 and so on.
        let unclaimed = |many| {
            let mut machine = asked(many);
            (0..many).for_each(|id| receive(&mut machine, format!(r#"{{"return": {{}}, "id": {id}}}"#)));
            assert!(machine.has_unclaimed());
            machine
        };
        assert_constant("answers that are not claimed", unclaimed, next);
        let disowned = |many| {
            let mut machine = ready("");
            let tickets: Vec<_> = (0..many).map(|_| machine.execute(NOW, &"query-status", LONG).unwrap()).collect();
            tickets.iter().for_each(|ticket| machine.disown(ticket.id()));
            machine
        };
        assert_constant("commands that were disowned", disowned, next);
        assert_constant("a reply without an id", asked, |machine| receive(machine, r#"{"return": {}}"#));
        assert_constant("an event", asked, |machine| receive(machine, r#"{"event": "STOP"}"#));
    }

    #[test]
    fn a_line_of_garbage_is_the_same_work_once_all_commands_have_failed() {
        let failed = |many| {
            let mut machine = ready("");
            machine.execute_raw(NOW, br#"{"execute": "a"}"#, FOREVER).map(drop).unwrap();
            receive(&mut machine, "{garbage}");
            (0..many).for_each(|_| receive(&mut machine, "{garbage}"));
            machine
        };
        assert_constant("garbage", failed, |machine| receive(machine, "{garbage}"));
    }

    #[test]
    fn the_work_for_an_event_does_not_depend_on_waits_for_other_things() {
        let waiting = |many: usize| {
            let mut machine = ready("");
            let pattern = |number| json!({"id": number});
            for number in 0..many {
                let wait = match number % 3 {
                    0 => Wait::event(format!("OTHER_{number}")),
                    1 => Wait::event("OTHER").with(pattern(number)),
                    _ => Wait::end(),
                };
                let _ = machine.wait(NOW, &Mark::default(), [wait], LONG).unwrap();
            }
            let _ = machine.wait(NOW, &Mark::default(), [Wait::event("STOP").with(pattern(1))], LONG).unwrap();
            machine
        };
        let event = r#"{"event": "STOP", "data": {"id": 1, "more": [{}, {}]}}"#;
        assert_constant("an event with a wait", waiting, |machine| receive(machine, event));
        assert_constant("an event without one", waiting, |machine| receive(machine, r#"{"event": "RESUME"}"#));
        assert_constant("a new wait", waiting, |machine| {
            let _ = machine.wait(NOW, &machine.mark(), [Wait::event("RESUME")], LONG).unwrap();
        });
    }

    #[test]
    fn the_data_of_an_event_is_read_once_for_all_waits_and_subscriptions() {
        const LARGE: usize = 200_000;
        let items = ["{}"; LARGE].join(",");
        let event = format!(r#"{{"event": "LARGE", "data": {{"items": [{items}], "id": 1, "name": "x"}}}}"#);
        let works = [1, 4, 16].map(|many| {
            let mut machine = ready("");
            for number in 0..many {
                let pattern = json!({"id": 1 + number % 2, "name": "x"});
                machine.subscribe(&Mark::default(), [Wait::event("LARGE").with(pattern.clone())]).map(drop).unwrap();
                let _ = machine.wait(NOW, &Mark::default(), [Wait::any_event().with(pattern)], LONG).unwrap();
            }
            work(|| receive(&mut machine, &event))
        });
        // A token for each brace, one for each other part, and a few steps for each wait.
        assert!(works.iter().all(|work| *work < 2 * LARGE + 1_000), "{works:?}");
        // The history does not keep so large an event, so a later wait does not read it.
        let mut machine = ready("");
        receive(&mut machine, &event);
        let later = work(|| {
            let wait = Wait::event("LARGE").with(json!({"id": 2}));
            let _ = machine.wait(NOW, &Mark::default(), [wait], LONG).unwrap();
        });
        assert!(later < 100, "{later}");
    }

    #[test]
    fn a_line_without_an_end_is_searched_once() {
        const PIECES: usize = 1_000;
        let config = Config::new("qemu").serial("tty");
        for wait in [Wait::line("tty", "panic"), Wait::line("tty", "absent"), Wait::text("tty", "absent")] {
            let mut machine = Machine::new(config.clone()).unwrap();
            machine.launch(NOW).unwrap();
            let mut spawned = false;
            while let Some(effect) = machine.poll_effect() {
                match effect {
                    Effect::Prepare(_) => machine.handle(NOW, Input::Prepared(Prepared::default())),
                    Effect::Spawn(_) => machine.handle(NOW, Input::Spawned { pid: 7 }),
                    Effect::Open(channel) => machine.handle(NOW, Input::Opened(channel)),
                    _ => {}
                }
                spawned |= machine.pid().is_some();
            }
            assert!(spawned);
            let _ = machine.wait(NOW, &Mark::default(), [wait], FOREVER).unwrap();
            let piece = [b"panic ".as_slice(), &[b'x'; 250]].concat();
            let all = work(|| {
                (0..PIECES).for_each(|_| machine.handle(NOW, Input::Received(Channel::Console(0), &piece)));
            });
            assert!(all < 2 * PIECES * piece.len(), "{all}");
        }
    }

    /// Without a working counter, every number here would be a zero that proves nothing.
    #[test]
    fn the_counter_counts() {
        assert_eq!(work(|| super::count(3)), 3);
        let mut machine = ready("");
        let wait = Wait::event("STOP").with(Value::from(1));
        let _ = machine.wait(NOW, &Mark::default(), [wait], LONG).unwrap();
        assert!(work(|| receive(&mut machine, r#"{"event": "STOP", "data": [1, 2, 3]}"#)) >= 5);
    }
}
