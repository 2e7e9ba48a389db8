//! Template of machines: the configuration of its source, and of the clones that start from what it saved.

mod check;
mod disk;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command_line::escape_commas;
use crate::config::Config;
use crate::descriptor::Descriptor;
use crate::fault::Misuse;
use crate::os_bytes::OsBytes;

pub use disk::{DiskFormat, TemplateDisk};

/// The id of the memory backend. It is part of the saved state, so it is the same in the source and in the clones.
const MEMORY_ID: &str = "template-memory";

/// Configuration of a machine that becomes a [`Template`]: its memory is a shared file, and its disks are known.
///
/// The *source* is launched and boots to a point that the caller waits for. Then
/// [`SaveTemplate`](crate::procedure::SaveTemplate) saves the state of its devices and ends it. Each clone maps the file
/// of the memory copy-on-write, so the pages that no clone writes to exist once.
///
/// The function `template_source` of the runtimes creates the files of the template, and returns what a launch needs.
///
/// ```
/// use qemu_machine_core::{Config, DiskFormat, TemplateConfig};
///
/// let guest = Config::new("qemu-system-x86_64").args(["-nodefaults", "-kernel", "vmlinuz"]).serial("tty");
/// let template = TemplateConfig::new(guest, "/dev/shm/booted", 512).disk("root", "/images/root.qcow2", DiskFormat::Qcow2);
/// let line = template.source_config()?.command_line()?.to_string();
/// assert!(line.contains("mem-path=/dev/shm/booted/memory,share=on"));
/// # Ok::<(), qemu_machine_core::Misuse>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateConfig {
    config: Config,
    directory: Vec<u8>,
    memory_mib: u64,
    disks: Vec<TemplateDisk>,
}

impl TemplateConfig {
    /// Returns the template of a machine with this much memory, in MiB. Its files are in this directory, which must exist
    /// and have no template yet: `memory`, as large as the memory, and `state`. On a tmpfs (`/dev/shm`) the memory is
    /// never written to a disk.
    ///
    /// The configuration has neither the memory (`-m`) nor a way in which QEMU gets an earlier state. Descriptors of
    /// [`Config::inherit_fd`] and [`Config::add_fd`] are those of the source and of each clone.
    #[must_use]
    pub fn new(config: Config, directory: impl OsBytes, memory_mib: u64) -> Self {
        Self { config, directory: directory.as_os_bytes().to_vec(), memory_mib, disks: Vec::new() }
    }

    /// Adds a disk: the block node of this name on the image at this path, for an argument such as `-device
    /// virtio-blk-pci,drive=NAME`. The source writes to the image. Each clone writes to an overlay of its own, which has no
    /// path and ends with it. The image must stay as it is while there are clones.
    #[must_use]
    pub fn disk(mut self, node: impl Into<String>, path: impl OsBytes, format: DiskFormat) -> Self {
        self.disks.push(TemplateDisk { node: node.into(), path: path.as_os_bytes().to_vec(), format });
        self
    }

    /// Returns the disks.
    #[must_use]
    pub fn disks(&self) -> &[TemplateDisk] {
        &self.disks
    }

    /// Returns the path of the directory with the files.
    #[must_use]
    pub fn directory(&self) -> &[u8] {
        &self.directory
    }

    /// Returns the path of the file with the memory.
    #[must_use]
    pub fn memory_path(&self) -> Vec<u8> {
        self.path("memory")
    }

    /// Returns the path of the file with the state of the devices.
    #[must_use]
    pub fn state_path(&self) -> Vec<u8> {
        self.path("state")
    }

    fn path(&self, name: &str) -> Vec<u8> {
        [&*self.directory, b"/", name.as_bytes()].concat()
    }

