//! Tests of host forwards: the command line, what is refused, and the parser of `info usernet`.

use std::net::SocketAddr;

use crate::rig::{Rig, config};
use qemu_machine_core::commands::{HostForwards, InfoUsernet};
use qemu_machine_core::record::Record;
use qemu_machine_core::wire::Message;
use qemu_machine_core::{
    Command, CommandError, Config, Descriptor, ExitStatus, ForwardProtocol, HostForward, Machine, Misuse, Peer, Value,
    json,
};

fn line(config: &Config) -> String {
    config.command_line().expect("a good configuration").to_string()
}

#[test]
fn forwards_of_one_network_are_one_argument() {
    let second = HostForward::udp(53).host("0.0.0.0:5353".parse().unwrap()).guest("10.0.2.16".parse().unwrap());
    let config = Config::new("qemu")
        .host_forward("net0", HostForward::tcp(22))
        .host_forward("net1", HostForward::tcp(80))
        .host_forward("net0", second)
        .args(["-S"]);
    let line = line(&config);
    assert!(
        line.ends_with(
            "-netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=udp:0.0.0.0:5353-10.0.2.16:53 \
             -netdev user,id=net1,hostfwd=tcp:127.0.0.1:0-:80 -S"
        ),
        "{line}"
    );
}

#[test]
fn forwards_that_qemu_would_refuse_are_misuse() {
    let ssh = HostForward::tcp(22);
    for (config, part) in [
        (Config::new("qemu").host_forward("", ssh), "cannot name a network"),
        (Config::new("qemu").host_forward("a,restrict=on", ssh), "`a,restrict=on`"),
        (Config::new("qemu").host_forward("net0", ssh).host_forward("net0", HostForward::tcp(0)), "port of the guest"),
        (Config::attach(Peer::Connected(Descriptor::new(()))).host_forward("net0", ssh), "host forwards"),
    ] {
        let refused = Machine::new(config).expect_err("it is refused");
        assert!(matches!(&refused, Misuse::Config(what) if what.contains(part)), "{refused}");
    }
}

/// A record replays with the same command line.
#[test]
fn a_record_has_the_forwards() {
    let second = HostForward::udp(53).guest([10, 0, 2, 16].into());
    let config = config().host_forward("net0", HostForward::tcp(22)).host_forward("net0", second);
    let mut rig = Rig::ready(config);
    rig.kill();
    rig.dies(ExitStatus::Unknown);
    let record: Record = rig.vm.record().expect("it is recorded").to_string().parse().expect("a valid record");
    let replayed = record.replay().expect("the same run");
    assert_eq!(replayed.command_line(), rig.vm.command_line());
    assert!(rig.vm.command_line().to_string().contains("hostfwd=udp:127.0.0.1:0-10.0.2.16:53"));
}

/// The text that QEMU 7.2.22 prints (libslirp 4.7), with a second network, an open connection, and a forward of each
/// address of the host.
const QEMU_7_2: &str = "Hub -1 (net0):\r\n\
    \x20 Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n\
    \x20 TCP[SYN_SENT]      16       127.0.0.1 36379       10.0.2.15    22     0     0\r\n\
    \x20 TCP[HOST_FORWARD]  11       127.0.0.1 36379       10.0.2.15    22     0     0\r\n\
    \x20 TCP[HOST_FORWARD]   9               * 43537       10.0.2.99    80     0     0\r\n\
    \x20 UDP[236 sec]       17       10.0.2.15 36379         1.2.3.4    53     0     0\r\n\
    \x20 UDP[HOST_FORWARD]  10       127.0.0.1 54626       10.0.2.15    53     0     0\r\n\
    \x20 ICMP[10 sec]       18       10.0.2.15     -         1.2.3.4     -     0     0\r\n\
    Hub 0 (n1):\r\n\
    \x20 Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n\
    \x20 UDP[HOST_FORWARD] 1234              * 44214   192.168.99.15     7     0     0\r\n\
    Hub -1 (n2):\r\n\
    \x20 Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n";

/// Reads the reply of QEMU with this value.
fn read_value(value: &Value) -> Result<HostForwards, CommandError> {
    match Message::read(&format!("{{\"id\": 1, \"return\": {value}}}").into()) {
        Ok(Message::Reply { result: Ok(payload), .. }) => payload.reply(),
        other => panic!("{value}: {other:?}"),
    }
}

