//! Decides which peers are not in the matrix, and why: where a client is not to blame for what it does, or cannot be.

use qemu_machine_tests::torture::Torture;

/// Peers, and why other clients do not meet them.
const LEFT_OUT: [(&str, &[&str]); 7] = [
    (
        "They are about a process that the client owns, and the others own none.",
        &[
            "g01_stall_at_connect",
            "g01_stall_at_shutdown",
            "g11_a_reason_of_tomorrow",
            "g12_",
            "g16_",
            "shutdown_and_nothing",
            "a_child_holds_the_monitor",
        ],
    ),
    ("It is about waiting for an event, which is no step here.", &["g01_stall_at_event"]),
    (
        "They are too large by a bound that only we have and only the test sets.",
        &["g10_endless_blanks", "g10_a_reply_too_large", "g10_a_pretty_reply_too_large"],
    ),
    (
        "Neither JSON nor QMP says what they mean, so an answer is as right as an error.",
        &["two_returns", "two_ids", "one_key_twice", "an_event_that_returns"],
    ),
    (
        "They break the protocol where we happen to be lenient, and to refuse them is as right.",
        &[
            "greets_four_times",
            "greets_with_nameless_capabilities",
            "greets_without_capabilities",
            "invalid_utf8_where_nobody_looks",
        ],
    ),
    (
        "What is seen of a reset depends on its moment, so a cell would be luck. (At some, `qapi` on tokio panics twice.)",
        &["resets", "resets_in_a_message"],
    ),
    ("We need lines here, and a client that does not is better.", &["no_end_of_a_line"]),
];

/// Peers at which it is the id that matters.
const BY_ID: [&str; 15] = [
    "g02_a_string_for_an_id",
    "g02_a_fraction_for_an_id",
    "g02_a_huge_id",
    "g02_a_negative_id",
    "g02_an_infinite_id",
    "g02_a_list_for_an_id",
    "g02_null_for_an_id",
    "g02_no_id",
    "g02_an_unknown_id",
    "g02_the_next_id",
    "g02_answers_twice",
    "g02_a_thousand_errors",
    "replies_of_others_in_the_negotiation",
    "a_nameless_error_in_the_negotiation",
    "g19_a_thousand_nameless_errors",
];

/// A name, or the beginning of many.
fn is_called(torture: &Torture, name: &str) -> bool {
    torture.name == name || (name.ends_with('_') && torture.name.starts_with(name))
}

/// Whether it is in the matrix.
pub fn is_in(torture: &Torture) -> bool {
    !LEFT_OUT.iter().flat_map(|(_, names)| *names).any(|name| is_called(torture, name))
}

/// Whether a client that sends no ids cannot do anything about it.
pub fn is_by_id(torture: &Torture) -> bool {
    BY_ID.contains(&torture.name)
}

/// The reasons, as a list.
pub fn reasons(tortures: &[Torture]) -> Vec<String> {
    let line = |(why, names): &(&str, &[&str])| {
        let called = |torture: &&Torture| names.iter().any(|name| is_called(torture, name));
        let names: Vec<_> = tortures.iter().filter(called).map(|torture| format!("`{}`", torture.name)).collect();
        format!("- {why} {}", names.join(", "))
    };
    LEFT_OUT.iter().map(line).collect()
}