    /// Returns the configuration of the source.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] if the configuration sets memory or an earlier state itself, or has a device that writes to the
    /// memory of other clones (`virtio-balloon`, `virtio-mem`) or a shared `memory-backend-file`; if it attaches to a
    /// machine or has no monitor; if the path of the directory or of a disk is relative, or the name of a disk is not
    /// valid.
    pub fn source_config(&self) -> Result<Config, Misuse> {
        self.check()?;
        let memory = [b"mem-path=", &*escape_commas(self.memory_path()), b",share=on"].concat();
        let disks = self.disks.iter().map(|disk| disk.node_on(disk.format, &disk.path));
        Ok(disks.fold(self.with_memory(&memory), |config, node| config.arg("-blockdev").arg(node)))
    }

    fn with_memory(&self, file: &[u8]) -> Config {
        let size = format!("{}M", self.memory_mib);
        let object = format!("memory-backend-file,id={MEMORY_ID},size={size},");
        let config = self.config.clone().args(["-m", &size, "-object"]);
        config.arg([object.as_bytes(), file].concat()).arg("-machine").arg(format!("memory-backend={MEMORY_ID}"))
    }
}

/// Machine that was saved at a point, from which any number of clones start: the result of
/// [`SaveTemplate`](crate::procedure::SaveTemplate).
///
/// The function `template_clone` of the runtimes opens its files, and returns what the launch of a clone needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub(crate) of: TemplateConfig,
    /// The version of QEMU, with that of its package.
    pub(crate) version: String,
    /// The devices of the command line and those that were plugged in, in the words of QEMU.
    pub(crate) devices: Vec<String>,
    pub(crate) abilities: Abilities,
}

/// Abilities of a QEMU that depend on its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// QEMU maps a file that it has opened for reading alone as memory that the guest writes to (`rom=off`), and migrates
    /// to a file by its path. Both came with QEMU 8.2 (QEMU, `qapi/qom.json`, `MemoryBackendFileProperties`;
    /// `qapi/migration.json`, `FileMigrationArgs`), and only the former is listed by a short command.
    pub(crate) opens_read_only: bool,
}

impl Template {
    /// Returns the configuration of the source that was saved.
    #[must_use]
    pub fn source(&self) -> &TemplateConfig {
        &self.of
    }

    /// Returns the version of the QEMU that saved the template, with that of its package. Only the same QEMU can load it.
    #[must_use]
    pub fn qemu_version(&self) -> &str {
        &self.version
    }

    /// Returns the configuration of a clone, given the file of the memory, opened for reading, and one overlay for each
    /// [disk](TemplateConfig::disks), opened for reading and writing. A clone is launched, and then runs
    /// [`LoadTemplate`](crate::procedure::LoadTemplate). A disk without an overlay has no node, and QEMU refuses a device on
    /// it.
    ///
    /// A clone is launched once: [`Config::keep_fds`] has no effect, since a second run would begin with the disks of the
    /// first.
    ///
    /// QEMU opens the memory a second time by its descriptor, so the file may have been removed, and QEMU cannot create an
    /// empty one in its place. The user of the process must be permitted to read it, and before QEMU 8.2 to write to it.
    #[must_use]
    pub fn clone_config(&self, memory: Descriptor, overlays: impl IntoIterator<Item = Descriptor>) -> Config {
        let mut with_descriptor = self.of.clone();
        with_descriptor.config.keeps_fds = false;
        let number = with_descriptor.config.inherit_fd(memory);
        let access = if self.abilities.opens_read_only { ",readonly=on,rom=off" } else { "" };
        let memory = format!("mem-path=/proc/self/fd/{number},share=off{access}");
        let config = with_descriptor.with_memory(memory.as_bytes()).args(["-incoming", "defer"]);
        let taken: Vec<u32> = config.added.iter().map(|added| added.set).collect();
        let sets = (0..=u32::MAX).filter(|set| !taken.contains(set)).zip(overlays);
        self.of.disks.iter().zip(sets).fold(config, |config, (disk, (set, overlay))| {
            let node = disk.node_on(DiskFormat::Qcow2, format!("/dev/fdset/{set}").as_bytes());
            config.add_fd(overlay, set, &*disk.node).arg("-blockdev").arg(node)
        })
    }
}
