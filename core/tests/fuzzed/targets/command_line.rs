//! Properties of command lines: a shell reads the displayed line as the words that are executed, and no path or note of
//! the caller becomes an option of QEMU.

use qemu_machine_core::{
    Address, Config, Descriptor, Effect, Input, Machine, Misuse, Moment, Monitor, Prepared, escape_commas,
};

use super::Tape;
use super::shell::{options, words};

pub(super) fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let given = Word::read(&mut tape);
    let line = match given.config().command_line() {
        Ok(line) => line,
        Err(Misuse::Config(_) | Misuse::UnknownConsole(_)) => return,
        Err(other) => panic!("{other}"),
    };
    assert_shown(&format!("{line:#}"), line.arguments());
    given.assert_options(line.arguments());
    assert_eq!(options(&escape_commas(&given.log), ""), named(&given.log));
    given.assert_at_launch();
}

/// Returns the displayed command line and its words. `None` means that the configuration is refused.
#[cfg(test)]
pub(crate) fn shown(data: &[u8]) -> Option<(String, Vec<Vec<u8>>)> {
    let line = Word::read(&mut Tape::new(data)).config().command_line().ok()?;
    let line = format!("{line:#}");
    let words = words(&line).unwrap_or_else(|problem| panic!("{line}: {problem}"));
    Some((line, words))
}

/// The values that a caller chooses.
struct Word {
    program: Vec<u8>,
    wrapper: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
    console: String,
    device: Option<Vec<u8>>,
    log: Vec<u8>,
    opaque: Vec<u8>,
    socket: Option<Vec<u8>>,
    machine: Option<Vec<u8>>,
}

/// Returns the option that a text is when it has no name before it. Empty for an empty text.
fn named(value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let first = value.split(|byte| *byte == b'=' || *byte == b',').next().unwrap_or_default();
    match value.get(first.len()) {
        Some(b'=') => vec![(first.to_vec(), value[first.len() + 1..].to_vec())],
        _ if value.is_empty() => vec![],
        _ => vec![(Vec::new(), value.to_vec())],
    }
}

impl Word {
    /// Reads the values. The rest of the tape is one more argument, which may be long.
    fn read(tape: &mut Tape<'_>) -> Self {
        let program = tape.bytes().to_vec();
        let console = tape.text();
        Self {
            program: if program.is_empty() { b"qemu".to_vec() } else { program },
            wrapper: (0..tape.below(3)).map(|_| tape.bytes().to_vec()).collect(),
            console: if console.is_empty() { "tty".into() } else { console },
            device: tape.flag().then(|| tape.bytes().to_vec()),
            log: tape.bytes().to_vec(),
            opaque: tape.bytes().to_vec(),
            socket: tape.flag().then(|| tape.bytes().to_vec()),
            machine: tape.flag().then(|| tape.bytes().to_vec()),
            args: {
                let mut args: Vec<_> = (0..tape.below(4)).map(|_| tape.bytes().to_vec()).collect();
                args.extend(Some(tape.rest().to_vec()).filter(|rest| !rest.is_empty()));
                args
            },
        }
    }

    fn config(&self) -> Config {
        // The displayed line has no `-S` of the machine.
        let config =
            Config::new(self.program.clone()).autostart().wrapper(self.wrapper.clone()).args(self.args.clone());
        let config = match &self.device {
            Some(device) => config.console_on(self.console.clone(), device.clone()),
            None => config.serial(self.console.clone()),
        };
        let config = config.console_log(&self.console, self.log.clone());
        let config = config.add_fd(Descriptor::new(()), 7, self.opaque.clone());
        let config = self.machine.iter().fold(config, |config, machine| config.machine(machine.clone()));
        match &self.socket {
            Some(path) => config.monitor(Monitor::At(Address::unix(path.clone()))),
            None => config,
        }
    }

