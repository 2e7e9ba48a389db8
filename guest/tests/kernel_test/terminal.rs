//! Tests of the output on a terminal, where a guest must not control it, and in a pipe, which gets all bytes.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::Watched;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::{PATIENCE, kernel, program};

/// A script of sequences: a colour, the clipboard, a title, a question that the terminal answers as if the user typed, a
/// control character of eight bits, text from right to left, and a colour that does not end.
const HOSTILE: &str =
    r"printf '\033[1;31mred\033[m\n\033]52;c;cm0=\007\033]0;title\007\033[6n\302\233c\342\200\256\033[32mgreen\n'";

/// These bytes in a pipe, and on a terminal, with the end of the last colour.
const PIPED: &str = "\x1b[1;31mred\x1b[m\n\x1b]52;c;cm0=\x07\x1b]0;title\x07\x1b[6n\u{9b}c\u{202e}\x1b[32mgreen\n";
const SHOWN: &str = "\x1b[1;31mred\x1b[m\r\n\\u{1b}]52;c;cm0=\\u{7}\\u{1b}]0;title\\u{7}\\u{1b}[6n\\u{9b}c\\u{202e}\x1b[32mgreen\r\n\x1b[0m";

/// The streams of a run that are on a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnTerminal {
    /// Both streams on one terminal.
    Both,
    /// Only stderr on it.
    Stderr,
}

/// Runs a shell script with its output on a terminal, and returns that output, and that in a pipe.
fn run(on_terminal: OnTerminal, options: &[&str], script: &str) -> (String, String) {
    let arguments = [&["--accel", "tcg", "--quiet", "--timeout", "240"], options, &["--", "sh", "-c", script]].concat();
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    bounded_by(PATIENCE, move || {
        let (mut screen, terminal) = terminal();
        let mut process = program();
        process.args(arguments).stdin(Stdio::null()).stderr(terminal.try_clone().unwrap());
        process.stdout(match on_terminal {
            OnTerminal::Both => Stdio::from(terminal),
            OnTerminal::Stderr => {
                drop(terminal);
                Stdio::piped()
            }
        });
        let mut child = process.spawn().unwrap();
        // Reading ends when no process has the terminal open.
        drop(process);
        let _killed_when_we_fail = Watched::new(child.id()).unwrap();
        (read(&mut screen), piped(&mut child))
    })
}

/// Returns both ends of a terminal.
fn terminal() -> (File, File) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    (screen.into(), OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap())
}

/// Reads a terminal to its end, which is an error on Linux.
fn read(screen: &mut File) -> String {
    let (mut written, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = screen.read(&mut buffer) {
        written.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(written).unwrap()
}

fn piped(child: &mut Child) -> String {
    let mut written = String::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut written).unwrap();
    }
    child.wait().unwrap();
    written
}

#[test]
fn a_guest_sets_colours_on_a_terminal_and_controls_nothing_else() {
    let (screen, _) = run(OnTerminal::Both, &[], HOSTILE);
    assert_eq!(screen, SHOWN);
}

/// The message of the program has no colour of the guest's.
#[test]
fn a_colour_of_the_guest_ends_before_a_message() {
    let (screen, _) = run(OnTerminal::Both, &[], r"printf '\033[8mhidden'; poweroff -f");
    let message = "\x1b[0mkernel-test: the machine ended before the command did: powered off by the guest\r\n";
    assert!(screen.starts_with("\x1b[8mhidden") && screen.ends_with(message), "{screen:?}");
}

#[test]
fn a_pipe_gets_the_bytes_of_the_guest_unchanged() {
    let (screen, piped) = run(OnTerminal::Stderr, &[], HOSTILE);
    assert_eq!(piped, PIPED);
    // A line of progress, which is shortened and removed at the end.
    assert!(!screen.contains(['\x07', '\u{9b}', '\u{202e}']) && screen.ends_with("\r\x1b[K"), "{screen:?}");
    assert_eq!(screen.replace("\r\x1b[K", "").matches('\x1b').count(), 0, "{screen:?}");
}

/// TAP is in the pipe, and the console on the terminal.
#[test]
fn the_console_beside_tap_is_filtered() {
    let (screen, piped) = run(OnTerminal::Stderr, &["--tap", "-k", &format!("k={}", kernel())], HOSTILE);
    assert_eq!((&*screen, &*piped), (SHOWN, "TAP version 14\n1..1\nok 1 - k\n"));
}

#[test]
fn the_outputs_of_the_agent_are_filtered() {
    let (screen, piped) = run(OnTerminal::Stderr, &["--agent"], &format!("{HOSTILE}; {HOSTILE} >&2"));
    assert!(screen.ends_with(SHOWN), "{screen:?}");
    assert_eq!(piped, PIPED);
}

/// A carriage return would overwrite the name.
#[test]
fn lines_of_several_kernels_keep_their_names() {
    let (old, new) = (format!("old={}", kernel()), format!("new={}", kernel()));
    let (screen, _) = run(OnTerminal::Both, &["-k", &old, "-k", &new], r"printf 'x\rnew | forged\r\n\033[31mred\n'");
    for name in ["old", "new"] {
        let name = format!("\x1b[36m{name}\x1b[0m | ");
        assert!(screen.contains(&format!("{name}x\\rnew | forged\r\n{name}\x1b[31mred\r\n")), "{screen:?}");
    }
}
