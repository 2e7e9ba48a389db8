//! Commands of the guest agent, as it lists them: their completion and their help.

use qemu_machine_blocking::{UntrustedText, Value};

use crate::line::OWN_OF_AGENT;
use crate::show::printable;
use crate::split::{Word, cut, is_word};

/// The agent's own description (QEMU, `qga/qapi-schema.json`, `GuestAgentInfo`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GuestInfo {
    pub(crate) version: UntrustedText,
    commands: Vec<GuestCommand>,
}

/// A command of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GuestCommand {
    name: String,
    /// Whether the configuration of the agent allows it.
    is_enabled: bool,
    /// Whether the agent replies when it succeeds.
    is_answered: bool,
}

/// The overview of lines for the agent.
const LINES: &str = "\
NAME                           execute a command of the guest agent; TAB completes its name
NAME a=1 b.c=true d=[1,2] e='x y'  with arguments; numbers, true, false and null are JSON, anything else and '5' is text
{\"execute\": …}                 execute a command in JSON
help NAME                      whether the agent allows a command, and whether it replies
exit, Ctrl-D                   end the shell";

impl GuestInfo {
    /// Reads the reply to `guest-info`.
    pub(crate) fn of(reply: &Value) -> Self {
        let list = reply["supported_commands"].as_array();
        let command = |listed: &Value| {
            Some(GuestCommand {
                name: listed["name"].as_str()?.to_owned(),
                is_enabled: listed["enabled"] == true,
                is_answered: listed["success-response"] != false,
            })
        };
        let mut commands: Vec<_> = list.into_iter().flatten().filter_map(command).collect();
        commands.sort_by(|one, other| one.name.cmp(&other.name));
        Self { version: reply["version"].as_str().unwrap_or_default().into(), commands }
    }

    /// Returns where the last word begins, and the candidates to replace it: the commands that the agent allows. It does
    /// not list their arguments.
    pub(crate) fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let none = (before.len(), Vec::new());
        let Ok(words) = cut(before) else { return none };
        let ends_here = words.last().is_some_and(|word| word.at.end == before.len());
        let (position, typed) = match words.as_slice() {
            [] => (0, None),
            [.., last] if ends_here => (words.len() - 1, Some(last)),
            words => (words.len(), None),
        };
        let (start, prefix) = typed.map_or((before.len(), ""), |word| (word.at.start, &word.key));
        let enabled = self.commands.iter().filter(|command| command.is_enabled).map(|command| command.name.as_str());
        let names: Vec<&str> = match (position, words.first()) {
            (0, _) => enabled.chain(OWN_OF_AGENT).collect(),
            (1, Some(help)) if help.key == "help" => enabled.collect(),
            _ => return none,
        };
        let matching = names.into_iter().filter(|name| is_word(name) && name.starts_with(prefix));
        (start, matching.map(|name| format!("{name} ")).collect())
    }

    /// Returns the overview with the names of all commands, or the page on the command that the words name.
    ///
    /// # Errors
    ///
    /// A message, if the agent does not list the command.
    pub(crate) fn help(&self, about: &[Word]) -> Result<String, String> {
        let Some(about) = about.first() else {
            let names = self.commands.iter().map(|command| format!("  {}\n", printable(&command.name)));
            let overview = format!("{LINES}\n\nThe commands of this agent:\n{}", names.collect::<String>());
            return Ok(overview.trim_end().to_owned());
        };
        let command = self.commands.iter().find(|command| command.name == about.key);
        let command = command.ok_or_else(|| format!("`{}`: the agent does not list it", printable(&about.key)))?;
        let allowed = if command.is_enabled { "" } else { "; the agent's configuration disables it" };
        let answered = if command.is_answered { "" } else { "; the agent does not reply when it succeeds" };
        Ok(format!("{}: command of the guest agent{allowed}{answered}", printable(&command.name)))
    }
}

#[cfg(test)]
mod tests {
    use qemu_machine_blocking::json;

    use super::*;

    fn info() -> GuestInfo {
        GuestInfo::of(&json!({"version": "7.2.0", "supported_commands": [
            {"name": "guest-shutdown", "enabled": true, "success-response": false},
            {"name": "guest-ping", "enabled": true, "success-response": true},
            {"name": "guest-exec", "enabled": false, "success-response": true}]}))
    }

    #[test]
    fn the_commands_that_the_agent_allows_are_completed() {
        let completed = |line: &str| info().candidates(line);
        assert_eq!(completed("guest-"), (0, vec!["guest-ping ".into(), "guest-shutdown ".into()]));
        assert_eq!(completed("help guest-p"), (5, vec!["guest-ping ".into()]));
        assert_eq!(completed("").1.len(), 4);
        for line in ["guest-ping ", "guest-exec pa", "guest-file-open path='a"] {
            assert_eq!(completed(line).1, [""; 0], "{line}");
        }
    }

    #[test]
    fn help_shows_what_the_agent_says_of_a_command() {
        let help = |name: &str| info().help(&cut(name).unwrap());
        assert_eq!(help("guest-ping"), Ok("guest-ping: command of the guest agent".into()));
        assert!(help("guest-exec").unwrap().ends_with("disables it"));
        assert!(help("guest-shutdown").unwrap().ends_with("does not reply when it succeeds"));
        assert_eq!(help("x"), Err("`x`: the agent does not list it".into()));
        assert!(help("").unwrap().contains("\n  guest-exec\n  guest-ping\n  guest-shutdown"));
    }
}
