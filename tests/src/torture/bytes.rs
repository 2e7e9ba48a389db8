//! Peers with malformed output: garbage, lines without an end, and messages in unusual pieces.

use qemu_machine_core::{Config, Limits};

use super::{BROKEN, DONE, HAPPENED, LAST, QUIT, SECOND, Torture};
use crate::scripted::Script;

const REPLY: &str = "{\"return\": 1, \"id\": $id}";

/// Limits a message to 64 KiB.
pub(super) fn small(config: Config) -> Config {
    let mut limits = Limits::default();
    limits.message = 64 << 10;
    config.limits(limits)
}

pub(super) fn all() -> Vec<Torture> {
    [cuts(), garbage(), endless()].concat()
}

fn cuts() -> Vec<Torture> {
    let fine = |name, plays, script: Script| Torture::once(name, plays, script.ignore(), &["reply: 1"]);
    let pretty = "{\r\n    \"return\": 1,\r\n    \"id\": $id\r\n}\r\n";
    let event = |name| format!("{{\"timestamp\": {{\"seconds\": 1, \"microseconds\": 2}}, \"event\": \"{name}\"}}\r\n");
    let joined = [event("STOP"), event("WAKEUP"), format!("{REPLY}\r\n"), event("SUSPEND")].concat();
    let nothing = Script::launched().hear().say(REPLY).ignore().event("STOP").hear().reply("2").event(DONE).obey();
    vec![
        fine("each_byte_by_itself", "Writes a reply byte by byte.", Script::new().drip(&format!("{REPLY}\r\n"))),
        Torture::once(
            "many_messages_in_one_write",
            "Writes four messages at once.",
            Script::new().say(&joined).ignore(),
            &["reply: 1", "events: STOP, WAKEUP, SUSPEND, RESUME"],
        ),
        fine("a_pretty_reply", "Writes a reply on four lines, as with `pretty=on`.", Script::new().say(pretty)),
        fine(
            "a_pretty_reply_byte_by_byte",
            "Writes a reply on four lines, as with `pretty=on`, byte by byte.",
            Script::new().drip(pretty),
        ),
        fine(
            "line_feeds_alone",
            "Ends its lines with a line feed alone, as a guest agent does.",
            Script::new().say(&format!("{REPLY}\n")),
        ),
        fine(
            "many_empty_lines",
            "Writes ten thousand empty lines before its reply.",
            Script::new().repeat(10_000, " \r\n").line(REPLY),
        ),
        Torture::new("no_end_of_a_line", "Writes an event after a reply, on the same line.", nothing).tells(&[
            "launched",
            BROKEN,
            SECOND,
            HAPPENED,
            LAST,
            "counted: malformed 1",
            QUIT[0],
            QUIT[1],
        ]),
    ]
}

fn garbage() -> Vec<Torture> {
    let broken = |name, plays, script: Script| {
        Torture::once(name, plays, script.reply("1"), &[BROKEN, "counted: late 1, malformed 1"])
    };
    let invalid = Torture::once(
        "invalid_utf8_in_a_value",
        "Returns a string that is not UTF-8.",
        Script::new().say("{\"return\": \"").bytes(b"\xc3\x28\xff").line("\", \"id\": $id}").ignore(),
        &[BROKEN, "counted: malformed 1"],
    );
    let ignored = Torture::once(
        "invalid_utf8_in_an_ignored_member",
        "Adds an unknown member that is not UTF-8 to its reply.",
        Script::new().say("{\"return\": 1, \"x\": \"").bytes(b"\xc3\x28\xff").line("\", \"id\": $id}").ignore(),
        &["reply: 1"],
    );
    vec![
        broken("garbage", "Writes a line of log output.", Script::new().line("qemu-system-x86_64: warning: TCG")),
        broken("nul_bytes", "Writes NUL bytes.", Script::new().bytes(&[0; 300]).say("\r\n")),
        broken(
            "ff_bytes",
            "Writes 0xFF bytes, which never occur in UTF-8.",
            Script::new().bytes(&[0xFF; 300]).say("\r\n"),
        ),
        broken("an_open_brace", "Writes a line with an object that is not closed.", Script::new().line("{ garbage")),
        broken(
            "an_open_text",
            "Writes a line with a string that is not closed.",
            Script::new().line("{\"return\": \"never closed"),
        ),
        broken("closing_brackets", "Writes closing brackets that were never opened.", Script::new().line("]}]}]}")),
        broken(
            "a_line_of_brackets",
            "Writes 100,000 opening brackets.",
            Script::new().repeat(100_000, "[").say("\r\n"),
        ),
        invalid,
        ignored,
        Torture::once(
            "an_ff_before_a_reply",
            "Writes 0xFF before a reply, as a guest agent does after `guest-sync-delimited`.",
            Script::new().bytes(&[0xFF]).line(REPLY).ignore(),
            &[BROKEN, "counted: malformed 1"],
        ),
    ]
}

fn endless() -> Vec<Torture> {
    let told = ["broken: a message is longer than 65536 bytes", "counted: late 1, too_large 1"];
    let beyond = |name, plays, script: Script| Torture::once(name, plays, script.reply("1"), &told).with(small);
    let filler = "x".repeat(1000);
    let large = Script::new().say("{\"return\": \"").repeat(100, &filler).line("\", \"id\": $id}").ignore();
    let pretty = Script::new().say("{\r\n    \"return\": [\r\n").repeat(5000, "        \"filler\",\r\n");
    vec![
        beyond(
            "g10_an_endless_line",
            "Writes a line of ten megabytes.",
            Script::new().repeat(10_000, &filler).say("\r\n"),
        ),
        beyond("g10_endless_blanks", "Writes a megabyte of blanks.", Script::new().repeat(1 << 20, " ").say("\r\n")),
        Torture::once(
            "g10_a_reply_too_large",
            "Sends a reply above the message limit.",
            large,
            &[told[0], "counted: too_large 1"],
        )
        .with(small),
        beyond(
            "g10_a_pretty_reply_too_large",
            "Sends a message above the limit, on many lines.",
            pretty.line("        \"filler\"").line("    ]").line("}"),
        ),
    ]
}
