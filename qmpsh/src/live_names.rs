//! Queries for the names of a set, within a deadline.

use std::time::Instant;

use qemu_machine_blocking::{Command, Value, Vm, json};

use crate::live::Live;
use crate::queries::Queries;

impl Live<'_> {
    /// Asks QEMU for the names. If that fails, or QEMU does not answer in time, there are none.
    pub(crate) fn ask(self, queries: &Queries, vm: &Vm, within: Instant) -> Vec<String> {
        let asked = Asked { queries, vm, within };
        match self {
            Self::Drivers => {
                asked.names(("qom-list-types", json!({"implements": "device", "abstract": false})), "name", |_| true)
            }
            Self::PropertiesOf(driver) => {
                asked.names(("device-list-properties", json!({"typename": driver})), "name", |_| true)
            }
            Self::Devices => asked.names(("qom-list", json!({"path": "/machine/peripheral"})), "name", is_object),
            Self::Objects => asked.names(("qom-list", json!({"path": "/objects"})), "name", is_object),
            Self::Nodes => asked.names(("query-named-block-nodes", json!({"flat": true})), "node-name", |_| true),
            Self::Drives => asked.names("query-block", "device", |drive| drive["device"] != ""),
            Self::BitmapsOf(node) => asked.bitmaps(node),
            Self::Exports => asked.names("query-block-exports", "id", |_| true),
            Self::Jobs => asked.names("query-jobs", "id", |_| true),
            Self::BlockJobs => asked.names("query-block-jobs", "device", |_| true),
            Self::Netdevs => asked.links(|kind| kind != "nic"),
            Self::Links => asked.links(|_| true),
            Self::Chardevs => asked.names("query-chardev", "label", |_| true),
            Self::Capabilities => asked.names("query-migrate-capabilities", "capability", |_| true),
            Self::Parameters => asked.members("query-migrate-parameters"),
            Self::FdSets => asked.numbers("query-fdsets", "fdset-id"),
            Self::Buses => sorted(buses(&asked.human("info qtree")).map(str::to_owned).collect()),
            Self::Cpus => asked.numbers("query-cpus-fast", "cpu-index"),
            Self::TraceEvents(begin) => {
                // There are thousands. `-` is completed as `_`, which the names have.
                let pattern = format!("{}*", begin.split(['-', '*', '?']).next().unwrap_or_default());
                asked.names(("trace-event-get-state", json!({"name": pattern})), "name", |_| true)
            }
            Self::Iothreads => asked.names("query-iothreads", "id", |_| true),
            Self::Below(path) => {
                let all = asked.names(("qom-list", json!({"path": root(path)})), "name", is_object);
                all.into_iter().map(|name| format!("{path}/{name}/")).collect()
            }
            Self::PropertiesAt(path) => {
                asked.names(("qom-list", json!({"path": root(path)})), "name", |entry| !is_object(entry))
            }
        }
    }
}

/// A machine that is asked for names, all within one deadline.
struct Asked<'a> {
    queries: &'a Queries,
    vm: &'a Vm,
    within: Instant,
}

