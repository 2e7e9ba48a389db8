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
            Self::Cpus => asked.cpus(),
            Self::TraceEvents => asked.names(("trace-event-get-state", json!({"name": "*"})), "name", |_| true),
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

    fn cpus(&self) -> Vec<String> {
        let cpus = self.ask("query-cpus-fast").unwrap_or_default();
        cpus.as_array().into_iter().flatten().map(|cpu| cpu["cpu-index"].to_string()).collect()
    }

    /// Returns the names of wanted types from the human monitor: no command of QMP lists the netdevs, and they are not
    /// objects of QOM (QEMU, `qapi/net.json`; measured with QEMU 7.2.22).
    fn links(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let command = ("human-monitor-command", json!({"command-line": "info network"}));
        let printed = self.ask(command).unwrap_or_default();
        let all = links(printed.as_str().unwrap_or_default());
        sorted(all.into_iter().filter(|(_, kind)| wanted(kind)).map(|(name, _)| name.to_owned()).collect())
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
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
}
