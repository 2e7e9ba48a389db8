//! Decides what is made for a machine before its process is started.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use qemu_machine_core::{Address, Channel, HostFault, Inherited, Preparation, Prepared, Transport};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::dial::listen_at;
use crate::given::{Given, Lending, Loan};
use crate::identity::verify;
use crate::place::Place;
use crate::fault::fault;
use crate::host::Host;

/// What becomes a channel when it is opened.
#[derive(Debug)]
pub(crate) enum Ours {
    Connected(OwnedFd, Option<Loan>),
    Listening(OwnedFd),
    Dial(Address),
}

/// What is being made, until all of it is there.
#[derive(Default)]
struct Making {
    ours: Vec<(Channel, Ours)>,
    theirs: Vec<(Inherited, OwnedFd)>,
    ports: Vec<Lending>,
    monitor: Option<Address>,
}

impl Host {
    pub(crate) fn prepare(&mut self, wanted: &Preparation) -> Result<Prepared, HostFault> {
        let mut place = Place::make(wanted)?;
        let mut making = Making::default();
        let made = making.all(wanted, &mut place).and_then(|()| nonce());
        let nonce = match made {
            Ok(nonce) => nonce,
            Err(made) => return Err(place.removed_after(made)),
        };
        let mut prepared = Prepared { directory: place.directory(), log: place.log_path(), ..Prepared::default() };
        prepared.descriptors = making.theirs.iter().map(|(what, theirs)| (*what, theirs.as_raw_fd())).collect();
        (prepared.monitor, prepared.nonce) = (making.monitor, nonce);
        self.place = Some(place);
        self.ours = making.ours;
        self.theirs = making.theirs.into_iter().map(|(_, theirs)| theirs).collect();
        self.ports = making.ports;
        Ok(prepared)
    }
}

impl Making {
    fn all(&mut self, wanted: &Preparation, place: &mut Place) -> Result<(), HostFault> {
        for (channel, transport) in &wanted.channels {
            let ours = self.channel(*channel, transport, place)?;
            self.ours.push((*channel, ours));
        }
        for port in &wanted.ports {
            let (ours, theirs) = socket_pair().map_err(|error| fault(format!("make the port {port:?}"), &error))?;
            self.ports.push(Lending::new(*port, ours));
            self.theirs.push((Inherited::Port(*port), theirs));
        }
        for (index, descriptor) in wanted.added.iter().enumerate() {
            let copy = Given::of(descriptor)
                .and_then(Given::copy)
                .map_err(|error| fault("hand on a descriptor".into(), &error))?;
            self.theirs.push((Inherited::Added(index), copy));
        }
        Ok(())
    }

    fn channel(&mut self, channel: Channel, transport: &Transport, place: &mut Place) -> Result<Ours, HostFault> {
        let address = match transport {
            Transport::Pair => return self.pair(channel),
            Transport::Dial(address) => return Ok(Ours::Dial(address.clone())),
            Transport::Given(descriptor) => {
                let given = Given::of(descriptor).and_then(|given| Ok((given.copy()?, given.loan())));
                let (socket, loan) = given.map_err(|error| fault(format!("use the given {channel}"), &error))?;
                return Ok(Ours::Connected(socket, loan));
            }
            Transport::Listen(address) => address.clone(),
            Transport::Kept(identity) => {
                verify(identity)?;
                place.adopt(identity.directory.as_deref(), &identity.monitor);
                return Ok(Ours::Dial(Address::unix(identity.monitor.clone())));
            }
            Transport::Offer(directory) => {
                let path = place.socket_path(directory.as_deref())?;
                let (socket, address) = listen_at(&Address::unix(path.as_os_str().as_bytes()), place)?;
                self.theirs.push((
                    Inherited::Channel(channel),
                    above_standard(socket).map_err(|error| fault(format!("make the {channel}"), &error))?,
                ));
                self.monitor = Some(address.clone());
                return Ok(Ours::Dial(address));
            }
            Transport::ListenIn(directory) => {
                Address::unix(place.socket_path(directory.as_deref())?.as_os_str().as_bytes())
            }
            _ => return Err(fault(format!("make the {channel}"), &io::ErrorKind::Unsupported.into())),
        };
        let (socket, real) = listen_at(&address, place)?;
        self.monitor = Some(real);
        Ok(Ours::Listening(socket))
    }

    fn pair(&mut self, channel: Channel) -> Result<Ours, HostFault> {
        let (ours, theirs) = socket_pair().map_err(|error| fault(format!("make the {channel}"), &error))?;
        self.theirs.push((Inherited::Channel(channel), theirs));
        Ok(Ours::Connected(ours, None))
    }
}

fn nonce() -> Result<u64, HostFault> {
    let mut random = [0_u8; 8];
    // So few bytes are given whole or not at all.
    getrandom(&mut random, GetRandomFlags::empty()).map_err(|error| fault("get random bytes".into(), &error.into()))?;
    Ok(u64::from_ne_bytes(random))
}

/// Two connected sockets, ours of which does not block. Neither is inherited by any process unless it is told to.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, above_standard(theirs)?))
}

/// Where our own standard streams are closed, the number could be one that the process needs for its own.
fn above_standard(theirs: OwnedFd) -> io::Result<OwnedFd> {
    if theirs.as_raw_fd() > 2 { Ok(theirs) } else { Ok(fcntl_dupfd_cloexec(&theirs, 3)?) }
}