fn read(text: &str) -> Result<HostForwards, CommandError> {
    read_value(&text.into())
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_command_is_that_of_the_human_monitor() {
    let arguments = InfoUsernet.arguments().map(|arguments| serde_json::to_value(arguments).unwrap());
    assert_eq!(
        (InfoUsernet.name(), arguments),
        ("human-monitor-command", Some(json!({"command-line": "info usernet"})))
    );
}

#[test]
fn each_forward_of_each_network_is_read() {
    let forwards = read(QEMU_7_2).unwrap();
    let seen: Vec<_> = forwards
        .iter()
        .map(|one| (one.netdev.as_str(), one.protocol, one.host.to_string(), one.guest.to_string()))
        .collect();
    let expected = [
        ("net0", ForwardProtocol::Tcp, "127.0.0.1:36379", "10.0.2.15:22"),
        ("net0", ForwardProtocol::Tcp, "0.0.0.0:43537", "10.0.2.99:80"),
        ("net0", ForwardProtocol::Udp, "127.0.0.1:54626", "10.0.2.15:53"),
        ("n1", ForwardProtocol::Udp, "0.0.0.0:44214", "192.168.99.15:7"),
    ];
    let expected = expected.map(|(netdev, protocol, host, guest)| (netdev, protocol, host.into(), guest.into()));
    assert_eq!(seen, expected);
}

#[test]
fn a_forward_is_found_by_what_is_fixed_of_it() {
    let forwards = read(QEMU_7_2).unwrap();
    let of = |netdev, forward| forwards.address(netdev, &forward);
    let any = |port| HostForward::tcp(port).host("0.0.0.0:0".parse().unwrap());
    assert_eq!(of("net0", HostForward::tcp(22)), Some(address("127.0.0.1:36379")));
    assert_eq!(of("net0", HostForward::udp(53)), Some(address("127.0.0.1:54626")));
    assert_eq!(of("net0", HostForward::tcp(22).guest([10, 0, 2, 15].into())), Some(address("127.0.0.1:36379")));
    assert_eq!(
        of("net0", HostForward::tcp(22).host("127.0.0.1:36379".parse().unwrap())),
        of("net0", HostForward::tcp(22))
    );
    assert_eq!(of("net0", any(80)), Some(address("0.0.0.0:43537")));
    for (netdev, other) in [
        ("n1", HostForward::tcp(22)),
        ("net0", HostForward::udp(22)),
        ("net0", HostForward::tcp(23)),
        ("net0", HostForward::tcp(80)),
        ("net0", any(22)),
        ("net0", HostForward::tcp(22).guest([10, 0, 2, 16].into())),
        ("net0", HostForward::tcp(22).host("127.0.0.1:36380".parse().unwrap())),
    ] {
        assert_eq!(of(netdev, other), None, "{netdev} {other}");
    }
}

/// A name of a network may contain anything, since `-net user,name=…` does not check it.
#[test]
fn a_name_of_a_network_is_read_to_its_last_parenthesis() {
    let text = QEMU_7_2.replace("(net0)", "(a (b):)");
    assert_eq!(read(&text).unwrap()[0].netdev, "a (b):");
}

#[test]
fn no_network_means_no_forwards() {
    assert!(read("").unwrap().is_empty());
    assert!(read("Hub -1 (n2):\r\n  Protocol[State]\r\n").unwrap().is_empty());
}

/// A table of another form is not taken for one without forwards.
#[test]
fn a_text_that_is_no_table_is_an_error() {
    for (text, part) in [
        ("unknown command: 'info usernet'\r\n", "unknown command"),
        ("Network net0:\r\n  TCP[HOST_FORWARD] 1 127.0.0.1 1 10.0.2.15 22 0 0\r\n", "Network net0:"),
        ("  TCP[HOST_FORWARD] 1 127.0.0.1 1 10.0.2.15 22 0 0\r\n", "TCP[HOST_FORWARD]"),
        ("Hub -1 (a):\r\n  TCP[HOST_FORWARD] 1 localhost 1 10.0.2.15 22 0 0\r\n", "localhost"),
        ("Hub -1 (a):\r\n  TCP[HOST_FORWARD] 1 127.0.0.1 70000 10.0.2.15 22 0 0\r\n", "70000"),
        ("Hub -1 (a):\r\n  TCP[HOST_FORWARD] 1 127.0.0.1 1 10.0.2.15\r\n", "127.0.0.1 1 10.0.2.15"),
    ] {
        let error = read(text).expect_err("it is no table");
        assert!(matches!(&error, CommandError::Unexpected { reason, .. } if reason.contains(part)), "{text}: {error}");
    }
    assert!(matches!(read_value(&json!(7)), Err(CommandError::Unexpected { .. })));
}

/// Each beginning of a table, and each table with a byte changed, is read or refused.
#[test]
fn no_text_panics() {
    for end in 0..QEMU_7_2.len() {
        drop(read(&QEMU_7_2[..end]));
        for byte in [' ', '[', '\n', ':', '\u{202e}'] {
            drop(read(&format!("{}{byte}{}", &QEMU_7_2[..end], &QEMU_7_2[end + 1..])));
        }
    }
}
