//! Player of a script, with the standard input as the monitor.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, abort, exit};
use std::thread::park;

use qemu_machine_core::Value;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio::dup2_stdin;

use crate::scripted::{Action, ID, SCRIPT, Script};

/// The exit code for a script that cannot be played.
const UNPLAYABLE: i32 = 120;

/// Plays the script in the arguments of this program. On an error, prints it to stderr and exits with 120.
pub fn play() {
    let arguments = std::env::args().skip_while(|argument| argument != SCRIPT).skip(1);
    let result = Player::new().and_then(|mut player| {
        for argument in arguments {
            let action =
                Action::parse(&argument).ok_or_else(|| io::Error::other(format!("unknown action `{argument}`")))?;
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
    /// `None` means that the script has closed the monitor.
    monitor: Option<UnixStream>,
    /// The ids of the commands without a reply, oldest first.
    unanswered: VecDeque<Value>,
}

impl Player {
    fn new() -> io::Result<Self> {
        let monitor = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Self { monitor: Some(monitor), unanswered: VecDeque::new() })
    }

    fn play(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Say(text) => self.say(&text),
            Action::Repeat(times, text) => self.say(&text.repeat(times)),
            Action::Drip(text) => text.replace(ID, &self.id()).bytes().try_for_each(|byte| self.write(&[byte])),
            Action::Bytes(bytes) => self.write(&bytes),
            Action::Hear => self.hear()?.map(drop).ok_or_else(|| io::Error::other("the monitor was closed")),
            Action::Reply(value) => self.answer(&format!("\"return\": {value}")),
            Action::Refuse(description) => {
                let description = Value::from(description);
                self.answer(&format!("\"error\": {{\"class\": \"GenericError\", \"desc\": {description}}}"))
            }
            Action::Ignore => {
                self.unanswered.pop_front().map(drop).ok_or_else(|| io::Error::other("there is no command to ignore"))
            }
            Action::Print(line) => writeln!(io::stderr(), "{line}"),
            Action::Rant(lines) => (0..lines).try_for_each(|number| {
                writeln!(io::stderr(), "complaint number {number}")?;
                writeln!(io::stdout(), "grievance number {number}")
            }),
            Action::Rave(kilobytes) => (0..kilobytes).try_for_each(|_| {
                io::stderr().write_all(&[0xFF; 1000])?;
                io::stdout().write_all(&[0xFF; 1000])
            }),
            Action::Immune => Ok(()),
            Action::Obey => self.obey(),
            Action::HangUp => self.monitor()?.shutdown(Shutdown::Both),
            Action::Reset => self.reset(),
            Action::Bequeath => self.bequeath(),
            Action::Linger => io::copy(self.monitor()?, &mut io::sink()).map(drop),
            Action::Stall => loop {
                park();
            },
            Action::Abort => abort(),
            Action::Exit(code) => exit(code),
        }
    }

    fn monitor(&mut self) -> io::Result<&mut UnixStream> {
        self.monitor.as_mut().ok_or_else(|| io::Error::other("the monitor is closed"))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.monitor()?.write_all(bytes)
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.write(text.replace(ID, &self.id()).as_bytes())
    }

    /// Returns the id of the oldest command without a reply, as it was received.
    fn id(&self) -> String {
        self.unanswered.front().map(Value::to_string).unwrap_or_default()
    }

    /// Waits for input and closes the monitor without reading it. The peer then gets ECONNRESET instead of an end of
    /// file (Linux, `net/unix/af_unix.c`, `unix_release_sock`).
    fn reset(&mut self) -> io::Result<()> {
        poll(&mut [PollFd::new(self.monitor()?, PollFlags::IN)], None)?;
        dup2_stdin(std::fs::File::open("/dev/null")?)?;
        self.monitor = None;
        Ok(())
    }

    /// Starts a child that holds the monitor open. It exits at the end of the monitor, so no process is left behind.
    fn bequeath(&mut self) -> io::Result<()> {
        let script = Script::new().then(Action::Linger).arguments();
        Command::new(std::env::current_exe()?).args(script).spawn().map(drop)
    }

    /// Reads the next command; `None` means the end of the monitor. There is no delimiter between commands, so a brace
    /// that completes a JSON value ends a command.
    fn hear(&mut self) -> io::Result<Option<Value>> {
        let mut received = Vec::new();
        let mut byte = [0];
        loop {
            if self.monitor()?.read(&mut byte)? == 0 {
                return Ok(None);
            }
            received.extend(byte);
            let whole = if byte == *b"}" { String::from_utf8_lossy(&received).parse::<Value>().ok() } else { None };
            if let Some(command) = whole {
                self.unanswered.push_back(command["id"].clone());
                return Ok(Some(command));
            }
        }
    }

    fn answer(&mut self, member: &str) -> io::Result<()> {
        let id = self.unanswered.pop_front().ok_or_else(|| io::Error::other("there is no command to answer"))?;
        // A command without an id gets a reply without one (`docs/interop/qmp-spec.rst`, Issuing Commands).
        let id = if id.is_null() { String::new() } else { format!(", \"id\": {id}") };
        self.write(format!("{{{member}{id}}}\r\n").as_bytes())
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
