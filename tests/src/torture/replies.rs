//! Decides how a peer answers wrongly: under the wrong id, twice, or with something that is no answer.

use super::{BROKEN, DONE, HAPPENED, LAST, LATE, QUIT, SECOND, Step, Torture};
use crate::scripted::Script;

const NAMELESS: &str = r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#;

pub(super) fn all() -> Vec<Torture> {
    [ids(), late(), errors(), envelopes(), values()].concat()
}

/// The first command is answered by this line and nothing else.
fn answers(name: &'static str, plays: &'static str, line: &str, told: &[&str]) -> Torture {
    Torture::once(name, plays, Script::new().line(line).ignore(), told)
}

/// The first command is not answered as far as anybody can tell.
fn misses(name: &'static str, plays: &'static str, line: &str) -> Torture {
    let torture = answers(name, plays, line, &[LATE, "counted: unmatched 1"]).impatient(&[Step::First]);
    let told: Vec<_> = torture.tells.iter().map(String::as_str).chain(["end: 1 without a reply"]).collect();
    torture.clone().tells(&told)
}

fn ids() -> Vec<Torture> {
    vec![
        misses("g02_a_string_for_an_id", "Gives the id back as text.", r#"{"return": 1, "id": "$id"}"#),
        misses("g02_a_fraction_for_an_id", "Gives the id back as a fraction.", r#"{"return": 1, "id": $id.0}"#),
        misses("g02_a_huge_id", "Gives back an id that is larger than any.", r#"{"return": 1, "id": 4294967296$id}"#),
        misses("g02_a_negative_id", "Gives the id back with a sign.", r#"{"return": 1, "id": -$id}"#),
        misses("g02_an_infinite_id", "Gives back an id beyond all numbers.", r#"{"return": 1, "id": 1e400}"#),
        misses("g02_a_list_for_an_id", "Gives the id back in a list.", r#"{"return": 1, "id": [$id]}"#),
        misses("g02_null_for_an_id", "Gives back no id, but says so.", r#"{"return": 1, "id": null}"#),
        misses("g02_no_id", "Gives back no id.", r#"{"return": 1}"#),
        misses("g02_an_unknown_id", "Gives back the id of a command that nobody sent.", r#"{"return": 1, "id": 7$id}"#),
        misses("g02_the_next_id", "Gives back the id of the next command.", r#"{"return": 1, "id": 2}"#),
        Torture::once(
            "g02_answers_twice",
            "Gives the same answer twice.",
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
        at("g02_late_before_the_next", "Answers late, before it answers the next.", script(one, two)),
        at("g02_late_behind_the_next", "Answers late, behind the answer to the next.", script(two, one)),
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
            "Answers one command by a thousand errors.",
            thousand,
            &["refused: C: d", "counted: unmatched 999"],
        ),
        Torture::once(
            "g19_a_thousand_nameless_errors",
            "Complains a thousand times of nobody's command before it answers.",
            nameless,
            &["reply: 1", "counted: nameless 1000"],
        ),
        Torture::new("g19_a_nameless_error", "Could not read the command that the caller wrote.", raw)
            .tells(&["launched", "reply: 1", error, HAPPENED, LAST, QUIT[0], QUIT[1]]),
        answers(
            "g11_an_error_of_tomorrow",
            "Refuses for a class of reasons that nobody knows.",
            r#"{"error": {"class": "Tuesday", "desc": "not today", "hint": {"try": "tomorrow"}}, "id": $id, "x": 1}"#,
            &["refused: Tuesday: not today"],
        ),
        answers(
            "an_error_without_words",
            "Refuses and does not say why.",
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
            "Succeeds and fails.",
            r#"{"return": 1, "error": {"class": "C", "desc": "d"}, "id": $id}"#,
        ),
        broken("neither_return_nor_error", "Neither succeeds nor fails.", r#"{"id": $id}"#),
        broken("an_empty_object", "Answers with an empty object.", "{}"),
        broken("a_list_for_a_message", "Answers with a list.", r#"["return", 1]"#),
        broken("a_number_for_a_message", "Answers with a number.", "1"),
        broken("null_for_a_message", "Answers with null.", "null"),
        broken("a_text_for_an_error", "Has a text for an error.", r#"{"error": "no", "id": $id}"#),
        broken("a_list_for_an_error", "Has a list for an error.", r#"{"error": ["C", "d"], "id": $id}"#),
        broken(
            "a_number_for_a_class",
            "Has a number for a class.",
            r#"{"error": {"class": 1, "desc": "d"}, "id": $id}"#,
        ),
        broken("two_returns", "Returns two things at once.", r#"{"return": 1, "return": 2, "id": $id}"#),
        broken("two_ids", "Answers two commands at once.", r#"{"return": 1, "id": $id, "id": 2}"#),
        broken("a_member_without_a_value", "Forgets what it returns.", r#"{"return": , "id": $id}"#),
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
            "g11_members_of_tomorrow",
            "Returns more than anybody asked for.",
            r#"{"return": {"state": "levitating", "since": 99}, "id": $id, "took": 0.5, "__com.example_x": [{}]}"#,
            &[r#"reply: {"since":99,"state":"levitating"}"#],
        ),
        answers(
            "one_key_twice",
            "Returns an object with two values for one key.",
            r#"{"return": {"a": 1, "a": 2}, "id": $id}"#,
            &[r#"reply: {"a":2}"#],
        ),
        answers(
            "a_number_beyond_all",
            "Returns a number that no type holds.",
            r#"{"return": 1e400, "id": $id}"#,
            &[unexpected],
        ),
        answers(
            "half_a_character",
            "Returns half of a surrogate pair.",
            r#"{"return": "\ud83d", "id": $id}"#,
            &[unexpected],
        ),
        answers(
            "inf_for_a_number",
            "Returns what QEMU makes of 1e400.",
            r#"{"return": inf, "id": $id}"#,
            &[BROKEN, "counted: malformed 1"],
        ),
        answers("nan_for_a_number", "Returns NaN.", r#"{"return": NaN, "id": $id}"#, &[BROKEN, "counted: malformed 1"]),
        Torture::once("g10_two_megabytes", "Returns two megabytes.", large, &["reply: a text of 2000000 characters"]),
        Torture::once("a_bomb_of_brackets", "Returns 100,000 lists in each other.", deep("[", "]"), &[unexpected]),
        Torture::once(
            "a_bomb_of_braces",
            "Returns 100,000 objects in each other.",
            deep("{\"\":", "}"),
            &[BROKEN, "counted: malformed 1"],
        ),
    ]
}
