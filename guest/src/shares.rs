//! Shared directories: by which file systems each is offered, and what the guest and QEMU have for that.
//!
//! A directory is offered by virtiofs, by 9p, or by both, and init mounts the first that works: nothing says before the
//! boot which file systems are built into a kernel.

use std::fs;

use qemu_machine_blocking::{Config, LaunchError, UntrustedText};

use crate::failure::Failure;
use crate::file_server::FileServer;
use crate::kernel_test::{KernelTest, Share, ShareBy};
use crate::qemu_option::{escaped, memory_size};

/// The options with which the guest mounts 9p, after the mode (the kernel's `Documentation/filesystems/9p.rst`). `msize` is
/// the largest message: QEMU warns about less than 8 KiB, and more is faster.
const MOUNT_9P: &str = "trans=virtio,version=9p2000.L,msize=262144";

/// The shared directories of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares(Vec<Offer>);

/// A directory, and how it is offered.
#[derive(Clone, Debug)]
struct Offer {
    share: Share,
    /// The file server for virtiofs, or the reason why it is not offered.
    virtiofs: Result<FileServer, String>,
    has_9p: bool,
}

impl Shares {
    /// Decides how each directory is offered.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`], if there is no such directory, or it cannot be offered as the caller demands.
    pub(crate) fn new(test: &KernelTest) -> Result<Self, Failure> {
        if test.shares.is_empty() {
            return Ok(Self::default());
        }
        let server = match test.share_by {
            ShareBy::NineP => Err("9p was chosen".to_owned()),
            ShareBy::Auto | ShareBy::Virtiofs => FileServer::find(test.virtiofsd.as_deref()),
        };
        let offer = |share: &Share| {
            is_directory(share)?;
            let is_read_only = share.is_read_only;
            let virtiofs = match &server {
                Ok(server) if is_read_only => server.can_be_read_only().map(|()| server.clone()),
                other => other.clone(),
            };
            match &virtiofs {
                Err(why) if test.share_by == ShareBy::Virtiofs => {
                    Err(Failure::file(&share.directory, format!("it cannot be shared by virtiofs: {why}")))
                }
                _ => Ok(Offer { share: share.clone(), virtiofs, has_9p: test.share_by != ShareBy::Virtiofs }),
            }
        };
        test.shares.iter().map(offer).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the directories for a command line that is only printed, which has no file server.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`], if they are to be shared by virtiofs, or there is no such directory.
    pub(crate) fn of_command_line(test: &KernelTest) -> Result<Self, Failure> {
        if test.share_by == ShareBy::Virtiofs && !test.shares.is_empty() {
            return Err(Failure::Host("a command line of QEMU starts no virtiofsd: share by 9p".into()));
        }
        let offer = |share: &Share| {
            let virtiofs = Err("a dry run starts no virtiofsd".into());
            is_directory(share).map(|()| Offer { share: share.clone(), virtiofs, has_9p: true })
        };
        test.shares.iter().map(offer).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the same directories in fewer ways, for a launch that failed, each with the name of the one way that is left:
    /// virtiofsd may not work here, or QEMU may be built without 9p. Empty if each directory is offered in one way.
    pub(crate) fn fewer(&self) -> Vec<(Self, &'static str)> {
        let has_both = |offer: &Offer| offer.virtiofs.is_ok() && offer.has_9p;
        let by_virtiofs = |offer: &Offer| Offer { has_9p: !has_both(offer), ..offer.clone() };
        let by_9p = |offer: &Offer| match has_both(offer) {
            true => Offer { virtiofs: Err(String::new()), ..offer.clone() },
            false => offer.clone(),
        };
        if !self.0.iter().any(has_both) {
            return Vec::new();
        }
        let all = |way: &dyn Fn(&Offer) -> Offer| Self(self.0.iter().map(way).collect());
        vec![(all(&by_virtiofs), "virtiofs"), (all(&by_9p), "9p")]
    }

    /// Returns the modules that the guest loads if its kernel has them.
    pub(crate) fn modules<'a>(&self) -> impl Iterator<Item = &'a str> {
        let needs_virtiofs = self.0.iter().any(|offer| offer.virtiofs.is_ok());
        let needs_9p = self.0.iter().any(|offer| offer.has_9p);
        let virtiofs = ["virtio_pci", "virtiofs"].into_iter().filter(move |_| needs_virtiofs);
        virtiofs.chain(["virtio_pci", "9pnet_virtio", "9p"].into_iter().filter(move |_| needs_9p))
    }

    /// Returns three lines for each directory: its tag, and the types of file systems to try with their options; its path in
    /// the guest, which may have blanks; and why virtiofs is not tried, or an empty line.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`], if a path in the guest is not valid.
    pub(crate) fn lines(&self) -> Result<String, Failure> {
        let mut lines = String::new();
        for (offer, number) in self.0.iter().zip(0..) {
            let Share { guest, is_read_only, .. } = &offer.share;
            if !guest.starts_with('/') {
                return Err(Failure::Host(format!("`{guest}` is no absolute path in the guest").into()));
            }
            let mode = if *is_read_only { "ro" } else { "rw" };
            lines += &format!("share{number}");
            lines += &if offer.virtiofs.is_ok() { format!(" virtiofs:{mode}") } else { String::new() };
            lines += &if offer.has_9p { format!(" 9p:{mode},{MOUNT_9P}") } else { String::new() };
            let why = offer.virtiofs.as_ref().err().map(|why| format!("; virtiofs is not tried: {why}"));
            lines += &format!("\n{}\n{}\n", one_line(guest)?, why.unwrap_or_default());
        }
        Ok(lines)
    }