    /// Asserts what QEMU reads from the options of the core, which come before those of the caller.
    fn assert_options(&self, line: &[Vec<u8>]) {
        let ours = &line[self.wrapper.len() + 1..line.len() - self.args.len()];
        let mut chardevs = all_of(ours, b"-chardev").map(|option| options(option, "backend"));
        let mut monitor = vec![pair("backend", "socket")];
        monitor.push(match &self.socket {
            Some(path) => (b"path".to_vec(), path.clone()),
            None => pair("fd", "3"),
        });
        monitor.push(pair("id", "mon"));
        assert_eq!(chardevs.next(), Some(monitor));
        let console = if self.socket.is_some() { "3" } else { "4" };
        let mut expected = vec![pair("backend", "socket"), pair("fd", console), pair("id", &self.console)];
        expected.extend([pair("logappend", "on"), (b"logfile".to_vec(), self.log.clone())]);
        assert_eq!(chardevs.next(), Some(expected));
        assert_eq!(chardevs.next(), None);
        let mut added = vec![pair("set", "7")];
        added.extend((!self.opaque.is_empty()).then(|| (b"opaque".to_vec(), self.opaque.clone())));
        let sets: Vec<_> = all_of(ours, b"-add-fd").map(|option| options(option, "")).collect();
        assert_eq!(sets.len(), 1);
        assert_eq!(sets[0][1..], added);
    }

    /// Asserts the command line at launch, with a monitor address that the host chose.
    fn assert_at_launch(&self) {
        let Ok(mut machine) = Machine::new(self.config().monitor(Monitor::Socket)) else { return };
        machine.launch(Moment::ORIGIN).expect("it is idle");
        let monitor = Some(Address::unix(self.log.clone()));
        machine.handle(Moment::ORIGIN, Input::Prepared(Prepared { monitor, ..Prepared::default() }));
        let spawn = core::iter::from_fn(|| machine.poll_effect())
            .find_map(|effect| if let Effect::Spawn(spawn) = effect { Some(spawn) } else { None });
        let arguments = spawn.expect("it was prepared").arguments;
        assert_eq!(machine.command_line().arguments(), arguments);
        assert_shown(&format!("{:#}", machine.command_line()), &arguments);
        let dialled = all_of(&arguments[self.wrapper.len() + 1..], b"-chardev").next().expect("the monitor's");
        let expected = [pair("backend", "socket"), (b"path".to_vec(), self.log.clone()), pair("id", "mon")];
        assert_eq!(options(dialled, "backend"), expected);
    }
}

fn pair(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}

/// Returns the values of all options of this name. The options of the core come in pairs of a name and a value.
fn all_of<'a>(line: &'a [Vec<u8>], name: &'a [u8]) -> impl Iterator<Item = &'a Vec<u8>> {
    line.chunks(2).filter(move |two| two[0] == name).map(|two| &two[1])
}

/// Asserts that the displayed words are those that are executed, except for the backends of the channels to this
/// process.
fn assert_shown(shown: &str, executed: &[Vec<u8>]) {
    assert!(!shown.contains(char::is_control), "{shown:?} has control characters for a terminal");
    let words = words(shown).unwrap_or_else(|problem| panic!("{shown}: {problem}"));
    assert_eq!(words.len(), executed.len(), "{shown}");
    for (index, (word, argument)) in words.iter().zip(executed).enumerate() {
        if word != argument {
            assert!(index > 0 && executed[index - 1] == b"-chardev", "{shown}");
            let (word, argument) = (options(word, "backend"), options(argument, "backend"));
            let behind = |all: &[(Vec<u8>, Vec<u8>)]| all.iter().position(|(name, _)| name == b"id");
            let (here, there) = (behind(&word).expect("an id"), behind(&argument).expect("an id"));
            assert_eq!(word[here..], argument[there..], "{shown}");
            assert!(here == 1 && [b"stdio".to_vec(), b"null".to_vec()].contains(&word[0].1), "{shown}");
        }
    }
}
