//! Stories of the peers that misbehave: the client does the same with each of them, on every row.

use qemu_machine_core::{
    CommandError, Deadline, LaunchError, LaunchFailure, Mark, ProtocolError, RawReply, Shutdown, Value, Wait,
    WaitError, session::Counters,
};
use qemu_machine_tests::torture::{self, DONE, SHORT, Step, Torture};

use crate::harness::{Harness, Transcript, launch_stalled};
use crate::scripted::LONG;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scripted-qemu");

/// A client of one peer, with the transcript so far.
struct Client<'a, H> {
    torture: &'a Torture,
    machine: H,
    told: Transcript,
    connected: bool,
}

/// Launches the peer, runs the client, and returns the transcript.
fn suffer<H: Harness>(torture: &Torture) -> Transcript {
    let mut told = Transcript::default();
    let machine = match launch(torture) {
        Ok(machine) => machine,
        Err(error) => {
            not_launched(&mut told, &error);
            return told;
        }
    };
    told.note("launched");
    let mut client = Client::<H> { torture, machine, told, connected: true };
    client.run();
    client.told
}

fn launch<H: Harness>(torture: &Torture) -> Result<H, LaunchError> {
    let config = torture.config(PROGRAM);
    let Some(limit) = torture.patience(Step::Launch) else { return H::launch(config) };
    let expected = torture.tells.first().map_or("", String::as_str);
    launch_stalled(&config, limit, |phase| expected.ends_with(&phase.to_string()))
}

fn not_launched(told: &mut Transcript, error: &LaunchError) {
    match error {
        // Without the reason of the parser and the excerpt: they differ with the cut.
        LaunchError::Failed { failure: LaunchFailure::Broken(ProtocolError::Malformed { .. }), outcome } => {
            told.note("not launched: the monitor broke the protocol: not a QMP message");
            told.ended(outcome);
        }
        LaunchError::Failed { failure, outcome } => {
            told.note(format!("not launched: {failure}"));
            told.ended(outcome);
        }
        error => told.note(error),
    }
}

impl<H: Harness> Client<'_, H> {
    fn run(&mut self) {
        let first = self.machine.execute(self.torture.first(), self.patience(Step::First));
        self.reply(first);
        if self.connected {
            let second = match self.torture.patience(Step::Second) {
                Some(short) => self.machine.execute("second", short.into()),
                None => self.machine.execute_raw(r#"{"execute": "second"}"#).map(RawReply::into_value).map(without_id),
            };
            self.reply(second);
        }
        if self.event() {
            return;
        }
        if self.connected {
            let last = self.machine.execute("last", self.patience(Step::Last));
            self.reply(last);
            self.events();
            self.counters();
        }
        let how =
            self.torture.patience(Step::Shutdown).map_or(Shutdown::default(), |short| Shutdown::within(6 * short));
        self.told.outcome(self.machine.shutdown(how));
    }

    fn patience(&self, step: Step) -> Deadline {
        self.torture.patience(step).map_or(LONG, Deadline::after)
    }

    fn reply(&mut self, reply: Result<Value, CommandError>) {
        self.connected &= !matches!(reply, Err(CommandError::Disconnected(_)));
        self.told.note(match reply {
            Ok(Value::String(text)) if text.len() > 100 => format!("reply: a text of {} characters", text.len()),
            Ok(value) => format!("reply: {value}"),
            Err(CommandError::Refused(refusal)) => format!("refused: {}: {}", refusal.class, refusal.description),
            // Without the reason of the parser and the excerpt: they differ with the cut.
            Err(CommandError::Broken(ProtocolError::Malformed { .. })) => "broken: not a QMP message".into(),
            Err(CommandError::Broken(error)) => format!("broken: {error}"),
            Err(CommandError::Unexpected { .. }) => "unexpected reply: not readable as a value".into(),
            Err(error) => error.to_string(),
        });
    }

    /// Waits for the event, and returns whether the machine ended instead.
    fn event(&mut self) -> bool {
        let hit = self.machine.wait_any(&Mark::default(), &[Wait::event(DONE)], self.patience(Step::Event));
        match hit {
            Ok(_) => self.told.note(format!("event: {DONE}")),
            Err(WaitError::Ended(outcome)) => {
                self.told.note("the machine ended first");
                self.told.ended(&outcome);
                return true;
            }
            Err(WaitError::TimedOut) => self.told.note("nothing came"),
            Err(error) => self.told.note(error),
        }
        false
    }

    /// Notes the events in the history, in their order, and how many were evicted. A peer that sent only the awaited
    /// event needs no line.
    fn events(&mut self) {
        let mut events =
            self.machine.subscribe(&Mark::default(), &[Wait::any_event()]).expect("a subscription is allowed");
        let queued = self.machine.queued(&mut events);
        self.machine.unsubscribe(events);
        let hit = self.machine.wait_any(&Mark::default(), &[Wait::any_event()], SHORT.into());
        let forgotten = hit.map_or(0, |hit| hit.missed.events);
        let mut names: Vec<(&str, usize)> = Vec::new();
        for event in &queued {
            match names.last_mut() {
                Some((name, times)) if *name == event.name() => *times += 1,
                _ => names.push((event.name(), 1)),
            }
        }
        if names.iter().all(|(name, _)| *name == DONE) {
            return;
        }
        let named = |(name, times): &(&str, usize)| match times {
            1 => (*name).to_string(),
            times => format!("{times} times {name}"),
        };
        let forgotten = if forgotten > 0 { format!("; {forgotten} evicted") } else { String::new() };
        let names: Vec<_> = names.iter().map(named).collect();
        self.told.note(format!("events: {}{forgotten}", names.join(", ")));
    }

    /// Notes the counters of messages that no caller waited for.
    fn counters(&mut self) {
        let Counters { late, unmatched, malformed, too_large, nameless, .. } = self.machine.counters();
        let all = [
            ("late", late),
            ("malformed", malformed),
            ("nameless", nameless),
            ("too_large", too_large),
            ("unmatched", unmatched),
        ];
        let counted: Vec<_> =
            all.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what} {count}")).collect();
        if !counted.is_empty() {
            self.told.note(format!("counted: {}", counted.join(", ")));
        }
    }
}

