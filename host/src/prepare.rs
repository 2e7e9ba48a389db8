//! Preparation of a machine: the sockets and descriptors that are created before its process is started.
#![deny(clippy::wildcard_enum_match_arm, reason = "a new transport must be carried out, not ignored")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use qemu_machine_core::{Address, Channel, Descriptor, HostFault, Inherited, Preparation, Transport};
use rustix::fs::fstat;

use crate::child::Child;
use crate::companion_process::CompanionProcess;
use crate::dial::{listen_at, listen_for_others};
use crate::fault::fault;
use crate::identity::find;
use crate::local_end::LocalEnd;
use crate::log_pipe::LogPipe;
use crate::scratch_dir::ScratchDir;
use crate::shared_fd::{ServiceLease, SharedFd};
use crate::sys::{Earlier, Os, System};

/// Everything that was prepared for a run.
#[derive(Debug)]
pub(crate) struct Preparations {
    pub(crate) scratch: ScratchDir,
    pub(crate) parts: Parts,
    pub(crate) nonce: u64,
    pub(crate) trusts_peer: bool,
}

/// The sockets and descriptors that were created so far. They are closed when a later step fails.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) local: Vec<(Channel, LocalEnd)>,
    pub(crate) inherited: Vec<(Inherited, OwnedFd)>,
    pub(crate) services: Vec<ServiceLease>,
    pub(crate) log_pipe: Option<LogPipe>,
    pub(crate) monitor: Option<Address>,
    /// The process that an earlier program started, and its id.
    pub(crate) earlier: Option<(u32, Earlier<Child>)>,
    pub(crate) monitor_inode: Option<u64>,
    pub(crate) companions: Vec<CompanionProcess>,
}

impl Preparations {
    /// Removes everything again.
    pub(crate) fn undo(self) -> Result<(), HostFault> {
        let Self { mut scratch, parts, .. } = self;
        drop(parts);
        scratch.remove()
    }
}

/// Returns whether a preparation may block: it creates files or sockets, or looks at those of a machine, on file systems
/// that may not answer.
pub(crate) fn may_block(wanted: &Preparation) -> bool {
    let on_file_system = |transport: &Transport| match transport {
        Transport::Pair | Transport::Output | Transport::Dial(_) | Transport::Connected(_) => false,
        Transport::Listen(address) => matches!(address, Address::Unix(_)),
        Transport::ListenIn(_) | Transport::Offer(_) | Transport::Detached(_) => true,
    };
    wanted.process || !wanted.files.is_empty() || wanted.channels.iter().any(|(_, transport)| on_file_system(transport))
}

/// Creates everything for a run. Dropping the result removes it again, unless its scratch directory was taken over.
pub(crate) fn prepare(wanted: &Preparation) -> Result<Preparations, HostFault> {
    let mut scratch = ScratchDir::create(wanted)?;
    let mut parts = Parts::default();
    match parts.create(wanted, &mut scratch).and_then(|()| nonce()) {
        Ok(nonce) => {
            let trusts_peer = wanted.trusts_peer || !wanted.process;
            Ok(Preparations { scratch, parts, nonce, trusts_peer })
        }
        Err(fault) => Err(scratch.removed_after(fault)),
    }
}

impl Parts {
    fn create(&mut self, wanted: &Preparation, scratch: &mut ScratchDir) -> Result<(), HostFault> {
        // Each member is named, so that a new one is a compile error until it is prepared. `ScratchDir` prepares the
        // first seven.
        let Preparation {
            name: _,
            base: _,
            log_directory,
            log_limit: _,
            has_log_path: _,
            process: _,
            files: _,
            channels,
            monitor_sockets,
            services,
            passed,
            added,
            companions,
            trusts_peer: _,
        } = wanted;
        for (index, descriptor) in passed.iter().enumerate() {
            self.inherit(Inherited::Passed(index), descriptor)?;
        }
        for (channel, transport) in channels {
            let local = self.channel(*channel, transport, scratch)?;
            self.local.push((*channel, local));
        }
        for service in services {
            let (local, inherited) = socket_pair().map_err(|error| fault(format!("create the {service}"), &error))?;
            self.services.push(ServiceLease::new(*service, local));
            self.inherited.push((Inherited::Service(*service), inherited));
        }
        for (index, wanted) in monitor_sockets.iter().enumerate() {
            let socket = listen_for_others(wanted, scratch)?;
            self.inherited.push((Inherited::MonitorSocket(index), socket));
        }
        for (index, descriptor) in added.iter().enumerate() {
            self.inherit(Inherited::Added(index), descriptor)?;
        }
        for (index, companion) in companions.iter().enumerate() {
            let (companion, of_qemu) = CompanionProcess::prepare(companion, log_directory.as_deref(), scratch)?;
            self.inherited.extend(of_qemu.map(|socket| (Inherited::Companion(index), socket)));
            self.companions.push(companion);
        }
        Ok(())
    }

