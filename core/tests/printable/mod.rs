//! Tests of all output of the public types: whatever a peer, a guest, a log, the system or a caller writes, what `Display`
//! and `Debug` print of it is printable, and the long texts in errors are shortened.

mod types;

use proptest::prelude::*;
use qemu_machine_core::{Config, UntrustedText};

use types::{CASES, Form};

/// Texts that control a terminal, reorder what is around them, forge lines, or are hard to see.
const HOSTILE: [&str; 27] = [
    "\x1b]52;c;cm0gLXJmIC8=\x07",
    "\x1b]52;c;cm0gLXJmIC8=\x1b\\",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",
    "\x1b[31m",
    "\x1bP+q544e\x1b\\",
    "\u{9b}2J",
    "\u{9d}52;c;cm0=\u{9c}",
    "\u{85}next",
    "\u{202e}reversed",
    "\u{2066}isolated\u{2069}",
    "\u{200f}right",
    "\u{200b}",
    "\u{feff}",
    "\u{ad}",
    "\u{2028}line",
    "\u{2029}paragraph",
    "\u{e0041}",
    "a\u{e0100}",
    "\u{e000}",
    "\x7f",
    "\x08\x08\x08",
    "\r",
    "\n",
    "\r\n",
    "\t",
    "\0",
];

/// The beginning of a line of the text. No line of the output may begin with it: it would be a forged one.
const FORGED: &str = "FORGED";

/// Returns whether a character has no effect but its glyph: std does not escape it within a string, and it is none of the
/// invisible characters of Unicode.
fn is_harmless(character: char) -> bool {
    if character.is_ascii() {
        return (' '..='~').contains(&character);
    }
    let effect = ['\u{ad}', '\u{61c}', '\u{180e}', '\u{feff}'].contains(&character)
        || ('\u{200b}'..='\u{200f}').contains(&character)
        || ('\u{2028}'..='\u{202e}').contains(&character)
        || ('\u{2060}'..='\u{206f}').contains(&character)
        || ('\u{e0000}'..='\u{e0fff}').contains(&character);
    // At the beginning of a string std escapes combining characters.
    let within = format!("a{character}");
    !effect && !character.is_control() && within.escape_debug().eq(within.chars())
}

/// Asserts that all output of the types with this text in them is printable.
fn assert_printable(text: &str) {
    for (name, forms) in CASES {
        for Form { format, output } in forms(text) {
            for line in output.split('\n') {
                let tabs = line.starts_with("    ");
                let found = line.chars().find(|character| !(is_harmless(*character) || tabs && *character == '\t'));
                assert_eq!(found, None, "{name} {format} of {text:?}: {output:?}");
                assert!(!line.starts_with(FORGED), "{name} {format} of {text:?}: {output:?}");
            }
        }
    }
}

#[test]
fn g32_all_output_is_printable_for_each_hostile_text() {
    for text in HOSTILE {
        assert_printable(text);
        assert_printable(&format!("a{text}\n{FORGED}{text}b"));
    }
    assert_printable(&HOSTILE.join("\n"));
}

proptest! {
    // A case makes every value with untrusted text, which takes a second without optimisation.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn g32_all_output_is_printable_for_arbitrary_bytes(
        bytes in any::<Vec<u8>>(),
        chars in any::<Vec<char>>(),
        index in 0..HOSTILE.len(),
    ) {
        let (bytes, chars) = (String::from_utf8_lossy(&bytes), chars.iter().collect::<String>());
        assert_printable(&format!("{bytes}{}\n{FORGED}{chars}\n", HOSTILE[index]));
    }

    #[test]
    fn g32_each_form_of_a_text_is_printable(text in any::<String>(), index in 0..HOSTILE.len()) {
        let text = UntrustedText::from(format!("{}{text}{}", HOSTILE[index], HOSTILE[index]));
        let shown = [text.to_string(), format!("{text:#}"), format!("{text:?}")];
        prop_assert!(shown.iter().all(|shown| shown.chars().all(is_harmless)), "{:?}", shown);
        prop_assert!(text.multiline().to_string().chars().all(|one| is_harmless(one) || one == '\n' || one == '\t'));
        let json = serde_json::Value::from(text.as_str());
        for written in [json.to_string(), format!("[\n\t{json}\r\n]")] {
            let shown = UntrustedText::from(&*written).json().to_string();
            prop_assert!(shown.chars().all(is_harmless), "{}", shown);
            let value = |text: &str| text.parse::<serde_json::Value>().expect("JSON");
            prop_assert_eq!(value(&shown), value(&written));
        }
    }
}