/// The reply to a raw command, without the id that the session chose.
fn without_id(mut message: Value) -> Value {
    message.as_object_mut().map(|members| members.remove("id"));
    message
}

/// Plays the peer of this name.
fn play<H: Harness>(name: &'static str) {
    let torture = torture::all().into_iter().find(|torture| torture.name == name).expect("the peer is in the list");
    let told = qemu_machine_tests::bounded(move || (suffer::<H>(&torture), torture));
    assert_eq!(told.0.lines(), told.1.tells, "on the row {}", H::ROW);
}

/// Plays all peers of a kind, one after the other.
fn play_each<H: Harness>(kind: impl Iterator<Item = Torture> + Send + 'static) {
    qemu_machine_tests::bounded(move || {
        for torture in kind {
            let told = suffer::<H>(&torture);
            assert_eq!(told.lines(), torture.tells, "on the row {}, at {:?}", H::ROW, torture.script);
        }
    });
}

/// Defines one test for each name on one row, or lists the names.
macro_rules! each_name {
    ((names) $($name:ident)+) => {
        [$(stringify!($name)),+]
    };
    (($harness:ty) $($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                crate::torture::play::<$harness>(stringify!($name));
            }
        )+
    };
}
use each_name;

/// The peers that need a process, or a socket between two processes.
macro_rules! on_a_host {
    ($($what:tt)+) => {
        crate::torture::each_name! { ($($what)+)
            g01_stall_at_connect
            a_child_holds_the_monitor
            resets
            resets_in_a_message
        }
    };
}