    /// Adds the devices, and the file servers, which read and write the memory of the guest: it is shared with them.
    pub(crate) fn add_to(&self, test: &KernelTest, mut config: Config) -> Config {
        for (Offer { share, virtiofs, has_9p }, number) in self.0.iter().zip(0..) {
            if let Ok(server) = virtiofs {
                let server = server.companion(format!("virtiofsd{number}"), &share.directory, share.is_read_only);
                let device = format!("vhost-user-fs-pci,chardev=share{number},tag=share{number}");
                config = config.companion(server.chardev(format!("share{number}"))).args(["-device", &device]);
            }
            if *has_9p {
                let mut value = [&b"local,path="[..], &escaped(&share.directory)].concat();
                value.extend(format!(",mount_tag=share{number},security_model=none").into_bytes());
                value.extend(if share.is_read_only { &b",readonly=on"[..] } else { b"" });
                config = config.arg("-virtfs").arg(value);
            }
        }
        if self.0.iter().all(|offer| offer.virtiofs.is_err()) {
            return config;
        }
        let backend = [&b"memory-backend-memfd,id=ram,share=on,size="[..], &memory_size(&test.memory)].concat();
        config.arg("-object").arg(backend).args(["-machine", "memory-backend=ram"])
    }
}

/// Returns the reason of a launch that failed, and succeeded when directories were shared in another way.
pub(crate) fn reason(error: &LaunchError) -> String {
    let last = |log: &UntrustedText| log.multiline().to_string().lines().last().map(str::to_owned);
    if let LaunchError::Failed { outcome, .. } = error {
        if let Some(ended) = outcome.companions.iter().find(|companion| companion.is_early) {
            return format!("virtiofsd does not work here: {}", last(&ended.log).unwrap_or_default());
        }
        if let Some(line) = last(&outcome.log) {
            return line;
        }
    }
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn is_directory(share: &Share) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| Err(Failure::file(&share.directory, why));
    match fs::metadata(&share.directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => failed(&"it is no directory, so it cannot be shared"),
        Err(error) => failed(&error),
    }
}

/// Returns a path that is one line of a file for init.
pub(crate) fn one_line(path: &str) -> Result<&str, Failure> {
    let failed = || Failure::Host("a path of the guest has a line feed or a carriage return".into());
    Some(path).filter(|path| !path.contains(['\n', '\r'])).ok_or_else(failed)
}
