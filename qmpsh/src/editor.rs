//! Line editor: its completion and hints, the continuation of unfinished lines, and the history.

use std::borrow::Cow;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::client::Client;
use crate::complete::{candidates, hint};
use crate::line::Trouble;
use crate::live::Live;
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
        editor.set_helper(Some(Assistant { client, ending }));
        let mut line_editor = Self { editor, history };
        if let Some(path) =
            line_editor.history.as_ref().filter(|path| private_file::check(path).is_ok_and(|exists| exists))
        {
            // A file that cannot be read must not keep the prompt from starting.
            let _ = line_editor.editor.load_history(path);
        }
        Ok(line_editor)
    }

    /// Adds a line to the history and its file, unless the line may contain a secret.
    ///
    /// # Errors
    ///
    /// A message, the first time that the file cannot be written. After that the history is kept in memory only.
    pub(crate) fn remember(&mut self, line: &str) -> Result<(), String> {
        if is_secret(line) || !self.editor.add_history_entry(line).unwrap_or(false) {
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

fn is_secret(line: &str) -> bool {
    let line = line.to_lowercase();
    ["password", "secret"].iter().any(|word| line.contains(word))
}

/// Creates the directory of a file, with access for its owner only.
fn make_directory(file: &Path) -> std::io::Result<()> {
    let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    DirBuilder::new().mode(0o700).recursive(true).create(directory)
}

/// Completion, hints and validation of a line while it is typed.
pub(crate) struct Assistant {
    client: Arc<Client>,
    ending: Ending,
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let schema = self.client.schema.as_ref();
        let live = |names: Live<'_>| names.ask(&self.client.vm);
        let (at, mut found) = schema.map_or_else(|| (at, Vec::new()), |schema| candidates(&line[..at], schema, live));
        // The editor prints the names of the peer, and the line that they are inserted in.
        found.retain(|name| is_printable(name));
        Ok((at, found))
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
        let schema = self.client.schema.as_ref().filter(|_| at == line.len())?;
        hint(line, schema).map(|hint| Missing(printable(hint)))
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let goes_on = matches!(self.client.read(context.input()), Err(Trouble::Unfinished));
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}
