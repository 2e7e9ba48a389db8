//! Command line for a shell: a line of the caller, between two markers, in bytes that survive every terminal.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

/// The most bytes of the caller's text in one line that is typed. A terminal in canonical mode accepts 4,095 bytes in a line
/// (Linux, `drivers/tty/n_tty.c`, `N_TTY_BUF_SIZE`), and the line editor of busybox 1,024 by default (busybox,
/// `libbb/Config.src`, `FEATURE_EDITING_MAX_LEN`). An escape of one character adds at most 31.
const LENGTH: usize = 400;

/// Returns what to type so that a shell prints a marker, executes this text, and prints a marker with its exit code.
///
/// - The echo does not contain the markers: each has two quotes in its midst, which the shell removes.
/// - A subshell prints each marker and ends with the exit code from before, so that `$?` is that of the line before, also in
///   the next line. In it, `$$` is the process id of the shell itself (POSIX, Shell Command Language, Special Parameters).
/// - The text is an argument of `eval`, in single quotes. So it may have several lines, end with `&` or contain a comment,
///   and the shell that executes it stays the same: `cd` and variables last.
/// - Tabs and other control characters, which a line editor executes, and characters outside of ASCII, which it may take for
///   a Meta key, are written by `printf`.
/// - The space at the beginning keeps the line out of the history of shells that are configured so (bash(1),
///   `HISTCONTROL`).
pub(super) fn typed(text: &str, id: u64) -> String {
    let marker = |word: &str| format!("(c=$?; echo \"<q\"\"m {id} {word}>\"; exit $c)");
    format!(" {}; eval {}; {}\n", marker("begin $$"), quoted(text), marker("end $c"))
}

/// Returns what to type so that a shell prints the exit code of the last line, and its own process id.
pub(super) fn probe(id: u64) -> String {
    format!(" (c=$?; echo \"<q\"\"m {id} probe $c $$>\"; exit $c)\n")
}

/// Returns a text as one argument. A long one has several lines, each but the last with a backslash at its end.
fn quoted(text: &str) -> String {
    let (mut quoted, mut line) = (String::from("'"), 0);
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let begin = quoted.len();
        match character {
            '\n' => quoted.push('\n'),
            '\'' => quoted.push_str("'\\''"),
            ' '..='~' => quoted.push(character),
            // A shell drops it, and so does a terminal.
            '\0' => {}
            _ => {
                quoted.push_str("'\"$(printf '");
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    // Writing to a string does not fail.
                    let _ = write!(quoted, "\\{byte:03o}");
                }
                quoted.push_str("')\"'");
            }
        }
        line = if character == '\n' { 0 } else { line + quoted.len() - begin };
        if line > LENGTH && rest.peek().is_some() {
            quoted.push_str("'\\\n'");
            line = 0;
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;
    use std::process::{Command, Stdio};

    use super::*;
    use proptest::prelude::*;

    /// Returns what `sh` prints for an input.
    fn sh(input: &str) -> String {
        use std::io::Write as _;

        let mut shell =
            Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_shell_executes_the_text_between_two_markers() {
        for (text, output, code) in [
            ("echo a", "a\n", 0),
            ("false", "", 1),
            ("echo 'a' \"b\" # c", "a b\n", 0),
            ("(exit 7)", "", 7),
            ("printf x", "x", 0),
            ("a=1\necho $a &\nwait", "1\n", 0),
            ("cat <<E\nx\nE", "x\n", 0),
            ("echo 'a\tb\u{e4}'", "a\tb\u{e4}\n", 0),
            ("", "", 0),
        ] {
            let typed = typed(text, 5);
            let printed = sh(&typed);
            let behind = printed.split_once(">\n").unwrap().1;
            assert_eq!(behind, format!("{output}<qm 5 end {code}>\n"), "{typed}");
            assert!(printed.starts_with("<qm 5 begin ") && !typed.contains("<qm 5 "), "{typed}");
        }
        let shown = sh(&[typed("(exit 3)", 1), probe(2), typed("echo $?", 3)].concat());
        assert!(shown.contains("<qm 2 probe 3 ") && shown.contains(">\n3\n<qm 3 end 0>"), "{shown}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A shell receives the text as it is, in lines of bounded length that have only printable characters.
        #[test]
        fn any_text_is_one_argument(text in "[ -~\n\t\u{1}\u{e4}\u{1f600}'\\\\\"$`!]{0,1500}") {
            let quoted = quoted(&text);
            let is_plain = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
            prop_assert!(quoted.bytes().all(is_plain));
            if !text.contains('\n') {
                prop_assert!(quoted.lines().all(|line| line.len() < LENGTH + 64));
            }
            prop_assert_eq!(sh(&format!("printf %s {quoted}")), text);
        }
    }
}
