//! Decides what happens at the prompt: lines, events between them, Ctrl-C, and the end.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;

use qemu_machine_blocking::{FOREVER, Mark, Wait};
use rustyline::ExternalPrinter;
use rustyline::error::ReadlineError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::client::{Client, Failure, Reply};
use crate::editor::LineEditor;
use crate::line::Instruction;
use crate::options::{Options, history_file};
use crate::prompt_end::{Ending, PromptEnd};
use crate::show::Layout;

/// What may happen while a command runs.
enum CommandEvent {
    /// The command of this number was answered.
    Answered(u64, Result<Reply, Failure>),
    /// Somebody has no patience with it.
    Interrupted,
}

struct Prompt<'a> {
    client: Arc<Client>,
    options: &'a Options,
    editor: LineEditor,
    ending: Ending,
    events: Receiver<CommandEvent>,
    sender: Sender<CommandEvent>,
    asked: u64,
}

/// Reads lines and carries them out, until the user has enough, or there is nobody to speak with.
pub(crate) fn run(client: &Arc<Client>, options: &Options) -> Result<Option<PromptEnd>, Failure> {
    let lost = |error: ReadlineError| Failure::Lost(format!("the terminal: {error}"));
    let ending = Ending::default();
    let history = history_file(&options.history);
    let mut editor = LineEditor::new(Arc::clone(client), ending.clone(), history).map_err(lost)?;
    let (sender, events) = channel();
    // Also where no events are to be shown: only an editor that has one looks for signals while it waits for keys.
    let printer = editor.editor.create_external_printer().ok();
    watch_signals(&ending, sender.clone()).map_err(|error| Failure::Lost(format!("signals: {error}")))?;
    watch_events(client, editor.editor.create_external_printer().ok(), &ending, options.events);
    let client = Arc::clone(client);
    greet(&client);
    let mut prompt = Prompt { client, options, editor, ending, events, sender, asked: 0 };
    let ended = prompt.read_lines().map_err(lost);
    drop(printer);
    ended.map(|()| prompt.ending.get())
}

/// Says whom we speak with, and how to learn more.
fn greet(client: &Client) {
    let version = client.vm.greeting().map(|greeting| greeting.version.to_string()).unwrap_or_default();
    let help = if client.hmp { "`help` is QEMU's" } else { "TAB completes, `help` helps" };
    say(&format!("QEMU {version}; {help}, Ctrl-D leaves"));
}

impl Prompt<'_> {
    fn read_lines(&mut self) -> Result<(), ReadlineError> {
        let prompt = if self.client.hmp { "hmp> " } else { "qmp> " };
        while self.ending.get().is_none() {
            // What nobody waited for: late answers, and a Ctrl-C that found nothing to interrupt. While the editor waits,
            // that key is one like others.
            self.events.try_iter().for_each(drop);
            match self.editor.editor.readline(prompt) {
                Ok(line) if self.obey(&line) => {}
                Ok(_) | Err(ReadlineError::Eof) => break,
                // Ctrl-C, and whoever wants the loop to look again whether it is over.
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Carries a line out. Whether there is to be another.
    fn obey(&mut self, line: &str) -> bool {
        if let Err(trouble) = self.editor.remember(line) {
            complain(&trouble);
        }
        let instruction = match self.client.read(line) {
            Ok(Instruction::Exit) => return false,
            Ok(Instruction::Nothing) => return true,
            Ok(instruction) => instruction,
            Err(trouble) => {
                complain(&Failure::from(trouble).to_string());
                return true;
            }
        };
        match self.ask(instruction) {
            Some(Ok(answer)) => {
                let columns = self.editor.editor.dimensions().map_or(80, |(columns, _)| columns);
                let layout = self.options.layout.unwrap_or(Layout::Fitting(columns.into()));
                answer.shown(layout).iter().for_each(|text| say(text));
            }
            Some(Err(failure)) => complain(&failure.to_string()),
            None if self.ending.get().is_some() => {}
            None => complain("no longer waited for; QEMU may still carry it out"),
        }
        !self.client.is_over()
    }

    /// Asks, and waits for the answer, or for Ctrl-C.
    fn ask(&mut self, instruction: Instruction) -> Option<Result<Reply, Failure>> {
        self.asked += 1;
        let (asked, client, sender) = (self.asked, Arc::clone(&self.client), self.sender.clone());
        spawn(move || {
            // Nobody takes it once the prompt is gone.
            let _ = sender.send(CommandEvent::Answered(asked, client.ask(&instruction)));
        });
        loop {
            match self.events.recv() {
                Ok(CommandEvent::Answered(number, answer)) if number == asked => return Some(answer),
                Ok(CommandEvent::Answered(..)) => {}
                // The second cannot be: we hold the other end as well.
                Ok(CommandEvent::Interrupted) | Err(_) => return None,
            }
        }
    }
}

/// Up, and down again behind it.
const NOTHING: &str = "\x1b[A";

/// Shows events as they come, and has the prompt end when none can come any more.
fn watch_events(client: &Client, printer: Option<impl ExternalPrinter + Send + 'static>, ending: &Ending, shown: bool) {
    let (ending, mut printer) = (ending.clone(), printer);
    let may_hold_one = shown && printer.is_some();
    let mut print = move |line: &str| {
        let printed = printer.as_mut().is_some_and(|printer| printer.print(format!("{line}\n")).is_ok());
        if !printed {
            say(line);
        }
    };
    // From the beginning: a QEMU that we launched has said something before there was a prompt.
    let events = client.vm.events_from(&Mark::default(), [Wait::any_event()]);
    let Ok(mut events) = events else { return };
    spawn(move || {
        let mut missed = 0;
        loop {
            match events.next(FOREVER) {
                Ok(event) if shown => print(&format!("event {event}")),
                Ok(_) => {}
                Err(_) => break,
            }
            if shown && events.missed() > missed {
                print(&format!("event: {} more came than could be shown", events.missed() - missed));
                missed = events.missed();
            }
        }
        if may_hold_one {
            // The editor would rather end than show what it holds. It holds one text at most, so when it takes another, it
            // has shown the last event.
            print(NOTHING);
        }
        ending.begin(PromptEnd::Disconnected);
    });
}

/// Hears Ctrl-C while a command runs; and signals that end us, so that the terminal is left as it was, and QEMU ended.
fn watch_signals(ending: &Ending, sender: Sender<CommandEvent>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let ending = ending.clone();
    spawn(move || {
        for signal in signals.forever() {
            if signal != SIGINT {
                ending.begin(PromptEnd::Signalled(signal));
            } else if ending.get().is_some() {
                // It was for the editor alone.
                continue;
            }
            // Nobody takes it once the prompt is gone.
            let _ = sender.send(CommandEvent::Interrupted);
        }
    });
    Ok(())
}

/// Prints a text, at once: a line is not to be torn by an event.
fn say(text: &str) {
    // A terminal that is gone is told by the editor.
    let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
}

fn complain(text: &str) {
    let _ = io::stderr().write_all(format!("error: {text}\n").as_bytes());
}
