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
    /// The events that can be traced.
    TraceEvents,
    /// The objects below an object, each path with a slash at its end.
    Below(&'a str),
    /// The properties of an object.
    PropertiesAt(&'a str),
}

impl<'a> Live<'a> {
    /// Returns the set that the value of an argument is in; `None` means that there is no such set. `find` returns the
    /// value of another argument.
    pub(crate) fn of(command: &str, key: &str, value: &'a str, find: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let last = key.rsplit('.').next().unwrap_or(key);
        Some(match (command, last) {
            ("device_add", "driver") | ("device-list-properties", "typename") => Self::Drivers,
            ("device_del", "id") => Self::Devices,
            ("device_add", "drive") => Self::Nodes,
            ("device_add", "iothread" | "memdev" | "rng" | "cryptodev" | "secret") | ("object-del", "id") => {
                Self::Objects
            }
            // The name of a new node, bitmap or job: none that exists.
            ("blockdev-add", "node-name") => return None,
            ("block-dirty-bitmap-add", "name") => return None,
            (command, "name") if command.starts_with("block-dirty-bitmap-") => Self::BitmapsOf(find("node")?),
            ("blockdev-add" | "blockdev-reopen", "file" | "backing" | "target") => Self::Nodes,
            ("block-export-add" | "x-block-latency-histogram-set", "node-name") => Self::Nodes,
            ("block-export-del" | "x-block-export-del", "id") => Self::Exports,
            ("blockdev-change-medium" | "blockdev-open-tray" | "blockdev-close-tray", "id")
            | ("blockdev-insert-medium" | "blockdev-remove-medium" | "eject" | "block_set_io_throttle", "id")
            | ("block-latency-histogram-set", "id") => Self::Devices,
            // The name of a drive (QEMU, `qapi/block.json`, `qapi/block-core.json`): nodes have `node-name`.
            ("block_resize" | "block_set_io_throttle" | "eject", "device")
            | ("blockdev-change-medium" | "blockdev-open-tray" | "blockdev-close-tray", "device") => Self::Drives,
            (command, "id") if command.starts_with("job-") => Self::Jobs,
            (command, "device") if command.starts_with("block-job-") => Self::BlockJobs,
            ("x-blockdev-change", "parent" | "node") | ("nbd-server-add", "device") => Self::Nodes,
            (command, "device" | "node" | "node-name" | "target" | "base-node" | "top-node" | "overlay")
                if command.starts_with("block") =>
            {
                Self::Nodes
            }
            ("netdev_del", "id") | ("device_add", "netdev") => Self::Netdevs,
            ("set_link", "name") => Self::Links,
            ("chardev-remove" | "chardev-change" | "chardev-send-break", "id")
            | ("ringbuf-read" | "ringbuf-write", "device")
            | ("device_add" | "object-add", "chardev") => Self::Chardevs,
            (command, "path") if command.starts_with("qom-") => {
                Self::Below(value.rsplit_once('/').map_or("", |(above, _)| above))
            }
            ("qom-get" | "qom-set", "property") => Self::PropertiesAt(find("path")?),
            ("trace-event-get-state" | "trace-event-set-state", "name") => Self::TraceEvents,
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
            ("trace-event", []) => Self::TraceEvents,
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
