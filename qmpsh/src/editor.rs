//! Line editor: its completion and hints, the continuation of unfinished lines, and the history.

use std::borrow::Cow;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::client::Client;
use crate::failure::Failure;
use crate::line::{Trouble, may_be_secret};
use crate::mode::CONTINUED;
use crate::private_file;
use crate::prompt_end::Ending;
use crate::show::{is_printable, printable};

/// The number of lines in the history: months of use, in less than a megabyte.
const REMEMBERED: usize = 10_000;

/// The line editor, with the file of its history; `None` means that the history is not saved.
pub(crate) struct LineEditor {
    pub(crate) editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    pub(crate) fn new(client: Arc<Client>, ending: Ending, history: Option<PathBuf>) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(REMEMBERED)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .build();
        let mut editor = Editor::with_history(config.clone(), FileHistory::with_config(&config))?;
        editor.set_helper(Some(Assistant { client, ending, before: String::new() }));
        let mut line_editor = Self { editor, history };
        if let Some(path) =
            line_editor.history.as_ref().filter(|path| private_file::check(path).is_ok_and(|exists| exists))
        {
            // A file that cannot be read must not keep the prompt from starting.
            let _ = line_editor.editor.load_history(path);
        }
        Ok(line_editor)
    }

    /// Reads a line, and the lines that continue it. Their prompt is `... `. A line that is no action of a transaction is
    /// passed to `complain`, and the transaction goes on without it. Ctrl-D at a continued line drops the line.
    ///
    /// # Errors
    ///
    /// Those of the editor.
    pub(crate) fn read(&mut self, client: &Client, complain: impl Fn(&Failure)) -> rustyline::Result<String> {
        let mut text = String::new();
        loop {
            let prompt = if text.is_empty() { client.mode.prompt() } else { CONTINUED };
            if let Some(assistant) = self.editor.helper_mut() {
                assistant.before.clone_from(&text);
            }
            let line = match self.editor.readline(prompt) {
                Err(ReadlineError::Eof) if !text.is_empty() => return Err(ReadlineError::Interrupted),
                line => line?,
            };
            let longer = text.clone() + &line;
            match client.read(&longer) {
                Err(Trouble::Unfinished) => text = longer + "\n",
                Err(trouble) if client.is_in_transaction(&text) => complain(&Failure::from(trouble)),
                _ => return Ok(longer),
            }
        }
    }

    /// Adds a line to the history and its file, unless the line may contain a secret.
    ///
    /// # Errors
    ///
    /// A message, the first time that the file cannot be written. After that the history is kept in memory only.
    pub(crate) fn remember(&mut self, line: &str) -> Result<(), String> {
        if may_be_secret(line) || !self.editor.add_history_entry(line).unwrap_or(false) {
            return Ok(());
        }
        let Some(path) = &self.history else { return Ok(()) };
        let saved = make_directory(path).map_err(|error| error.to_string());
        // The editor writes whatever exists, and changes its mode.
        let saved = saved.and_then(|()| private_file::create(path).map_err(|error| error.to_string()));
        let saved = saved.and_then(|()| self.editor.append_history(path).map_err(|error| error.to_string()));
        let told = saved.map_err(|error| format!("the history is not saved: {}: {error}", printable(path)));
        if told.is_err() {
            self.history = None;
        }
        told
    }
}

/// Creates the directory of a file, with access for its owner only.
fn make_directory(file: &Path) -> std::io::Result<()> {
    let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    DirBuilder::new().mode(0o700).recursive(true).create(directory)
}

/// Completion and hints of a line while it is typed.
pub(crate) struct Assistant {
    client: Arc<Client>,
    ending: Ending,
    /// The lines that the typed one continues.
    before: String,
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, mut found) = self.client.candidates(&format!("{}{}", self.before, &line[..at]));
        // The editor prints the names of the peer, and the line that they are inserted in.
        found.retain(|name| is_printable(name));
        // Nothing of the lines before is replaced.
        Ok(start.checked_sub(self.before.len()).map_or_else(|| (at, Vec::new()), |start| (start, found)))
    }
}

/// A hint that no key accepts: it names what is missing, and is not a text to insert.
pub(crate) struct Missing(String);

impl Hint for Missing {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = Missing;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<Missing> {
        // The editor calls this before it waits for the first key, and reacts to signals from then on.
        self.ending.remind();
        if at != line.len() {
            return None;
        }
        self.client.hint(&format!("{}{line}", self.before)).map(|hint| Missing(printable(hint)))
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

/// The editor accepts each line, and [`LineEditor::read`] continues it.
impl Validator for Assistant {}
