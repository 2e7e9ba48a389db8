//! Tests of the shell with a peer whose texts control a terminal, reorder text, and forge lines.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, spawn};

use qemu_machine_blocking::{Value, json};
use qemu_machine_tests::leak_check::{Scratch, leaving_nothing};

use super::in_scripts::run;
use super::terminal::Terminal;

/// A text that writes to the clipboard, clears the screen in two ways, reorders text, and forges a line.
const HOSTILE: &str = "\x1b]52;c;cm0=\x07\x1b[2J\u{9b}2J\u{202e}\u{2066}\u{2028}\x7f\rx\nFORGED";
/// The same text in one line, and in JSON.
const SHOWN: &str = r"\u{1b}]52;c;cm0=\u{7}\u{1b}[2J\u{9b}2J\u{202e}\u{2066}\u{2028}\u{7f}\rx\nFORGED";
const IN_JSON: &str = r#""\u001b]52;c;cm0=\u0007\u001b[2J\u009b2J\u202e\u2066\u2028\u007f\rx\nFORGED""#;
/// The parts of the text that do harm on a terminal. The shell itself writes none of them.
const HARMFUL: [&str; 8] = ["\x1b]", "\x07", "\x1b[2J", "\u{9b}", "\u{202e}", "\u{2066}", "\u{2028}", "\x7f"];

/// A peer that serves one client with texts that contain [`HOSTILE`].
struct Hostile {
    path: PathBuf,
    served: Option<JoinHandle<()>>,
}

impl Hostile {
    fn begin(scratch: &Path) -> Self {
        let path = scratch.join("hostile");
        let socket = UnixListener::bind(&path).unwrap();
        let served = spawn(move || serve(socket.accept().unwrap().0));
        Self { path, served: Some(served) }
    }

    fn arguments<'a>(&'a self, options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
        [options, &[self.path.to_str().unwrap()], command].concat()
    }

    /// Waits until the client has left.
    fn end(mut self) {
        self.served.take().unwrap().join().unwrap();
        std::fs::remove_file(&self.path).unwrap();
    }
}

fn serve(mut client: UnixStream) {
    let mut bytes = BufReader::new(client.try_clone().unwrap()).bytes();
    // Commands end with their last brace, not with a line feed.
    let mut text = Vec::new();
    let mut next = || loop {
        text.push(bytes.next()?.ok()?);
        if let Some(command) = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<Value>().ok()) {
            text.clear();
            return Some(command);
        }
    };
    let mut say = |message: Value| client.write_all(format!("{message}\r\n").as_bytes()).unwrap();
    let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": HOSTILE});
    say(json!({"QMP": {"version": version, "capabilities": []}}));
    while let Some(command) = next() {
        let id = &command["id"];
        match command["execute"].as_str().unwrap() {
            "qmp_capabilities" => say(json!({"return": {}, "id": id})),
            "human-monitor-command" => say(json!({"return": format!("a\tb\r\n{HOSTILE}\r\n"), "id": id})),
            "happen" => {
                say(json!({"event": HOSTILE, "data": {HOSTILE: [HOSTILE]}}));
                say(json!({"return": {}, "id": id}));
            }
            "return" => say(json!({"return": {HOSTILE: [HOSTILE]}, "id": id})),
            // It has no schema either.
            _ => say(json!({"error": {"class": HOSTILE, "desc": HOSTILE}, "id": id})),
        }
    }
}

/// Types lines at the prompt of a shell with these options, and returns all that it wrote to the terminal.
fn at_prompt(options: &'static [&str], lines: &'static [(&str, &str)], check: impl FnOnce(String) + Send + 'static) {
    leaving_nothing(move |temporary| {
        let (state, scratch) = (Scratch::create(), Scratch::create());
        let peer = Hostile::begin(scratch.path());
        let mut terminal = Terminal::begin(&peer.arguments(options, &[]), state.path(), temporary);
        for (line, shown) in lines {
            terminal.press(&format!("{line}\r"));
            terminal.until_written(shown);
        }
        terminal.press("exit\r");
        check(terminal.written_at_end());
        peer.end();
    });
}

fn assert_harmless(written: &str) {
    for harm in HARMFUL {
        assert!(!written.contains(harm), "{harm:?} in {written:?}");
    }
}

