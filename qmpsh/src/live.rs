//! Names for completion that no schema lists and QEMU reports: drivers, properties, devices, nodes, jobs, objects.

use std::time::Duration;

use qemu_machine_blocking::{Command, Value, Vm, json};

/// A set of names that QEMU reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Live<'a> {
    /// The device types that can be added.
    Drivers,
    /// The properties of a device type.
    PropertiesOf(&'a str),
    /// The devices that were added with an id.
    Devices,
    /// The nodes of the block layer.
    Nodes,
    /// The jobs.
    Jobs,
    /// The objects below an object, each path with a slash at its end.
    Below(&'a str),
    /// The properties of an object.
    PropertiesAt(&'a str),
}

/// The time that QEMU may take to report names. The user has pressed TAB and waits; a busy QEMU has no names to offer.
const WITHIN: Duration = Duration::from_secs(1);

impl<'a> Live<'a> {
    /// Returns the set that the value of an argument is in; `None` means that there is no such set. `find` returns the
    /// value of another argument.
    pub(crate) fn of(command: &str, key: &str, value: &'a str, find: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(match (command, key) {
            ("device_add", "driver") | ("device-list-properties", "typename") => Self::Drivers,
            ("device_del", "id") => Self::Devices,
            ("device_add", "drive") => Self::Nodes,
            // The name of a new node: none that exists.
            ("blockdev-add", "node-name") => return None,
            ("blockdev-add", _) if ["file", "backing"].iter().any(|last| key.ends_with(last)) => Self::Nodes,
            (command, "id") if command.starts_with("job-") => Self::Jobs,
            (command, "device") if command.starts_with("block-job-") => Self::Jobs,
            (command, "device" | "node" | "node-name" | "target" | "base-node" | "top-node")
                if command.starts_with("block") =>
            {
                Self::Nodes
            }
            (command, "path") if command.starts_with("qom-") => {
                Self::Below(value.rsplit_once('/').map_or("", |(above, _)| above))
            }
            ("qom-get" | "qom-set", "property") => Self::PropertiesAt(find("path")?),
            _ => return None,
        })
    }

    /// Asks QEMU for the names. If that fails, there are none.
    pub(crate) fn ask(self, vm: &Vm) -> Vec<String> {
        match self {
            Self::Drivers => {
                names(vm, ("qom-list-types", json!({"implements": "device", "abstract": false})), "name", |_| true)
            }
            Self::PropertiesOf(driver) => {
                names(vm, ("device-list-properties", json!({"typename": driver})), "name", |_| true)
            }
            Self::Devices => names(vm, ("qom-list", json!({"path": "/machine/peripheral"})), "name", is_object),
            Self::Nodes => names(vm, ("query-named-block-nodes", json!({"flat": true})), "node-name", |_| true),
            Self::Jobs => names(vm, "query-jobs", "id", |_| true),
            Self::Below(path) => {
                let all = names(vm, ("qom-list", json!({"path": root(path)})), "name", is_object);
                all.into_iter().map(|name| format!("{path}/{name}/")).collect()
            }
            Self::PropertiesAt(path) => {
                names(vm, ("qom-list", json!({"path": root(path)})), "name", |entry| !is_object(entry))
            }
        }
    }
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

/// Returns a member of each wanted entry of a list that a command returns, sorted.
fn names<C: Command<Reply = Value>>(vm: &Vm, command: C, member: &str, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let Ok(Value::Array(list)) = vm.execute_by(command, WITHIN) else { return Vec::new() };
    let named = list.iter().filter(|entry| wanted(entry)).filter_map(|entry| entry[member].as_str());
    let mut names: Vec<_> = named.map(str::to_owned).collect();
    names.sort();
    names
}
