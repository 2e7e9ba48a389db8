//! Commands of the human monitor (HMP), as its help lists them, and the completion of a line for it.

use crate::live::Live;

/// The commands, and the topics of `info`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    commands: Vec<Described>,
    topics: Vec<Described>,
}

/// A command, or a topic of `info`: its names, and its parameters as the help writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Described {
    names: Vec<String>,
    parameters: Vec<String>,
}

impl Described {
    /// Reads a line of the help: `NAME|SHORT PARAMETERS -- TEXT` (QEMU, `monitor/hmp.c`, `help_cmd_dump_one`). `None`
    /// means that the line continues the text of the one before.
    fn read(line: &str) -> Option<Self> {
        if line.starts_with(|c: char| c.is_whitespace() || c == '[') {
            return None;
        }
        let (usage, _) = line.split_once(" -- ")?;
        let mut words = usage.split_whitespace();
        let names = words.next()?.split('|').map(str::to_owned).collect();
        Some(Self { names, parameters: words.map(str::to_owned).collect() })
    }

    /// Returns the words of a parameter that is a choice, such as `on|off`. Those without are not flags.
    fn choices(&self, position: usize) -> Vec<String> {
        let parameter = self.parameters.iter().filter(|parameter| !is_flag(parameter)).nth(position);
        let bare = parameter.map(|parameter| parameter.trim_matches(['[', ']'])).unwrap_or_default();
        let is_choice = bare.contains('|');
        bare.split('|').filter(|_| is_choice).map(str::to_owned).collect()
    }

    fn flags(&self) -> Vec<String> {
        let flags = self.parameters.iter().filter(|parameter| is_flag(parameter));
        flags.map(|flag| flag.trim_matches(['[', ']']).to_owned()).collect()
    }
}

/// Reports whether a parameter is a flag, such as `[-f]`, or the format of a number, `/fmt`.
fn is_flag(parameter: &str) -> bool {
    parameter.trim_start_matches('[').starts_with(['-', '/'])
}

impl Commands {
    /// Reads the output of the commands `help` and `help info`.
    pub(crate) fn read(help: &str, info: &str) -> Self {
        let topics = info.lines().filter_map(|line| line.strip_prefix("info "));
        Self {
            commands: help.lines().filter_map(Described::read).collect(),
            topics: topics.filter_map(Described::read).collect(),
        }
    }

    /// Returns where the last word of a line begins, and the candidates to replace it. `live` returns the names that
    /// only QEMU knows.
    pub(crate) fn candidates(&self, before: &str, live: impl Fn(Live<'_>) -> Vec<String>) -> (usize, Vec<String>) {
        let start = before.trim_end_matches(|c: char| !c.is_whitespace()).len();
        let typed = &before[start..];
        let words: Vec<&str> = before[..start].split_whitespace().collect();
        let known = match words.as_slice() {
            [] | ["help" | "?"] => names(&self.commands),
            ["info"] | ["help" | "?", "info"] => names(&self.topics),
            ["help" | "?", ..] => Vec::new(),
            ["info", topic, rest @ ..] => {
                values(&format!("info {topic}"), find(&self.topics, topic), rest, typed, live)
            }
            [command, rest @ ..] => values(command, find(&self.commands, command), rest, typed, live),
        };
        // QEMU reads parameters up to white space, and those that begin with a quote up to the next one (QEMU,
        // `monitor/hmp.c`, `get_str`).
        let is_bare = |name: &String| !name.starts_with('"') && !name.contains(char::is_whitespace);
        let matching = known.into_iter().filter(|name| is_bare(name) && name.starts_with(typed));
        (start, matching.map(|name| if name.ends_with('/') { name } else { format!("{name} ") }).collect())
    }
}

/// Returns the known values of the parameter after `before`.
fn values(
    command: &str,
    described: Option<&Described>,
    before: &[&str],
    typed: &str,
    live: impl Fn(Live<'_>) -> Vec<String>,
) -> Vec<String> {
    if typed.starts_with('-') {
        return described.map(Described::flags).unwrap_or_default();
    }
    let before: Vec<&str> = before.iter().copied().filter(|word| !word.starts_with('-')).collect();
    match Live::of_human(command, &before, typed) {
        Some(names) => live(names),
        None => described.map(|described| described.choices(before.len())).unwrap_or_default(),
    }
}

/// Returns the longest name of each: the others are abbreviations.
fn names(described: &[Described]) -> Vec<String> {
    let longest = |described: &Described| described.names.iter().max_by_key(|name| name.len()).cloned();
    let mut names: Vec<String> = described.iter().filter_map(longest).collect();
    names.sort();
    names.dedup();
    names
}

fn find<'a>(described: &'a [Described], name: &str) -> Option<&'a Described> {
    described.iter().find(|described| described.names.iter().any(|other| other == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "block_resize device size -- resize a block image\r\ndevice_del device -- remove device\r\n\
        eject [-f] device -- eject a removable medium (use -f to force it)\r\nhelp|? [cmd] -- show the help\r\n\
        info [subcommand] -- show various information about the system state\r\n\
        migrate [-d] [-b] uri -- migrate to URI (using -d to not wait for completion)\r\n\t\t\t -b for migration -- x\r\n\
        qom-get path property -- print QOM property\r\nquit|q  -- quit the emulator\r\n\
        set_link name on|off -- change the link status of a network adapter\r\n";
    const INFO: &str = "info block [-n] [-v] [device] -- show info of one block device\r\n\
        info blockstats  -- show block device statistics\r\ninfo status  -- show the current VM status\r\n";

    /// Returns the lines that completion makes of a line.
    fn completed(line: &str) -> Vec<String> {
        let live = |asked: Live<'_>| match asked {
            Live::Devices => vec!["net0".into(), "disk0".into()],
            Live::Drives => vec!["ide1-cd0".into(), "in quotes".into(), "\"in".into()],
            Live::Below("/machine") => vec!["/machine/peripheral/".into()],
            Live::PropertiesAt("/machine") => vec!["type".into()],
            _ => Vec::new(),
        };
        let (start, candidates) = Commands::read(HELP, INFO).candidates(line, live);
        candidates.into_iter().map(|candidate| format!("{}{candidate}", &line[..start])).collect()
    }

    #[test]
    fn commands_and_topics_are_completed_by_their_long_names() {
        assert_eq!(completed("q"), ["qom-get ", "quit "]);
        assert_eq!(completed("").len(), 9);
        assert_eq!(completed("info b"), ["info block ", "info blockstats "]);
        assert_eq!(completed("help info st"), ["help info status "]);
        assert_eq!(completed("help ej"), ["help eject "]);
        assert_eq!(completed("nothing x"), [""; 0]);
    }

    #[test]
    fn parameters_are_completed() {
        assert_eq!(completed("device_del n"), ["device_del net0 "]);
        assert_eq!(completed("device_del net0 "), [""; 0]);
        assert_eq!(completed("eject -f "), ["eject -f ide1-cd0 "]);
        assert_eq!(completed("eject -"), ["eject -f "]);
        assert_eq!(completed("info block "), ["info block ide1-cd0 "]);
        assert_eq!(completed("info block -v i"), ["info block -v ide1-cd0 "]);
        assert_eq!(completed("set_link net0 o"), ["set_link net0 on ", "set_link net0 off "]);
        assert_eq!(completed("qom-get /machine/p"), ["qom-get /machine/peripheral/"]);
        assert_eq!(completed("qom-get /machine t"), ["qom-get /machine type "]);
    }
}
