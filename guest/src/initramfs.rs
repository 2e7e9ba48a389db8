//! The initramfs of a run: busybox, the command, the init that runs it, and what these need.
//!
//! All files of this library are in the directory `.kernel-test`, so that an initramfs of the user's keeps its own.
//!
//! Why busybox: init needs a shell, `mount`, `insmod`, `stty` and `tar`, and so do most commands. A program of our own
//! would have to be compiled for the guest when this crate is built, or come as a binary without its source.

use std::ffi::OsStr;
use std::fs;

use crate::archive::{Archive, ArchiveError};
use crate::failure::Failure;
use crate::host_files;
use crate::kernel::kernel_release;
use crate::kernel_test::KernelTest;
use crate::modules::{Module, ModuleError, Modules};
use crate::shares::{Shares, one_line};

/// The program that the kernel executes first, and its arguments: the kernel passes what follows `--` to it (the kernel's
/// `Documentation/admin-guide/kernel-parameters.rst`).
pub(crate) const INIT: [&str; 2] = ["rdinit=/.kernel-test/busybox", "-- sh /.kernel-test/init"];

/// A rule by which `mdev` writes the name of the agent's port to a pipe.
const MDEV: &str = "vport.* 0:0 600 @echo $MDEV >/run/port\n";

/// Device nodes for a kernel without devtmpfs (the kernel's `Documentation/admin-guide/devices.txt`).
const NODES: [(&str, u32, u32); 7] = [
    ("dev/console", 5, 1),
    ("dev/null", 1, 3),
    ("dev/zero", 1, 5),
    ("dev/tty", 5, 0),
    ("dev/ttyS0", 4, 64),
    ("dev/ttyS1", 4, 65),
    ("dev/ttyS2", 4, 66),
];

impl From<ModuleError> for Failure {
    fn from(error: ModuleError) -> Self {
        Self::Host(error.to_string().into())
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        Self::Host(error.to_string().into())
    }
}

/// Returns the initramfs. `mark` is the text that begins the reports of the guest.
pub(crate) fn build(test: &KernelTest, shares: &Shares, mark: &str) -> Result<Vec<u8>, Failure> {
    let unpacked = test.unpacked.as_deref();
    if let Some(root) = unpacked {
        fs::read_dir(root).map_err(|error| Failure::file(root, error))?;
    }
    let mut archive = match &test.initrd {
        Some(path) => Archive::after(fs::read(path).map_err(|error| Failure::file(path, error))?),
        None => Archive::default(),
    };
    for (path, major, minor) in NODES {
        archive.character_device(path, 0o600, major, minor)?;
    }
    archive.file(".kernel-test/busybox", 0o755, &host_files::busybox(test.busybox.as_deref(), unpacked)?)?;
    archive.file(".kernel-test/init", 0o755, include_bytes!("init.sh"))?;
    archive.file(".kernel-test/mark", 0o644, mark.as_bytes())?;
    archive.file(".kernel-test/command", 0o755, &command(test))?;
    archive.file(".kernel-test/shares", 0o644, shares.lines()?.as_bytes())?;
    archive.file(".kernel-test/copies", 0o644, copies(test)?.as_bytes())?;
    if test.initrd.is_none() {
        archive.directory("tmp", 0o1777)?;
        archive.directory("root", 0o700)?;
        for name in ["busybox", "sh"] {
            archive.symlink(&format!("bin/{name}"), "/.kernel-test/busybox")?;
        }
    }
    if test.agent {
        add_agent(test, &mut archive)?;
    }
    let mut list = String::new();
    for module in modules(test, shares)? {
        let path = format!(".kernel-test/modules/{}.ko", module.name);
        archive.file(&path, 0o644, &module.content)?;
        list += &format!("/{path}\n");
    }
    archive.file(".kernel-test/modules.list", 0o644, list.as_bytes())?;
    Ok(archive.finish())
}

fn add_agent(test: &KernelTest, archive: &mut Archive) -> Result<(), Failure> {
    if test.initrd.is_some() || !test.copies.is_empty() {
        let why = "the agent runs the command only in the initramfs of kernel-test, and without files to copy";
        return Err(Failure::Host(why.into()));
    }
    for (path, content) in host_files::agent(test.unpacked.as_deref())? {
        archive.file(&path, 0o755, &content)?;
    }
    archive.directory("var/run", 0o755)?;
    archive.file("etc/mdev.conf", 0o644, MDEV.as_bytes())?;
    archive.file(".kernel-test/agent", 0o644, &[])?;
    Ok(())
}

/// Returns the modules to load: those that the caller chose, and those of the devices, as far as the kernel has them. A
/// kernel without modules has the drivers built in, or the guest reports what is missing.
fn modules(test: &KernelTest, shares: &Shares) -> Result<Vec<Module>, Failure> {
    let image = fs::read(&test.kernel).map_err(|error| Failure::file(&test.kernel, error))?;
    let release = kernel_release(&image);
    let tree = host_files::module_tree(release.as_deref(), test.unpacked.as_deref());
    let Some(tree) = test.module_tree.clone().or(tree) else {
        return match test.modules.first() {
            Some(name) => {
                Err(Failure::Host(format!("no directory with the kernel's modules is found, for {name}").into()))
            }
            None => Ok(Vec::new()),
        };
    };
    let known = Modules::read(&tree)?;
    let devices =
        [(test.agent, ["virtio_pci", "virtio_console"]), (!test.disks.is_empty(), ["virtio_pci", "virtio_blk"])];
    let needed = devices.into_iter().filter(|(is_needed, _)| *is_needed).flat_map(|(_, names)| names);
    let needed = needed.chain(shares.modules()).filter(|name| known.has(name));
    Ok(known.in_order(needed.chain(test.modules.iter().map(String::as_str)))?)
}

/// Returns the script that becomes the command.
fn command(test: &KernelTest) -> Vec<u8> {
    let mut script = b"#!/bin/sh\nexec".to_vec();
    for word in &test.command {
        script.push(b' ');
        script.extend(quoted(word));
    }
    script.push(b'\n');
    script
}

/// Returns a word that a shell reads unchanged: in single quotes, in which only a single quote ends the word.
fn quoted(word: &OsStr) -> Vec<u8> {
    let inside: Vec<&[u8]> = word.as_encoded_bytes().split(|byte| *byte == b'\'').collect();
    [b"'", &*inside.join(&b"'\\''"[..]), b"'"].concat()
}

fn copies(test: &KernelTest) -> Result<String, Failure> {
    test.copies.iter().map(|copy| Ok(format!("{}\n", one_line(&copy.guest)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quoted_word_stays_one_word() {
        assert_eq!(quoted("it's".as_ref()), b"'it'\\''s'");
        assert_eq!(quoted("".as_ref()), b"''");
    }
}