macro_rules! anywhere {
    ($($what:tt)+) => {
        crate::torture::each_name! { ($($what)+)
            g01_stall_at_greeting
            g01_stall_in_greeting
            g01_stall_at_negotiation
            g01_stall_at_write
            g01_stall_at_reply
            g01_stall_in_reply
            g01_stall_in_event
            g01_stall_at_event
            g01_stall_at_shutdown
            g07_events_before_the_greeting
            g07_events_in_the_negotiation
            g07_events_around_a_reply
            g07_an_unreadable_event_in_the_negotiation
            greets_four_times
            foreign_replies_in_the_negotiation
            a_nameless_error_in_the_negotiation
            greets_byte_by_byte
            greets_on_many_lines
            g11_an_unknown_capability
            greets_with_nameless_capabilities
            greets_without_capabilities
            greets_without_a_version
            greets_with_an_odd_version
            greets_with_negative_numbers
            greets_with_odd_capabilities
            greets_with_a_list
            greets_with_nothing
            greets_as_ssh
            answers_unasked
            g10_an_endless_greeting
            refuses_the_negotiation
            garbage_for_a_negotiation
            g02_a_string_for_an_id
            g02_a_fraction_for_an_id
            g02_a_huge_id
            g02_a_negative_id
            g02_an_infinite_id
            g02_a_list_for_an_id
            g02_null_for_an_id
            g02_no_id
            g02_an_unknown_id
            g02_the_next_id
            g02_answers_twice
            g02_late_before_the_next
            g02_late_behind_the_next
            g02_a_thousand_errors
            g19_a_thousand_nameless_errors
            g19_a_nameless_error
            g11_an_unknown_error_class
            g32_a_refusal_that_controls_a_terminal
            an_error_without_class_and_desc
            return_and_error
            neither_return_nor_error
            an_empty_object
            a_list_for_a_message
            a_number_for_a_message
            null_for_a_message
            a_text_for_an_error
            a_list_for_an_error
            a_number_for_a_class
            two_returns
            two_ids
            a_member_without_a_value
            null_for_a_value
            g11_unknown_members
            one_key_twice
            a_number_out_of_range
            half_a_surrogate_pair
            inf_for_a_number
            nan_for_a_number
            g10_two_megabytes
            deeply_nested_lists
            deeply_nested_objects
            each_byte_by_itself
            many_messages_in_one_write
            a_pretty_reply
            a_pretty_reply_byte_by_byte
            line_feeds_alone
            many_empty_lines
            no_end_of_a_line
            invalid_utf8_in_a_value
            invalid_utf8_in_an_ignored_member
            garbage
            nul_bytes
            ff_bytes
            an_ff_before_a_reply
            an_open_brace
            an_open_text
            closing_brackets
            a_line_of_brackets
            g10_an_endless_line
            g10_endless_blanks
            g10_a_reply_too_large
            g10_a_pretty_reply_too_large
            g11_an_unknown_event
            g11_a_time_of_minus_one
            g11_no_time
            g11_a_time_in_words
            g11_a_time_out_of_range
            an_event_with_an_id
            an_event_that_returns
            an_event_without_data
            an_event_with_odd_data
            g09_a_flood_of_events
            deeply_nested_event_data
            an_event_without_a_name
            an_event_with_inf
            an_event_with_two_names
            g04_death_at_once
            g04_exit_0_without_output
            exit_0_under_a_command
            killed_in_a_message
            exit_in_a_message
            g16_prints_many_lines_and_exits
            hangs_up
            hangs_up_in_a_message
            g12_quit_refused
            g12_quit_and_stay
            g12_quit_without_an_answer
            g12_quit_with_garbage
            g12_quit_and_hang_up
            a_shutdown_event_without_a_shutdown
            g12_immune_to_sigterm
            g11_an_unknown_shutdown_reason
            g16_prints_no_line_ends
            g16_prints_many_lines
        }
    };
}

macro_rules! deaths {
    ($harness:ty) => {
        #[test]
        fn g04_death_at_each_byte_of_the_handshake() {
            crate::torture::play_each::<$harness>(qemu_machine_tests::torture::in_the_handshake());
        }

        #[test]
        fn g04_death_at_each_byte_of_an_event() {
            crate::torture::play_each::<$harness>(qemu_machine_tests::torture::in_an_event());
        }

        #[test]
        fn g04_death_at_each_byte_of_a_reply() {
            crate::torture::play_each::<$harness>(qemu_machine_tests::torture::in_a_reply());
        }
    };
}

mod on_a_host {
    crate::rows!(on_a_host);
}

mod anywhere {
    crate::rows!(anywhere, in_world);
}

mod deaths {
    crate::rows!(deaths, in_world);
}

/// A peer that no test plays would prove nothing.
#[test]
fn all_are_played() {
    let mut played = [&anywhere!(names)[..], &on_a_host!(names)[..]].concat();
    let mut all: Vec<_> = torture::all().iter().map(|torture| torture.name).collect();
    played.sort_unstable();
    all.sort_unstable();
    assert_eq!(played, all);
}