impl Asked<'_> {
    fn ask<C: Command<Reply = Value> + Send + 'static>(&self, command: C) -> Option<Value> {
        self.queries.ask(self.vm, command, self.within)
    }

    /// Returns a member of each wanted element of a list that a command returns, sorted.
    fn names<C: Command<Reply = Value> + Send + 'static>(
        &self,
        command: C,
        member: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<String> {
        let Some(Value::Array(list)) = self.ask(command) else { return Vec::new() };
        let named = list.iter().filter(|element| wanted(element)).filter_map(|element| element[member].as_str());
        sorted(named.map(str::to_owned).collect())
    }

    /// Returns the names of the members of an object that a command returns.
    fn members(&self, command: &'static str) -> Vec<String> {
        let Some(Value::Object(members)) = self.ask(command) else { return Vec::new() };
        sorted(members.into_iter().map(|(name, _)| name).collect())
    }

    fn bitmaps(&self, node: &str) -> Vec<String> {
        let nodes = self.ask(("query-named-block-nodes", json!({"flat": true}))).unwrap_or_default();
        let of_node = nodes.as_array().into_iter().flatten().filter(|element| element["node-name"] == node);
        let bitmaps = of_node.filter_map(|element| element["dirty-bitmaps"].as_array()).flatten();
        sorted(bitmaps.filter_map(|bitmap| bitmap["name"].as_str()).map(str::to_owned).collect())
    }

    /// Returns a member of each element of a list that a command returns.
    fn numbers(&self, command: &'static str, member: &str) -> Vec<String> {
        let list = self.ask(command).unwrap_or_default();
        list.as_array().into_iter().flatten().map(|element| element[member].to_string()).collect()
    }

    /// Returns what a command of the human monitor prints.
    fn human(&self, line: &str) -> String {
        let command = ("human-monitor-command", json!({"command-line": line}));
        self.ask(command).unwrap_or_default().as_str().unwrap_or_default().to_owned()
    }

    /// Returns the names of wanted types from the human monitor: no command of QMP lists the netdevs, and they are not
    /// objects of QOM (QEMU, `qapi/net.json`; measured with QEMU 7.2.22).
    fn links(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let printed = self.human("info network");
        let wanted = links(&printed).into_iter().filter(|(_, kind)| wanted(kind));
        sorted(wanted.map(|(name, _)| name.to_owned()).collect())
    }
}

/// Returns the names in order, each once: buses may have the same name.
fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// Returns the names and types that `info network` lists: `NAME: index=0,type=TYPE,…`, after ` \ ` for the peer of the
/// line before, and after `PORT: ` for the peer of a port of a hub (QEMU, `net/net.c`, `print_net_client`;
/// `net/hub.c`, `net_hub_info`).
fn links(printed: &str) -> Vec<(&str, &str)> {
    let link = |line| {
        let (name, rest): (&str, &str) = str::split_once(line, ": index=")?;
        let kind = rest.split(',').find_map(|field| field.strip_prefix("type="))?;
        let name = name.rsplit(": ").next().unwrap_or(name);
        Some((name.trim().trim_start_matches('\\').trim_start(), kind.trim_end()))
    };
    printed.lines().filter_map(link).collect()
}

/// Returns the names of the buses that `info qtree` lists: `bus: NAME`, behind blanks (QEMU, `softmmu/qdev-monitor.c`,
/// `qbus_print`). No command of QMP lists them.
fn buses(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter_map(|line| line.trim().strip_prefix("bus: "))
}

/// Returns the path of an object without a slash at its end, except for the root, `/`.
fn root(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/" } else { path }
}

/// Reports whether a property is a child object: its type is `child<…>` (QEMU, `qapi/qom.json`, `ObjectPropertyInfo`).
fn is_object(entry: &Value) -> bool {
    entry["type"].as_str().is_some_and(|kind| kind.starts_with("child<"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_of_a_network_are_read() {
        let printed = "e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:56\r\n \\ user0: index=0,type=user,\
                       net=10.0.2.0,restrict=off\r\nhub 0\r\n \\ hub0port1: socket.0: index=0,type=socket,\r\n\
                       alone: index=0,type=user,net=10.0.2.0\r\n";
        let expected = [("e1000.0", "nic"), ("user0", "user"), ("socket.0", "socket"), ("alone", "user")];
        assert_eq!(links(printed), expected);
    }

    #[test]
    fn the_buses_of_the_device_tree_are_read() {
        let printed = "bus: main-system-bus\r\n  type System\r\n  dev: i440FX-pcihost, id \"\"\r\n    x = 1\r\n    \
                       bus: pci.0\r\n      type PCI\r\n";
        assert_eq!(buses(printed).collect::<Vec<_>>(), ["main-system-bus", "pci.0"]);
    }
}
