//! Prompt: executes lines, shows events between them, handles Ctrl-C and signals, and ends.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;

use qemu_machine_blocking::{Event, FOREVER, Mark, Wait};
use rustyline::ExternalPrinter;
use rustyline::error::ReadlineError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::client::{Client, Reply};
use crate::editor::LineEditor;
use crate::failure::Failure;
use crate::line::Instruction;
use crate::mode::Mode;
use crate::options::Options;
use crate::prompt_end::{Ending, PromptEnd, code_of};
use crate::script::{heeded, print};
use crate::show::{Escapes, Layout};

/// An event while a command runs.
enum CommandEvent {
    /// The command of this number has a result.
    Answered(u64, Result<Reply, Failure>),
    /// The user pressed Ctrl-C, or a signal ends the shell.
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

/// Reads lines and executes them, until the user leaves, the monitor is closed, or a signal arrives. Returns the exit
/// code of the shell.
///
/// # Errors
///
/// [`Failure::Lost`], if the terminal or the handling of signals fails.
pub(crate) fn run(client: &Arc<Client>, options: &Options) -> Result<u8, Failure> {
    let lost = |error: ReadlineError| Failure::Lost(format!("the terminal failed: {error}"));
    let ending = Ending::default();
    let mut editor = LineEditor::new(Arc::clone(client), ending.clone(), options.history_file()).map_err(lost)?;
    let (sender, events) = channel();
    // Also with `--no-events`: only an editor with a printer reacts to signals while it waits for keys.
    let printer = editor.editor.create_external_printer().ok();
    watch_signals(&ending, sender.clone()).map_err(|error| Failure::Lost(format!("cannot handle signals: {error}")))?;
    watch_events(client, editor.editor.create_external_printer().ok(), &ending, options);
    if options.verbose {
        log_wire(client, editor.editor.create_external_printer().ok());
    }
    let client = Arc::clone(client);
    greet(&client);
    let mut prompt = Prompt { client, options, editor, ending, events, sender, asked: 0 };
    let ended = prompt.read_lines().map_err(lost);
    drop(printer);
    ended.map(|status| match prompt.ending.get() {
        Some(PromptEnd::Signalled(signal)) => code_of(signal),
        Some(PromptEnd::Disconnected) | None => status,
    })
}

/// Prints the version of the peer, and how to get help.
fn greet(client: &Client) {
    let help =
        if client.mode == Mode::Human { "TAB completes, `help` is QEMU's" } else { "TAB completes, `help` explains" };
    say(&format!("{}; {help}, Ctrl-D exits", client.peer()));
}

impl Prompt<'_> {
    /// Executes lines until the prompt ends, and returns the exit code that the user has chosen, or 0.
    fn read_lines(&mut self) -> Result<u8, ReadlineError> {
        while self.ending.get().is_none() {
            // Drops late results, and a Ctrl-C that came when no command ran. While the editor waits, Ctrl-C is a key.
            self.events.try_iter().for_each(drop);
            match self.editor.read(&self.client, |failure| complain(&failure.to_string())) {
                Ok(line) => {
                    if let ControlFlow::Break(status) = self.obey(&line) {
                        return Ok(status);
                    }
                }
                Err(ReadlineError::Eof) => break,
                // Ctrl-C, or a wake-up by `Ending`: the loop checks whether the prompt ends.
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }

    /// Executes a line. `Break` means that the prompt ends, with this exit code.
    fn obey(&mut self, line: &str) -> ControlFlow<u8> {
        if let Err(trouble) = self.editor.remember(line) {
            complain(&trouble);
        }
        let instruction = match self.client.read(line) {
            Ok(Instruction::Exit(status)) => return ControlFlow::Break(status.unwrap_or_default()),
            Ok(Instruction::Nothing) => return ControlFlow::Continue(()),
            Ok(instruction) => instruction,
            Err(trouble) => {
                complain(&Failure::from(trouble).to_string());
                return ControlFlow::Continue(());
            }
        };
        let status = if let Instruction::Quit(status) = instruction { status } else { 0 };
        match self.ask(instruction) {
            Some(Ok(answer)) => {
                let columns = self.editor.editor.dimensions().map_or(80, |(columns, _)| columns);
                let layout = self.options.layout.unwrap_or(Layout::Fitting(columns.into()));
                answer.shown(layout, self.options.escapes_at_prompt()).iter().for_each(|text| say(text));
            }
            Some(Err(failure)) => complain(&failure.to_string()),
            None if self.ending.get().is_some() => {}
            None => {
                let peer = if self.client.mode == Mode::Agent { "the agent" } else { "QEMU" };
                complain(&format!("interrupted; {peer} may still execute the command"));
            }
        }
        if self.client.is_over() { ControlFlow::Break(status) } else { ControlFlow::Continue(()) }
    }

    /// Executes an instruction, and waits for its result. `None` means that Ctrl-C or a signal ended the wait.
    fn ask(&mut self, instruction: Instruction) -> Option<Result<Reply, Failure>> {
        self.asked += 1;
        let (asked, client, sender) = (self.asked, Arc::clone(&self.client), self.sender.clone());
        spawn(move || {
            // This fails when the prompt has ended.
            let _ = sender.send(CommandEvent::Answered(asked, client.ask(&instruction)));
        });
        loop {
            match self.events.recv() {
                Ok(CommandEvent::Answered(number, answer)) if number == asked => return Some(answer),
                Ok(CommandEvent::Answered(..)) => {}
                // `recv` cannot fail: this struct owns a sender.
                Ok(CommandEvent::Interrupted) | Err(_) => return None,
            }
        }
    }
}

/// Cursor up, then the line feed of the printer: together nothing visible.
const NOTHING: &str = "\x1b[A";

/// Spawns a thread that shows events as they come, and ends the prompt when no more can come.
fn watch_events(
    client: &Arc<Client>,
    printer: Option<impl ExternalPrinter + Send + 'static>,
    ending: &Ending,
    options: &Options,
) {
    let (shown, escapes) = (options.events, options.escapes_at_prompt());
    let (ending, mut printer) = (ending.clone(), printer);
    let may_hold_one = shown && printer.is_some();
    let mut show = move |line: &str| {
        let printed = printer.as_mut().is_some_and(|printer| printer.print(format!("{line}\n")).is_ok());
        if !printed {
            say(line);
        }
    };
    // From the beginning of the run: a launched QEMU may have sent events before there was a prompt.
    let events = client.vm.events_from(&Mark::default(), [Wait::any_event()]);
    let Ok(mut events) = events else { return };
    let client = Arc::clone(client);
    spawn(move || {
        let mut missed = 0;
        loop {
            match events.next(FOREVER) {
                Ok(event) if shown => show(&line_of(&event, escapes)),
                Ok(_) => {}
                Err(_) => break,
            }
            if shown && events.missed() > missed {
                show(&format!("{} events dropped: they came too fast to be shown", events.missed() - missed));
                missed = events.missed();
            }
        }
        client.flush_log();
        if may_hold_one {
            // An editor that is woken ends without showing the text that it holds. It holds at most one text, so when
            // it has accepted this one, it has shown the last event.
            show(NOTHING);
        }
        ending.begin(PromptEnd::Disconnected);
    });
}

/// Logs the wire: on a terminal around the line that is typed, and otherwise to standard error alone.
fn log_wire(client: &Client, printer: Option<impl ExternalPrinter + Send + 'static>) {
    let mut printer = printer.filter(|_| io::stderr().is_terminal());
    client.log_wire(move |line| {
        let printed = printer.as_mut().is_some_and(|printer| printer.print(format!("{line}\n")).is_ok());
        if !printed {
            print(line);
        }
    });
}

/// Returns the line for an event.
fn line_of(event: &Event, escapes: Escapes) -> String {
    match (escapes, event.data()) {
        (Escapes::ForTerminal, _) => format!("event {event:#}"),
        (Escapes::Never, Some(data)) => format!("event {} {data}", event.name()),
        (Escapes::Never, None) => format!("event {}", event.name()),
    }
}

/// Spawns a thread that receives Ctrl-C while a command runs, and the signals that end the shell. Without it, they
/// would end the shell at once: the terminal would stay in raw mode, and QEMU would not be shut down.
fn watch_signals(ending: &Ending, sender: Sender<CommandEvent>) -> io::Result<()> {
    let mut signals = Signals::new(heeded([SIGHUP, SIGTERM]))?;
    // Also if it was ignored: `Ending` sends it.
    signals.add_signal(SIGINT)?;
    let ending = ending.clone();
    spawn(move || {
        for signal in signals.forever() {
            if signal != SIGINT {
                ending.begin(PromptEnd::Signalled(signal));
            } else if ending.get().is_some() {
                // `Ending` sent it to wake the editor.
                continue;
            }
            // This fails when the prompt has ended.
            let _ = sender.send(CommandEvent::Interrupted);
        }
    });
    Ok(())
}

/// Prints a line in one write, so that an event does not tear it.
fn say(text: &str) {
    // The editor reports a terminal that is gone.
    let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
}

fn complain(text: &str) {
    print(&format!("error: {text}"));
}
