//! Peers that are not in the matrix, each with the reason why a verdict on other clients would be unfair.

use qemu_machine_tests::torture::Torture;

/// The reasons, each with its peers.
const LEFT_OUT: [(&str, &[&str]); 8] = [
    (
        "They are about a process that the client owns, and the other clients own none.",
        &[
            "g01_stall_at_connect",
            "g01_stall_at_shutdown",
            "g11_an_unknown_shutdown_reason",
            "g12_",
            "g16_",
            "a_shutdown_event_without_a_shutdown",
            "a_child_holds_the_monitor",
        ],
    ),
    ("It is about waiting for an event, which is not a step here.", &["g01_stall_at_event"]),
    (
        "They exceed a limit that only `qemu-machine-blocking` has, and only the test sets.",
        &["g10_endless_blanks", "g10_a_reply_too_large", "g10_a_pretty_reply_too_large"],
    ),
    (
        "Neither JSON nor QMP defines their meaning, so an answer is as right as an error.",
        &["two_returns", "two_ids", "one_key_twice", "an_event_that_returns"],
    ),
    (
        "They break the protocol where `qemu-machine-blocking` is lenient, and to refuse them is as right.",
        &[
            "greets_four_times",
            "greets_with_nameless_capabilities",
            "greets_without_capabilities",
            "invalid_utf8_in_an_ignored_member",
        ],
    ),
    (
        "The effect of a reset depends on its timing, so a cell would be random. (At times, `qapi` on tokio panics.)",
        &["resets", "resets_in_a_message"],
    ),
    ("They are about the display of texts, and the matrix compares answers.", &["g32_"]),
    ("`qemu-machine-blocking` needs line ends here, and a client that does not is better.", &["no_end_of_a_line"]),
];

/// The peers that only a client with ids can handle.
const BY_ID: [&str; 16] = [
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
    "foreign_replies_in_the_negotiation",
    "a_nameless_error_in_the_negotiation",
    "g19_a_thousand_nameless_errors",
    "errors_for_a_nested_request",
];

/// Returns whether a peer has this name, or begins with it if it ends with `_`.
fn is_called(torture: &Torture, name: &str) -> bool {
    torture.name == name || (name.ends_with('_') && torture.name.starts_with(name))
}

/// Returns whether a peer is in the matrix.
pub fn is_in(torture: &Torture) -> bool {
    !LEFT_OUT.iter().flat_map(|(_, names)| *names).any(|name| is_called(torture, name))
}

/// Returns whether a client that sends no ids cannot handle a peer.
pub fn is_by_id(torture: &Torture) -> bool {
    BY_ID.contains(&torture.name)
}

/// Returns the reasons, as lines of a Markdown list.
pub fn reasons(tortures: &[Torture]) -> Vec<String> {
    let line = |(why, names): &(&str, &[&str])| {
        let called = |torture: &&Torture| names.iter().any(|name| is_called(torture, name));
        let names: Vec<_> = tortures.iter().filter(called).map(|torture| format!("`{}`", torture.name)).collect();
        format!("- {why} {}", names.join(", "))
    };
    LEFT_OUT.iter().map(line).collect()
}
