//! Sets of names for completion that no schema lists and QEMU reports, and the arguments whose values are in them.

/// A set of names that QEMU reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Live<'a> {
    /// The device types that can be added.
    Drivers,
    /// The properties of a device type.
    PropertiesOf(&'a str),
    /// The devices that were added with an id.
    Devices,
    /// The objects that were added with an id.
    Objects,
    /// The threads for devices and nodes.
    Iothreads,
    /// The nodes of the block layer.
    Nodes,
    /// The names of block devices, which the human monitor uses.
    Drives,
    /// The dirty bitmaps of a node.
    BitmapsOf(&'a str),
    /// The block exports.
    Exports,
    /// The jobs.
    Jobs,
    /// The jobs of the block layer.
    BlockJobs,
    /// The sets of descriptors.
    FdSets,
    /// The buses of devices.
    Buses,
    /// The backends of networks (`-netdev`).
    Netdevs,
    /// The backends of networks, and the network devices.
    Links,
    /// The character devices.
    Chardevs,
    /// The capabilities of migration.
    Capabilities,
    /// The parameters of migration.
    Parameters,
    /// The indexes of the CPUs.
    Cpus,
    /// The events that can be traced whose names begin with this text.
    TraceEvents(&'a str),
    /// The objects below an object, each path with a slash at its end.
    Below(&'a str),
    /// The properties of an object.
    PropertiesAt(&'a str),
}

impl<'a> Live<'a> {
    /// Returns the set that the value of an argument is in; `None` means that there is no such set. `find` returns the
    /// value of another argument.
    pub(crate) fn of(command: &str, key: &str, value: &'a str, find: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let (above, last) = key.rsplit_once('.').unwrap_or(("", key));
        if last.parse::<usize>().is_ok() {
            return Self::of_element(command, above.rsplit('.').next().unwrap_or(above), find);
        }
        let beside = |name: &str| if above.is_empty() { find(name) } else { find(&format!("{above}.{name}")) };
        Self::of_block(command, last, beside)
            .or_else(|| Self::of_machine(command, last, value))
            .or_else(|| Self::of_qom(command, last, value, find))
    }

    /// As [`of`](Self::of), for an element of a list.
    fn of_element(command: &str, list: &str, find: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(match (command, list) {
            ("block-dirty-bitmap-merge", "bitmaps") => Self::BitmapsOf(find("node")?),
            ("block-export-add", "bitmaps") => Self::BitmapsOf(find("node-name")?),
            ("snapshot-save" | "snapshot-load" | "snapshot-delete", "devices")
            | ("blockdev-add" | "blockdev-reopen", "children") => Self::Nodes,
            ("announce-self", "interfaces") => Self::Links,
            _ => return None,
        })
    }

    /// As [`of`](Self::of), for the block layer. `beside` returns the value of an argument of the same object.
    fn of_block(command: &str, key: &str, beside: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(match (command, key) {
            // The name of a new node, bitmap or export: none that exists.
            ("blockdev-add", "node-name") | ("block-dirty-bitmap-add", "name") => return None,
            ("block-dirty-bitmap-merge", "target") => Self::BitmapsOf(beside("node")?),
            (command, "name") if command.contains("block-dirty-bitmap-") => Self::BitmapsOf(beside("node")?),
            // An element of `bitmaps`. The export itself has a `name` as well, and no `node` beside it.
            ("block-export-add", "name") => Self::BitmapsOf(beside("node")?),
            ("blockdev-backup" | "drive-backup" | "nbd-server-add", "bitmap") => Self::BitmapsOf(beside("device")?),
            ("blockdev-add" | "blockdev-reopen", "file" | "backing" | "target" | "data-file" | "raw" | "test") => {
                Self::Nodes
            }
            ("block-export-del" | "x-block-export-del", "id") | ("nbd-server-remove", "name") => Self::Exports,
            ("blockdev-change-medium" | "blockdev-open-tray" | "blockdev-close-tray", "id")
            | ("blockdev-insert-medium" | "blockdev-remove-medium" | "eject" | "block_set_io_throttle", "id")
            | ("block-latency-histogram-set", "id") => Self::Devices,
            // The name of a drive (QEMU, `qapi/block.json`, `qapi/block-core.json`): nodes have `node-name`.
            ("block_resize" | "block_set_io_throttle" | "eject", "device")
            | ("blockdev-change-medium" | "blockdev-open-tray" | "blockdev-close-tray", "device") => Self::Drives,
            (command, "id") if command.starts_with("job-") => Self::Jobs,
            (command, "device" | "id") if command.starts_with("block-job-") => Self::BlockJobs,
            ("x-blockdev-change", "parent") | ("nbd-server-add" | "drive-backup" | "drive-mirror", "device") => {
                Self::Nodes
            }
            ("drive-mirror" | "blockdev-mirror", "replaces")
            | ("change-backing-file", "device" | "image-node-name") => Self::Nodes,
            ("snapshot-save" | "snapshot-load", "vmstate") => Self::Nodes,
            (command, "node" | "node-name") if command.starts_with("x-") && command.contains("block") => Self::Nodes,
            (command, "device" | "node" | "node-name" | "target" | "base-node" | "top-node" | "bottom" | "overlay")
                if command.starts_with("block") =>
            {
                Self::Nodes
            }
            _ => return None,
        })
    }

    /// As [`of`](Self::of), for the other parts of a machine.
    fn of_machine(command: &str, key: &str, value: &'a str) -> Option<Self> {
        Some(match (command, key) {
            ("device_add", "driver") | ("device-list-properties", "typename") => Self::Drivers,
            ("device_add", "bus") => Self::Buses,
            ("device_del", "id") | ("screendump", "device") => Self::Devices,
            ("device_add", "drive") => Self::Nodes,
            ("object-del", "id") | ("device_add", "rng" | "cryptodev") => Self::Objects,
            ("object-add", "passwordid" | "keyid" | "prealloc-context") => Self::Objects,
            ("blockdev-add" | "blockdev-reopen", "throttle-group" | "pr-manager") => Self::Objects,
            // The secret itself, and not its id.
            ("sev-inject-launch-secret", "secret") => return None,
            (_, "iothread") => Self::Iothreads,
            (_, "memdev" | "tls-creds" | "tls-authz") => Self::Objects,
            (_, key) if key.ends_with("secret") => Self::Objects,
            ("netdev_del", "id") | ("device_add" | "object-add" | "netdev_add", "netdev") => Self::Netdevs,
            ("set_link" | "query-rx-filter", "name") => Self::Links,
            ("chardev-remove" | "chardev-change" | "chardev-send-break", "id")
            | ("ringbuf-read" | "ringbuf-write", "device")
            | ("device_add" | "object-add" | "netdev_add", "chardev")
            | ("object-add", "indev" | "outdev" | "primary_in" | "secondary_in" | "notify_dev") => Self::Chardevs,
            ("add-fd" | "remove-fd", "fdset-id") => Self::FdSets,
            (_, "cpu-index") => Self::Cpus,
            ("trace-event-get-state" | "trace-event-set-state", "name") => Self::TraceEvents(value),
            _ => return None,
        })
    }

    /// As [`of`](Self::of), for QEMU's object model.
    fn of_qom(command: &str, key: &str, value: &'a str, find: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(match (command, key) {
            (command, "path") if command.starts_with("qom-") => {
                Self::Below(value.rsplit_once('/').map_or("", |(above, _)| above))
            }
            ("qom-get" | "qom-set", "property") => Self::PropertiesAt(find("path")?),
            _ => return None,
        })
    }

    /// As [`of`](Self::of), for a parameter of a command of the human monitor, after the parameters `before`. The command
    /// `info` is followed by its topic.
    pub(crate) fn of_human(command: &str, before: &[&'a str], value: &'a str) -> Option<Self> {
        Some(match (command, before) {
            ("device_add", []) => Self::Drivers,
            ("device_del", []) => Self::Devices,
            ("object_del", []) => Self::Objects,
            ("netdev_del", []) => Self::Netdevs,
            ("set_link", []) => Self::Links,
            ("chardev-remove" | "chardev-change" | "chardev-send-break" | "ringbuf_read" | "ringbuf_write", []) => {
                Self::Chardevs
            }
            (
                "block_resize" | "block_set_io_throttle" | "block_stream" | "change" | "commit" | "eject" | "drive_del",
                [],
            )
            | ("drive_mirror" | "drive_backup" | "snapshot_blkdev" | "nbd_server_add" | "qemu-io" | "info block", [])
            | ("snapshot_blkdev_internal" | "snapshot_delete_blkdev_internal", []) => Self::Drives,
            (command, []) if command.starts_with("block_job_") => Self::BlockJobs,
            ("migrate_set_capability", []) => Self::Capabilities,
            ("migrate_set_parameter", []) => Self::Parameters,
            ("cpu", []) => Self::Cpus,
            ("trace-event", []) => Self::TraceEvents(value),
            ("qom-list" | "qom-get" | "qom-set" | "info qom-tree", []) => {
                Self::Below(value.rsplit_once('/').map_or("", |(above, _)| above))
            }
            ("qom-get" | "qom-set", [path]) => Self::PropertiesAt(path),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_in_the_set_of_its_command() {
        let of = |command, key| Live::of(command, key, "", |_| Some("disk"));
        assert_eq!(of("object-del", "id"), Some(Live::Objects));
        assert_eq!(of("netdev_del", "id"), Some(Live::Netdevs));
        assert_eq!(of("chardev-remove", "id"), Some(Live::Chardevs));
        assert_eq!(of("job-cancel", "id"), Some(Live::Jobs));
        assert_eq!(of("block-job-cancel", "device"), Some(Live::BlockJobs));
        assert_eq!(of("blockdev-del", "node-name"), Some(Live::Nodes));
        assert_eq!(of("blockdev-add", "file"), Some(Live::Nodes));
        assert_eq!(of("block_resize", "device"), Some(Live::Drives));
        assert_eq!(of("block_resize", "node-name"), Some(Live::Nodes));
        assert_eq!(of("block_set_io_throttle", "device"), Some(Live::Drives));
        assert_eq!(of("block_set_io_throttle", "id"), Some(Live::Devices));
        assert_eq!(of("blockdev-mirror", "device"), Some(Live::Nodes));
        assert_eq!(of("blockdev-add", "file.backing"), Some(Live::Nodes));
        assert_eq!(of("blockdev-add", "node-name"), None, "a new name");
        assert_eq!(of("block-dirty-bitmap-clear", "name"), Some(Live::BitmapsOf("disk")));
        assert_eq!(of("block-dirty-bitmap-add", "name"), None, "a new name");
        assert_eq!(of("query-status", "id"), None);
        assert_eq!(of("device_add", "bus"), Some(Live::Buses));
        assert_eq!(of("object-add", "netdev"), Some(Live::Netdevs));
        assert_eq!(of("block-job-change", "id"), Some(Live::BlockJobs));
        assert_eq!(of("change-backing-file", "image-node-name"), Some(Live::Nodes));
        for key in ["indev", "outdev", "primary_in", "secondary_in"] {
            assert_eq!(of("object-add", key), Some(Live::Chardevs));
        }
        for command in ["drive-backup", "drive-mirror", "block-stream"] {
            assert_eq!(of(command, "device"), Some(Live::Nodes));
        }
        let objects = [
            ("device_add", "memdev"),
            ("migrate-set-parameters", "tls-creds"),
            ("blockdev-add", "encrypt.key-secret"),
            ("nbd-server-start", "tls-authz"),
        ];
        for (command, key) in objects {
            assert_eq!(of(command, key), Some(Live::Objects), "{command}");
        }
        assert_eq!(of("block-export-add", "iothread"), Some(Live::Iothreads));
        assert_eq!(of("x-blockdev-set-iothread", "iothread"), Some(Live::Iothreads));
        assert_eq!(of("sev-inject-launch-secret", "secret"), None, "it is the secret itself");
    }

    #[test]
    fn the_bitmaps_are_those_of_the_node_that_the_command_names() {
        let named = |name: &str| match name {
            "node" => Some("disk"),
            "bitmaps.0.node" => Some("other"),
            "node-name" | "device" => Some("root"),
            _ => None,
        };
        let of = |command, key| Live::of(command, key, "", named);
        assert_eq!(
            of("block-dirty-bitmap-merge", "target"),
            Some(Live::BitmapsOf("disk")),
            "no node, as other targets"
        );
        assert_eq!(of("block-dirty-bitmap-merge", "bitmaps.0"), Some(Live::BitmapsOf("disk")));
        assert_eq!(of("block-dirty-bitmap-merge", "bitmaps"), None, "a list, which is written element by element");
        assert_eq!(of("block-dirty-bitmap-merge", "bitmaps.0.name"), Some(Live::BitmapsOf("other")));
        assert_eq!(of("block-dirty-bitmap-merge", "bitmaps.0.node"), Some(Live::Nodes));
        assert_eq!(of("block-export-add", "bitmaps.1"), Some(Live::BitmapsOf("root")));
        assert_eq!(of("blockdev-backup", "bitmap"), Some(Live::BitmapsOf("root")));
        assert_eq!(Live::of("block-export-add", "name", "", |_| None), None, "the new name of the export");
    }

    #[test]
    fn a_parameter_of_the_human_monitor_is_in_the_set_of_its_command() {
        assert_eq!(Live::of_human("device_del", &[], ""), Some(Live::Devices));
        assert_eq!(Live::of_human("device_del", &["net0"], ""), None);
        assert_eq!(Live::of_human("qom-get", &[], "/machine/q"), Some(Live::Below("/machine")));
        assert_eq!(Live::of_human("qom-get", &["/machine"], ""), Some(Live::PropertiesAt("/machine")));
        assert_eq!(Live::of_human("block_job_pause", &[], ""), Some(Live::BlockJobs));
        assert_eq!(Live::of_human("info block", &[], ""), Some(Live::Drives));
    }
}
