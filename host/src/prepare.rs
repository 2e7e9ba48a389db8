//! Decides what is made for a machine before its process is started.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use qemu_machine_core::{Address, Channel, HostFault, Inherited, Preparation, Prepared, Transport};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::dial::listen_at;
use crate::fault::fault;
use crate::host::Host;
use crate::identity::verify;
use crate::scratch_dir::ScratchDir;
use crate::shared_fd::{Lease, ServiceLease, SharedFd};

/// What becomes a channel when it is opened.
#[derive(Debug)]
pub(crate) enum LocalEnd {
    Connected(OwnedFd, Option<Lease>),
    Listening(OwnedFd),
    Dial(Address),
}

/// What is being made, until all of it is there.
#[derive(Default)]
struct Making {
    local: Vec<(Channel, LocalEnd)>,
    inherited: Vec<(Inherited, OwnedFd)>,
    ports: Vec<ServiceLease>,
    monitor: Option<Address>,
}

impl Host {
    pub(crate) fn prepare(&mut self, wanted: &Preparation) -> Result<Prepared, HostFault> {
        let mut scratch = ScratchDir::make(wanted)?;
        let mut making = Making::default();
        let made = making.all(wanted, &mut scratch).and_then(|()| nonce());
        let nonce = match made {
            Ok(nonce) => nonce,
            Err(made) => return Err(scratch.removed_after(made)),
        };
        let mut prepared = Prepared { directory: scratch.directory(), log: scratch.log_path(), ..Prepared::default() };
        prepared.descriptors =
            making.inherited.iter().map(|(what, inherited)| (*what, inherited.as_raw_fd())).collect();
        (prepared.monitor, prepared.nonce) = (making.monitor, nonce);
        self.scratch = Some(scratch);
        self.local = making.local;
        self.inherited = making.inherited.into_iter().map(|(_, inherited)| inherited).collect();
        self.ports = making.ports;
        Ok(prepared)
    }
}

impl Making {
    fn all(&mut self, wanted: &Preparation, scratch: &mut ScratchDir) -> Result<(), HostFault> {
        // Named one by one, so that a new member does not compile until it is made. The first five are those of
        // `ScratchDir::make`.
        let Preparation { name: _, base: _, log_directory: _, process: _, files: _, channels, ports, added } = wanted;
        for (channel, transport) in channels {
            let local = self.channel(*channel, transport, scratch)?;
            self.local.push((*channel, local));
        }
        for port in ports {
            let (local, inherited) = socket_pair().map_err(|error| fault(format!("make the port {port:?}"), &error))?;
            self.ports.push(ServiceLease::new(*port, local));
            self.inherited.push((Inherited::Service(*port), inherited));
        }
        for (index, descriptor) in added.iter().enumerate() {
            let copy = SharedFd::of(descriptor)
                .and_then(SharedFd::copy)
                .map_err(|error| fault("hand on a descriptor".into(), &error))?;
            self.inherited.push((Inherited::Added(index), copy));
        }
        Ok(())
    }

    #[deny(clippy::wildcard_enum_match_arm, reason = "a host that forgets a transport does not compile")]
    fn channel(
        &mut self,
        channel: Channel,
        transport: &Transport,
        scratch: &mut ScratchDir,
    ) -> Result<LocalEnd, HostFault> {
        let address = match transport {
            Transport::Pair => return self.pair(channel),
            Transport::Dial(address) => return Ok(LocalEnd::Dial(address.clone())),
            Transport::Given(descriptor) => {
                let given = SharedFd::of(descriptor).and_then(|given| Ok((given.copy()?, given.lease())));
                let (socket, lease) = given.map_err(|error| fault(format!("use the given {channel}"), &error))?;
                return Ok(LocalEnd::Connected(socket, lease));
            }
            Transport::Listen(address) => address.clone(),
            Transport::Detached(identity) => {
                verify(identity)?;
                scratch.adopt(identity.directory.as_deref(), &identity.monitor);
                return Ok(LocalEnd::Dial(Address::unix(identity.monitor.clone())));
            }
            Transport::Offer(directory) => {
                let path = scratch.socket_path(directory.as_deref())?;
                let (socket, address) = listen_at(&Address::unix(path.as_os_str().as_bytes()), scratch)?;
                self.inherited.push((
                    Inherited::Channel(channel),
                    above_standard(socket).map_err(|error| fault(format!("make the {channel}"), &error))?,
                ));
                self.monitor = Some(address.clone());
                return Ok(LocalEnd::Dial(address));
            }
            Transport::ListenIn(directory) => {
                Address::unix(scratch.socket_path(directory.as_deref())?.as_os_str().as_bytes())
            }
        };
        let (socket, real) = listen_at(&address, scratch)?;
        self.monitor = Some(real);
        Ok(LocalEnd::Listening(socket))
    }

    fn pair(&mut self, channel: Channel) -> Result<LocalEnd, HostFault> {
        let (local, inherited) = socket_pair().map_err(|error| fault(format!("make the {channel}"), &error))?;
        self.inherited.push((Inherited::Channel(channel), inherited));
        Ok(LocalEnd::Connected(local, None))
    }
}

fn nonce() -> Result<u64, HostFault> {
    let mut random = [0_u8; 8];
    // So few bytes are given whole or not at all.
    getrandom(&mut random, GetRandomFlags::empty()).map_err(|error| fault("get random bytes".into(), &error.into()))?;
    Ok(u64::from_ne_bytes(random))
}

/// Two connected sockets, local of which does not block. Neither is inherited by any process unless it is told to.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (local, inherited) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&local, true)?;
    Ok((local, above_standard(inherited)?))
}

/// Where our own standard streams are closed, the number could be one that the process needs for its own.
fn above_standard(inherited: OwnedFd) -> io::Result<OwnedFd> {
    if inherited.as_raw_fd() > 2 { Ok(inherited) } else { Ok(fcntl_dupfd_cloexec(&inherited, 3)?) }
}