#[test]
fn g32_at_the_prompt_the_peer_cannot_control_the_terminal() {
    let lines = [
        ("return", "FORGED\"\r\n  ]\r\n}"),
        ("refuse", "FORGED: "),
        ("{\"execute\": \"refuse\"}", "FORGED: "),
        ("hmp info", "\nFORGED"),
        ("happen", "FORGED {"),
    ];
    at_prompt(&["--no-history"], Box::leak(Box::new(lines)), |written| {
        assert_harmless(&written);
        assert!(written.contains(&format!("QEMU 7.2.0 ({SHOWN});")), "the version: {written:?}");
        let object = format!("{{\r\n  {IN_JSON}: [\r\n    {IN_JSON}\r\n  ]\r\n}}\r\n");
        assert!(written.contains(&object), "a reply: {written:?}");
        assert_eq!(written.matches(&format!("error: {SHOWN}: {SHOWN}\r\n")).count(), 2, "refusals: {written:?}");
        let (line, last) = SHOWN.split_once(r"\n").unwrap();
        assert!(written.contains(&format!("a\tb\r\n{line}\r\n{last}\r\n")), "human monitor: {written:?}");
        // The event is JSON on one line, as the peer sent it.
        assert!(written.contains(&format!("event {SHOWN} {{{IN_JSON}:[{IN_JSON}]}}")), "an event: {written:?}");
    });
}

#[test]
fn g32_with_the_option_raw_the_terminal_gets_what_the_peer_wrote() {
    at_prompt(&["--no-history", "--raw"], &[("hmp info", "FORGED"), ("happen", "FORGED {")], |written| {
        assert!(written.contains("\x1b]52;c;cm0=\x07\x1b[2J\u{9b}2J\u{202e}\u{2066}\u{2028}\x7f"), "{written:?}");
        assert!(written.contains("event \x1b]52;c;cm0=\x07"), "{written:?}");
    });
}

#[test]
fn g32_the_log_of_the_wire_is_printable() {
    at_prompt(&["--no-history", "--verbose"], &[("return", "FORGED"), ("happen", "FORGED {")], |written| {
        assert_harmless(&written);
        assert!(written.contains(" < {\"id\":"), "{written:?}");
    });
}

/// Runs one command with its output on a terminal, and returns that output.
fn on_terminal(options: &'static [&str], command: &'static [&str], check: impl FnOnce(String) + Send + 'static) {
    leaving_nothing(move |temporary| {
        let (state, scratch) = (Scratch::create(), Scratch::create());
        let peer = Hostile::begin(scratch.path());
        let terminal = Terminal::start(&peer.arguments(options, command), state.path(), temporary);
        check(terminal.written_at_end());
        peer.end();
    });
}

#[test]
fn g32_a_command_on_a_terminal_prints_no_control_characters() {
    let printed = format!("{{{IN_JSON}:[{IN_JSON}]}}\r\n");
    on_terminal(&[], &["return"], move |written| assert_eq!(written, printed));
    let printed = format!("{{\r\n  {IN_JSON}: [\r\n    {IN_JSON}\r\n  ]\r\n}}\r\n");
    on_terminal(&["--pretty"], &["return"], move |written| assert_eq!(written, printed));
    on_terminal(&[], &["refuse"], |written| assert_eq!(written, format!("qmpsh: {SHOWN}: {SHOWN}\r\n")));
    on_terminal(&["--raw"], &["refuse"], |written| assert_eq!(written, format!("qmpsh: {SHOWN}: {SHOWN}\r\n")));
    on_terminal(&["--raw"], &["hmp", "info"], |written| assert!(written.contains("\x1b]52;c;cm0=\x07"), "{written:?}"));
}

/// Programs read what the peer wrote. Errors are for people, also in a file.
#[test]
fn g32_a_pipe_gets_replies_as_they_are_and_errors_escaped() {
    leaving_nothing(|_| {
        let ask = |command: &[&str]| {
            let scratch = Scratch::create();
            let peer = Hostile::begin(scratch.path());
            let ended = run(&peer.arguments(&[], command), "");
            peer.end();
            ended
        };
        let reply = format!("{}\n", json!({HOSTILE: [HOSTILE]}));
        assert!(reply.contains('\x7f') && reply.contains('\u{202e}'), "JSON itself escapes neither");
        assert_eq!(ask(&["return"]), (Some(0), reply, String::new()));
        assert_eq!(ask(&["hmp", "info"]), (Some(0), format!("a\tb\n{HOSTILE}\n"), String::new()));
        assert_eq!(ask(&["refuse"]), (Some(1), String::new(), format!("qmpsh: {SHOWN}: {SHOWN}\n")));
        let (_, _, error) = run(&["./no\u{1b}[2J\nFORGED"], "");
        assert!(error.starts_with(r"qmpsh: ./no\u{1b}[2J\nFORGED: ") && error.lines().count() == 1, "{error:?}");
        let (_, _, error) = run(&["-t", "\u{202e}", "x"], "");
        assert!(error.starts_with(r"qmpsh: `\u{202e}` is not a number"), "{error:?}");
    });
}
