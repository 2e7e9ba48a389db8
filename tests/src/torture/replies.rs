//! Peers that reply wrongly: with a wrong id, twice, late, or with a message that is no reply.

use super::{BROKEN, DONE, HAPPENED, LAST, LATE, QUIT, SECOND, Step, Torture};
use crate::scripted::Script;

const NAMELESS: &str = r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#;

pub(super) fn all() -> Vec<Torture> {
    [ids(), late(), errors(), envelopes(), values()].concat()
}

/// A peer that answers the first command with this line and nothing else.
fn answers(name: &'static str, plays: &'static str, line: &str, told: &[&str]) -> Torture {
    Torture::once(name, plays, Script::new().line(line).ignore(), told)
}

/// A peer whose answer to the first command has no usable id, so that the command times out.
fn misses(name: &'static str, plays: &'static str, line: &str) -> Torture {
    let torture = answers(name, plays, line, &[LATE, "counted: unmatched 1"]).impatient(&[Step::First]);
    let told: Vec<_> = torture.tells.iter().map(String::as_str).chain(["end: 1 without a reply"]).collect();
    torture.clone().tells(&told)
}

fn ids() -> Vec<Torture> {
    vec![
        misses("g02_a_string_for_an_id", "Returns the id as a string.", r#"{"return": 1, "id": "$id"}"#),
        misses(
            "g02_a_fraction_for_an_id",
            "Returns the id as a number with a fraction.",
            r#"{"return": 1, "id": $id.0}"#,
        ),
        misses(
            "g02_a_huge_id",
            "Returns an id that is larger than any that was sent.",
            r#"{"return": 1, "id": 4294967296$id}"#,
        ),
        misses("g02_a_negative_id", "Returns the negated id.", r#"{"return": 1, "id": -$id}"#),
        misses("g02_an_infinite_id", "Returns 1e400 for the id.", r#"{"return": 1, "id": 1e400}"#),
        misses("g02_a_list_for_an_id", "Returns the id in a list.", r#"{"return": 1, "id": [$id]}"#),
        misses("g02_null_for_an_id", "Returns null for the id.", r#"{"return": 1, "id": null}"#),
        misses("g02_no_id", "Omits the id.", r#"{"return": 1}"#),
        misses("g02_an_unknown_id", "Returns the id of a command that was not sent.", r#"{"return": 1, "id": 7$id}"#),
        misses("g02_the_next_id", "Returns the id of the next command.", r#"{"return": 1, "id": 2}"#),
        Torture::once(
            "g02_answers_twice",
            "Sends the same reply twice.",
            Script::new().repeat(2, "{\"return\": 1, \"id\": $id}\r\n").ignore(),
            &["reply: 1", "counted: unmatched 1"],
        ),
    ]
}

fn late() -> Vec<Torture> {
    let at = |name, plays, script: Script| {
        let told = ["launched", LATE, SECOND, HAPPENED, LAST, "counted: late 1", QUIT[0], QUIT[1]];
        let script = Script::launched().hear().hear().and(script).event(DONE).obey();
        Torture::new(name, plays, script)
            .impatient(&[Step::First])
            .tells(&[&told[..], &["end: 1 without a reply"]].concat())
    };
    let (one, two) = (r#"{"return": 1, "id": 1}"#, r#"{"return": 2, "id": 2}"#);
    let script = |first: &str, then: &str| Script::new().line(first).line(then).ignore().ignore();
    vec![
        at("g02_late_before_the_next", "Replies late, before its reply to the next command.", script(one, two)),
        at("g02_late_behind_the_next", "Replies late, after its reply to the next command.", script(two, one)),
    ]
}

fn errors() -> Vec<Torture> {
    let thousand =
        Script::new().repeat(1000, "{\"error\": {\"class\": \"C\", \"desc\": \"d\"}, \"id\": $id}\r\n").ignore();
    let nameless = Script::new().repeat(1000, &format!("{NAMELESS}\r\n")).reply("1");
    let raw = Script::launched().hear().reply("1").hear().line(NAMELESS).ignore().event(DONE).obey();
    let error = "reply: {\"error\":{\"class\":\"GenericError\",\"desc\":\"JSON parse error\"}}";
    vec![
        Torture::once(
            "g02_a_thousand_errors",
            "Replies to one command with a thousand errors.",
            thousand,
            &["refused: C: d", "counted: unmatched 999"],
        ),
        Torture::once(
            "g19_a_thousand_nameless_errors",
            "Sends a thousand errors without an id before its reply.",
            nameless,
            &["reply: 1", "counted: nameless 1000"],
        ),
        Torture::new(
            "g19_a_nameless_error",
            "Replies to a raw command with an error without an id, as to one that it cannot parse.",
            raw,
        )
        .tells(&["launched", "reply: 1", error, HAPPENED, LAST, QUIT[0], QUIT[1]]),
        answers(
            "g11_an_unknown_error_class",
            "Refuses with an unknown error class and unknown members.",
            r#"{"error": {"class": "Tuesday", "desc": "not today", "hint": {"try": "tomorrow"}}, "id": $id, "x": 1}"#,
            &["refused: Tuesday: not today"],
        ),
        answers(
            "g32_a_refusal_that_controls_a_terminal",
            "Refuses with escape sequences, a bidirectional control and line feeds.",
            r#"{"error": {"class": "\u001b]52;c;cm0=\u0007", "desc": "\u001b[2J\u009b\n\u202eFORGED\u007f"}, "id": $id}"#,
            &[r"refused: \u{1b}]52;c;cm0=\u{7}: \u{1b}[2J\u{9b}\n\u{202e}FORGED\u{7f}"],
        ),
        answers(
            "an_error_without_class_and_desc",
            "Refuses with an empty error object.",
            r#"{"error": {}, "id": $id}"#,
            &["refused: : "],
        ),
    ]
}

fn envelopes() -> Vec<Torture> {
    let broken = |name, plays, line| answers(name, plays, line, &[BROKEN, "counted: malformed 1"]);
    vec![
        broken(
            "return_and_error",
            "Replies with both `return` and `error`.",
            r#"{"return": 1, "error": {"class": "C", "desc": "d"}, "id": $id}"#,
        ),
        broken("neither_return_nor_error", "Replies with neither `return` nor `error`.", r#"{"id": $id}"#),
        broken("an_empty_object", "Replies with an empty object.", "{}"),
        broken("a_list_for_a_message", "Replies with a list.", r#"["return", 1]"#),
        broken("a_number_for_a_message", "Replies with a number.", "1"),
        broken("null_for_a_message", "Replies with null.", "null"),
        broken("a_text_for_an_error", "Sends a string for the error object.", r#"{"error": "no", "id": $id}"#),
        broken("a_list_for_an_error", "Sends a list for the error object.", r#"{"error": ["C", "d"], "id": $id}"#),
        broken(
            "a_number_for_a_class",
            "Sends a number for the error class.",
            r#"{"error": {"class": 1, "desc": "d"}, "id": $id}"#,
        ),
        broken("two_returns", "Replies with two `return` members.", r#"{"return": 1, "return": 2, "id": $id}"#),
        broken("two_ids", "Replies with two `id` members.", r#"{"return": 1, "id": $id, "id": 2}"#),
        broken("a_member_without_a_value", "Omits the value of `return`.", r#"{"return": , "id": $id}"#),
    ]
}

fn values() -> Vec<Torture> {
    let large = Script::new().say("{\"return\": \"").repeat(2000, &"x".repeat(1000)).line("\", \"id\": $id}").ignore();
    let deep = |open: &str, close: &str| {
        Script::new().say("{\"return\": ").repeat(100_000, open).repeat(100_000, close).line(", \"id\": $id}").ignore()
    };
    let unexpected = "unexpected reply: not readable as a value";
    vec![
        answers("null_for_a_value", "Returns null.", r#"{"return": null, "id": $id}"#, &["reply: null"]),
        answers(
            "g11_unknown_members",
            "Replies with unknown members.",
            r#"{"return": {"state": "levitating", "since": 99}, "id": $id, "took": 0.5, "__com.example_x": [{}]}"#,
            &[r#"reply: {"since":99,"state":"levitating"}"#],
        ),
        answers(
            "one_key_twice",
            "Returns an object with two values for one key.",
            r#"{"return": {"a": 1, "a": 2}, "id": $id}"#,
            &[r#"reply: {"a":2}"#],
        ),
        answers("a_number_out_of_range", "Returns the number 1e400.", r#"{"return": 1e400, "id": $id}"#, &[unexpected]),
        answers(
            "half_a_surrogate_pair",
            "Returns half of a surrogate pair.",
            r#"{"return": "\ud83d", "id": $id}"#,
            &[unexpected],
        ),
        answers(
            "inf_for_a_number",
            "Returns `inf`, which QEMU prints for 1e400.",
            r#"{"return": inf, "id": $id}"#,
            &[BROKEN, "counted: malformed 1"],
        ),
        answers("nan_for_a_number", "Returns NaN.", r#"{"return": NaN, "id": $id}"#, &[BROKEN, "counted: malformed 1"]),
        Torture::once("g10_two_megabytes", "Returns two megabytes.", large, &["reply: a text of 2000000 characters"]),
        Torture::once("deeply_nested_lists", "Returns 100,000 nested lists.", deep("[", "]"), &[unexpected]),
        Torture::once(
            "deeply_nested_objects",
            "Returns 100,000 nested objects.",
            deep("{\"\":", "}"),
            &[BROKEN, "counted: malformed 1"],
        ),
    ]
}
