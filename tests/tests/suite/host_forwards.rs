//! Stories of host forwards on a real QEMU: the kernel chooses the port, QEMU reports it, and a connection to it
//! reaches the guest.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use qemu_machine_core::commands::InfoUsernet;
use qemu_machine_core::{Config, ForwardProtocol, HostForward, LaunchCause};
use qemu_machine_host::descriptor;
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

/// The end of a network cable on which the test plays the guest.
struct Wire(UnixStream);

/// The hardware address of the guest.
const GUEST: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

impl Wire {
    /// Connects a network of this id to the test. QEMU writes each frame behind its length, in 4 bytes (QEMU,
    /// `net/stream.c`, `net_stream_receive`).
    fn connect(config: Config, netdev: &str) -> (Config, Self) {
        let (wire, other) = UnixStream::pair().expect("sockets are available");
        wire.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut config = config;
        let number = config.inherit_fd(descriptor(other));
        let stream = format!("stream,id=wire,server=off,addr.type=fd,addr.str={number}");
        let [hub, end] = [netdev, "wire"].map(|peer| format!("hubport,id=hub-{peer},hubid=0,netdev={peer}"));
        (config.args(["-netdev", &stream, "-netdev", &hub, "-netdev", &end]), Self(wire))
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("QEMU sends a frame");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).expect("QEMU sends the whole frame");
        frame
    }

    fn send(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).expect("a frame is short").to_be_bytes();
        self.0.write_all(&[&length, frame].concat()).expect("QEMU reads the frame");
    }

    /// Returns the address and port of the guest to which QEMU opens a TCP connection, and answers on the way the
    /// question for its hardware address (RFC 826).
    fn connection(&mut self) -> SocketAddrV4 {
        const ARP: [u8; 2] = [8, 6];
        const IPV4: [u8; 2] = [8, 0];
        const TCP: u8 = 6;
        loop {
            let frame = self.receive();
            if frame[12..14] == ARP && frame[20..22] == [0, 1] {
                let (router, sender, guest) = (&frame[6..12], &frame[22..32], &frame[38..42]);
                self.send(&[router, &GUEST, &ARP, &frame[14..20], &[0, 2], &GUEST, guest, sender].concat());
            }
            if frame[12..14] == IPV4 && frame[23] == TCP {
                assert_eq!(frame[..6], GUEST);
                let address: [u8; 4] = frame[30..34].try_into().expect("four bytes");
                return SocketAddrV4::new(address.into(), u16::from_be_bytes([frame[36], frame[37]]));
            }
        }
    }
}

fn a_connection_to_the_chosen_port_reaches_the_guest<H: Hosted>() {
    let forward = HostForward::tcp(22);
    let (config, mut wire) = Wire::connect(empty().host_forward("net0", forward), "net0");
    let mut machine = H::launch(config).expect("QEMU starts");
    let address = machine.query(InfoUsernet).expect("QEMU has networks").address("net0", &forward);
    let address = address.expect("QEMU has bound the port");
    assert_ne!(address.port(), 0);
    let _connection = TcpStream::connect(address).expect("QEMU listens there");
    assert_eq!(wire.connection().to_string(), "10.0.2.15:22");
    machine.kill().expect("the machine was launched");
}

fn each_forward_has_a_port_of_its_own<H: Hosted>() {
    let [ssh, dns] = [HostForward::tcp(22), HostForward::udp(53)];
    let web = HostForward::tcp(80).host("0.0.0.0:0".parse().expect("an address"));
    let web = web.guest([10, 0, 2, 99].into());
    let config = || empty().host_forward("net0", ssh).host_forward("other", ssh).host_forward("net0", dns);
    let mut machines = [(); 2].map(|()| H::launch(config().host_forward("net0", web)).expect("QEMU starts"));
    let mut ports = Vec::new();
    for machine in &mut machines {
        let forwards = machine.query(InfoUsernet).expect("QEMU has networks");
        assert_eq!(forwards.len(), 4, "{forwards:?}");
        let guest = |netdev, forward| {
            let host = forwards.address(netdev, forward);
            let active = forwards.iter().find(|active| active.netdev == *netdev && Some(active.host) == host);
            active.map(|active| (active.protocol, active.guest.to_string())).expect("QEMU has bound it")
        };
        assert_eq!(guest("net0", &ssh), (ForwardProtocol::Tcp, "10.0.2.15:22".into()));
        assert_eq!(guest("net0", &dns), (ForwardProtocol::Udp, "10.0.2.15:53".into()));
        assert_eq!(guest("net0", &web), (ForwardProtocol::Tcp, "10.0.2.99:80".into()));
        assert_eq!(guest("other", &ssh), (ForwardProtocol::Tcp, "10.0.2.15:22".into()));
        assert_eq!(forwards.address("other", &dns), None);
        ports.extend(forwards.iter().map(|active| (active.protocol == ForwardProtocol::Tcp, active.host.port())));
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8, "{ports:?}");
}

fn a_fixed_port_is_bound_or_the_launch_fails<H: Hosted>() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let forward = HostForward::tcp(22).host(SocketAddrV4::new([127, 0, 0, 1].into(), port));
    let config = || empty().host_forward("net0", forward);
    let error = H::launch(config()).map(|_| ()).expect_err("the port is in use");
    let rule = Some(forward.to_string().as_str().into());
    assert_eq!(error.launch_cause(), LaunchCause::AddressUnavailable { address: rule }, "{error}");
}

fn a_machine_without_a_network_forwards_nothing<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    assert!(machine.query(InfoUsernet).expect("QEMU knows the command").is_empty());
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_connection_to_the_chosen_port_reaches_the_guest
            each_forward_has_a_port_of_its_own
            a_fixed_port_is_bound_or_the_launch_fails
            a_machine_without_a_network_forwards_nothing
        }
    };
}

rows!(stories, strict);