    fn inherit(&mut self, what: Inherited, descriptor: &Descriptor) -> Result<(), HostFault> {
        let copy = SharedFd::of(descriptor).and_then(SharedFd::copy);
        let copy = copy.map_err(|error| fault("duplicate a descriptor for the process".into(), &error))?;
        self.inherited.push((what, copy));
        Ok(())
    }

    fn channel(
        &mut self,
        channel: Channel,
        transport: &Transport,
        scratch: &mut ScratchDir,
    ) -> Result<LocalEnd, HostFault> {
        let failed = |error: &io::Error| fault(format!("create the {channel}"), error);
        match transport {
            Transport::Pair => {
                let (local, inherited) = socket_pair().map_err(|error| failed(&error))?;
                if channel == Channel::Monitor {
                    Os::name_senders(local.as_fd(), true).map_err(|error| failed(&error))?;
                    self.monitor_inode = fstat(&inherited).ok().map(|stat| stat.st_ino);
                }
                self.inherited.push((Inherited::Channel(channel), inherited));
                Ok(LocalEnd::Connected(local, None))
            }
            Transport::Output => {
                let (pipe, local) = LogPipe::new(channel).map_err(|error| failed(&error))?;
                self.log_pipe = Some(pipe);
                Ok(LocalEnd::Pipe(local))
            }
            Transport::Dial(address) => Ok(LocalEnd::Dial(address.clone())),
            Transport::Connected(descriptor) => {
                let given = SharedFd::of(descriptor).and_then(|given| Ok((given.copy()?, given.lease())));
                let (socket, lease) = given.map_err(|error| fault(format!("use the given {channel}"), &error))?;
                Os::set_up_given(socket.as_fd());
                Ok(LocalEnd::Connected(socket, lease))
            }
            Transport::Listen(address) => self.listen(address, scratch),
            Transport::ListenIn(directory) => {
                let path = scratch.socket_path(directory.as_deref())?;
                self.listen(&Address::unix(path.as_os_str().as_bytes()), scratch)
            }
            Transport::Detached(identity) => {
                self.earlier = Some((identity.pid, find(identity)?));
                scratch.resume(identity)?;
                let address = Address::unix(identity.monitor.clone());
                self.monitor = Some(address.clone());
                Ok(LocalEnd::Resumed(address, identity.pid))
            }
            Transport::Offer(directory) => {
                let path = scratch.socket_path(directory.as_deref())?;
                let (socket, address) = listen_at(&Address::unix(path.as_os_str().as_bytes()), scratch)?;
                self.inherited.push((Inherited::Channel(channel), socket));
                self.monitor = Some(address.clone());
                Ok(LocalEnd::Offered(address))
            }
        }
    }

    fn listen(&mut self, address: &Address, scratch: &mut ScratchDir) -> Result<LocalEnd, HostFault> {
        let (socket, real) = listen_at(address, scratch)?;
        self.monitor = Some(real);
        Ok(LocalEnd::Listening(Arc::new(socket)))
    }
}

fn nonce() -> Result<u64, HostFault> {
    let mut random = [0_u8; 8];
    Os::random(&mut random).map_err(|error| fault("get random bytes".into(), &error))?;
    Ok(u64::from_ne_bytes(random))
}

/// Creates two connected sockets: the local end, which does not block, and the end that the process inherits.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (local, inherited) = Os::socket_pair()?;
    rustix::io::ioctl_fionbio(&local, true)?;
    Ok((local, inherited))
}
