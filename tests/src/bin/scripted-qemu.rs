//! Proves nothing by itself: it plays the script that it is given, with its standard input as the monitor.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{abort, exit};
use std::thread::park;

use qemu_machine_core::Value;
use qemu_machine_tests::scripted::{Action, SCRIPT};

/// The exit code when the script cannot be played.
const UNPLAYABLE: i32 = 120;

fn main() {
    let arguments = std::env::args().skip_while(|argument| argument != SCRIPT).skip(1);
    let result = Player::new().and_then(|mut player| {
        for argument in arguments {
            let action = Action::parse(&argument).ok_or_else(|| io::Error::other(format!("what is `{argument}`?")))?;
            player.play(action)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        eprintln!("scripted-qemu: {error}");
        exit(UNPLAYABLE);
    }
}

struct Player {
    monitor: UnixStream,
    /// The ids of the commands that were not answered yet, the oldest first.
    unanswered: VecDeque<Value>,
}

impl Player {
    fn new() -> io::Result<Self> {
        let monitor = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Self { monitor, unanswered: VecDeque::new() })
    }

    fn play(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Say(text) => self.monitor.write_all(text.as_bytes()),
            Action::Hear => self.hear()?.map(drop).ok_or_else(|| io::Error::other("the monitor was closed")),
            Action::Reply(value) => self.answer(&format!("\"return\": {value}")),
            Action::Refuse(description) => {
                let description = Value::from(description);
                self.answer(&format!("\"error\": {{\"class\": \"GenericError\", \"desc\": {description}}}"))
            }
            Action::Forget => {
                self.unanswered.pop_front().map(drop).ok_or_else(|| io::Error::other("nothing to forget"))
            }
            Action::Print(line) => writeln!(io::stderr(), "{line}"),
            Action::Obey => self.obey(),
            Action::HangUp => self.monitor.shutdown(Shutdown::Both),
            Action::Stall => loop {
                park();
            },
            Action::Abort => abort(),
            Action::Exit(code) => exit(code),
        }
    }

    /// The next command; none at the end of the monitor. Commands come without anything between them, so a brace that
    /// completes a JSON value is the end of one.
    fn hear(&mut self) -> io::Result<Option<Value>> {
        let mut heard = Vec::new();
        let mut byte = [0];
        loop {
            if self.monitor.read(&mut byte)? == 0 {
                return Ok(None);
            }
            heard.extend(byte);
            let whole = if byte == *b"}" { String::from_utf8_lossy(&heard).parse::<Value>().ok() } else { None };
            if let Some(command) = whole {
                self.unanswered.push_back(command["id"].clone());
                return Ok(Some(command));
            }
        }
    }

    fn answer(&mut self, member: &str) -> io::Result<()> {
        let id = self.unanswered.pop_front().ok_or_else(|| io::Error::other("nothing to answer"))?;
        write!(self.monitor, "{{{member}, \"id\": {id}}}\r\n")
    }

    fn obey(&mut self) -> io::Result<()> {
        while let Some(command) = self.hear()? {
            self.answer("\"return\": {}")?;
            if command["execute"] == "quit" {
                break;
            }
        }
        exit(0);
    }
}
