//! Files of templates: they are created for the source, and opened for each clone.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use qemu_machine_core::procedure::{LoadTemplate, SaveTemplate};
use qemu_machine_core::{Config, Descriptor, HostFault, Misuse, Template, TemplateConfig, TemplateDisk};
use rustix::fs::OFlags;

use crate::fault::fault;
use crate::scratch_dir::{create_unnamed, path, unpredictable};
use crate::shared_fd::descriptor;

/// Why the files of a template could not be created or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateFileError {
    /// The configuration cannot become a template, or a disk does not have its format.
    Misuse(Misuse),
    /// The operating system refuses it: a file is gone ([`FaultKind::NotFound`](crate::core::FaultKind::NotFound)), or the
    /// directory has a template already ([`FaultKind::Exists`](crate::core::FaultKind::Exists)).
    Host(HostFault),
}

impl std::fmt::Display for TemplateFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::Host(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for TemplateFileError {}

impl From<Misuse> for TemplateFileError {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

/// Creates the files of a template, which only their owner can open, and returns the configuration to launch its source
/// with, and the procedure that saves it. The files stay when the source is not saved.
///
/// # Errors
///
/// [`TemplateFileError::Misuse`] as [`TemplateConfig::source_config`]. [`TemplateFileError::Host`] if a file exists already:
/// clones of another template may use it.
pub fn template_source(template: &TemplateConfig) -> Result<(Config, SaveTemplate), TemplateFileError> {
    let config = template.source_config()?;
    let memory = template.memory_path();
    create(&memory)?;
    let state = create(&template.state_path()).inspect_err(|_| {
        // Otherwise the next attempt would find a template. The error of the creation is the one to report.
        drop(remove_file(path(&memory)));
    })?;
    Ok((config, SaveTemplate::of(template, descriptor(state))))
}

/// Opens the files of a template, creates an overlay without a path for each of its disks, in the same directory, and returns
/// the configuration to launch a clone with, and the procedure that loads the state. Each clone needs a call of its own. It
/// waits for the file system.
///
/// # Errors
///
/// [`TemplateFileError::Host`] if a file of the template or the image of a disk is gone, cannot be opened or is not a regular
/// file, or if there is no room. [`TemplateFileError::Misuse`] if the image of a disk does not have its format.
pub fn template_clone(template: &Template) -> Result<(Config, LoadTemplate), TemplateFileError> {
    let source = template.source();
    let (memory, state) = (open(&source.memory_path())?, open(&source.state_path())?);
    let overlays = source.disks().iter().map(|disk| overlay(disk, &path(source.directory())));
    let overlays = overlays.collect::<Result<Vec<_>, _>>()?;
    Ok((template.clone_config(descriptor(memory), overlays), LoadTemplate::of(template, descriptor(state))))
}

fn create(file: &[u8]) -> Result<File, TemplateFileError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(file));
    created.map_err(|error| refused("create", file, &error))
}

fn open(file: &[u8]) -> Result<File, TemplateFileError> {
    File::open(path(file)).map_err(|error| refused("open", file, &error))
}

/// Creates the overlay of a disk in this directory.
fn overlay(disk: &TemplateDisk, directory: &Path) -> Result<Descriptor, TemplateFileError> {
    let (head, length) = head_and_length(&disk.path).map_err(|error| refused("open", &disk.path, &error))?;
    let content = disk.overlay(&head, length)?;
    let create = || -> io::Result<File> {
        let path = directory.join(unpredictable(b"overlay")?);
        let mut file = create_unnamed(&path, OpenOptions::new().read(true).write(true))?;
        file.write_all(&content)?;
        Ok(file)
    };
    create().map(descriptor).map_err(|error| refused("create an overlay of", &disk.path, &error))
}

/// Returns the beginning of an image, and its length. It must be a regular file, as QEMU requires (QEMU,
/// `block/file-posix.c`, `raw_open`), and the open of a FIFO would block.
fn head_and_length(file: &[u8]) -> io::Result<(Vec<u8>, u64)> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let image = OpenOptions::new().read(true).custom_flags(flags).open(path(file))?;
    let metadata = image.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut head = Vec::new();
    image.take(TemplateDisk::HEAD as u64).read_to_end(&mut head)?;
    Ok((head, metadata.len()))
}

fn refused(operation: &str, file: &[u8], error: &io::Error) -> TemplateFileError {
    TemplateFileError::Host(fault(format!("{operation} {}", path(file).display()), error))
}