#[test]
fn g32_what_is_printable_stays_as_it_came() {
    let text = r#"C:\path "größe" 'x' 日本 👍 e\u{301} –"#.replace("\\u{301}", "\u{301}");
    let text = UntrustedText::from(text);
    assert_eq!(text.to_string(), text.as_str());
    assert_eq!(text.multiline().to_string(), text.as_str());
    assert_eq!(text.json().to_string(), text.as_str());
    assert_eq!(UntrustedText::from("a\r\n\tb\r\n").multiline().to_string(), "a\n\tb\n");
    assert_eq!(UntrustedText::from("\u{301}a").to_string(), "\\u{301}a");
    assert_eq!(UntrustedText::from_utf8_lossy(b"a\xffb\x1b").to_string(), "a\u{fffd}b\\u{1b}");
}

/// Both ends of a long text are displayed, and the bytes between them are counted.
#[test]
fn g32_long_texts_in_output_are_shortened_in_the_middle() {
    let long = format!("begin{}end", "x".repeat(5 << 10));
    let text = UntrustedText::from(&*long);
    let shown = format!("begin{}… 4104 bytes …{}end", "x".repeat(507), "x".repeat(509));
    assert_eq!(text.to_string(), shown);
    assert_eq!(format!("{text:?}"), format!("{shown:?}"));
    assert_eq!((format!("{text:#}"), text.multiline().to_string()), (long.clone(), long.clone()));
    let wide = UntrustedText::from("ß\u{301}".repeat(1000)).to_string();
    assert!(wide.contains("… 2978 bytes …") || wide.contains("… 2976 bytes …"), "{wide}");
    // A record and a report are data, and a timeline and a command line are complete with `{:#}`.
    let is_data = |name: &str| ["record::Record", "record::Report"].contains(&name);
    for (name, forms) in CASES.iter().filter(|(name, _)| !is_data(name)) {
        for Form { format, output } in forms(&long).iter().filter(|form| form.format == "{}") {
            let end = "x".repeat(2 << 10);
            assert!(!output.contains(&format!("{end}x")), "{name} {format}: {output}");
        }
    }
}

/// A shell reads the complete line as the arguments, and refuses the shortened one.
#[test]
fn g32_a_long_argument_is_shortened_so_that_a_shell_refuses_it() {
    let config = Config::new("qemu").with_display().with_vga().without_monitor();
    let shown = |argument: Vec<u8>| {
        let line = config.clone().arg(argument).command_line().expect("a good configuration");
        let script = |line: &str| {
            let script = format!("qemu() {{ printf %s \"$1\"; }}; {line}");
            let run = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash");
            run.status.success().then_some(run.stdout)
        };
        (script(&format!("{line:#}")), script(&line.to_string()), line.to_string())
    };
    for whole in [b"x".repeat(4 << 10), b"\x1b[2J".to_vec(), "\u{202e}\u{9b}".into(), b"\xff'\n".to_vec()] {
        let (complete, pasted, line) = shown(whole.clone());
        assert_eq!((complete.as_ref(), pasted.as_ref()), (Some(&whole), Some(&whole)), "{line}");
    }
    for long in [b"x".repeat((4 << 10) + 1), "\u{202e}".repeat(9000).into(), b"\xff".repeat(9000)] {
        let (complete, pasted, line) = shown(long.clone());
        assert_eq!(complete, Some(long));
        assert_eq!(pasted, None, "{line}");
        assert!(line.contains(" bytes …)"), "{line}");
    }
}
