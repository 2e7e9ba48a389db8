//! Relations of processes on Linux, from `/proc`: descent, the holders of a socket, and the process that connected by
//! TCP.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::Connector;

/// How many parents are followed at most. A chain is short; while it is read, its ids may be reused in a circle.
const MOST_PARENTS: usize = 64;

/// Returns whether a process is this one or descends from it. `None` means that it is not known, without `/proc`. A
/// process that has ended descends from none.
pub(super) fn descends(pid: u32, ancestor: u32) -> Option<bool> {
    let mut pid = pid;
    for _ in 0..MOST_PARENTS {
        if pid == ancestor {
            return Some(true);
        }
        let Some((parent, group)) = parent_and_group(pid) else {
            // It has ended, unless there is no `/proc`.
            return fs::exists("/proc/self/stat").is_ok_and(|exists| exists).then_some(false);
        };
        // A process whose parent has ended is still in the group of the ancestor, unless it has left it.
        if group == ancestor {
            return Some(true);
        }
        if parent <= 1 {
            return Some(false);
        }
        pid = parent;
    }
    None
}

/// Reads the fields 4 and 5 of `/proc/PID/stat` (`proc_pid_stat(5)`).
fn parent_and_group(pid: u32) -> Option<(u32, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Returns the processes of a group.
pub(super) fn members(group: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| is_member(*pid, group)).collect()
}

pub(super) fn is_member(pid: u32, group: u32) -> bool {
    parent_and_group(pid).is_some_and(|(_, found)| found == group)
}

/// Returns the processes that have the socket with this inode open, and whether there may be others, whose descriptors may
/// not be read.
pub(super) fn holders(inode: u64) -> (Vec<u32>, bool) {
    let target = format!("socket:[{inode}]");
    let Ok(entries) = fs::read_dir("/proc") else { return (Vec::new(), true) };
    let (mut holders, mut is_incomplete) = (Vec::new(), false);
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        match holds(pid, &target) {
            Ok(true) => holders.push(pid),
            // The process has ended meanwhile (`proc(5)`).
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => is_incomplete = true,
            Ok(false) => {}
        }
    }
    (holders, is_incomplete)
}

/// Returns whether a process has the socket with this inode open.
pub(super) fn is_holder(pid: u32, inode: u64) -> bool {
    holds(pid, &format!("socket:[{inode}]")).unwrap_or(false)
}

/// Returns whether a process executes the same program as this one, as a child of `fork(2)` does.
pub(super) fn is_copy(pid: u32) -> bool {
    let program = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).map(|file| (file.dev(), file.ino())).ok();
    program(&pid.to_string()) == program("self")
}

fn holds(pid: u32, target: &str) -> io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed meanwhile.
        let link = entry.and_then(|entry| fs::read_link(entry.path()));
        if link.is_ok_and(|link| link == Path::new(target)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the process of `ancestor`'s family that connected from `peer` to `local` by TCP, as one of these users.
pub(super) fn tcp_connector(local: SocketAddr, peer: SocketAddr, ancestor: u32, users: [u32; 2]) -> Connector {
    // The end of the peer: its local address is `peer`.
    let Some((inode, uid)) = tcp_socket(peer, local) else {
        // A peer on this host that has no socket any more has hung up. Another one is on another host, or in another
        // network namespace.
        let is_here = peer.ip().to_canonical() == local.ip().to_canonical();
        return if is_here { Connector::Stranger } else { Connector::Unknown };
    };
    // A socket that no process has open any more has no inode.
    if inode == 0 || !users.contains(&uid) {
        return Connector::Stranger;
    }
    let (holders, is_incomplete) = holders(inode);
    match holders.iter().find(|holder| descends(**holder, ancestor) == Some(true)) {
        Some(holder) => Connector::Process(*holder),
        None if holders.is_empty() && is_incomplete => Connector::Unknown,
        None => Connector::Stranger,
    }
}

/// Returns the inode of the socket with these addresses, and the user id of its owner (`proc_pid_net(5)`). `None` means
/// that it is in another network namespace or on another host, or does not exist any more.
fn tcp_socket(local: SocketAddr, remote: SocketAddr) -> Option<(u64, u32)> {
    let wanted = Some((plain(local), plain(remote)));
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let addresses = address(fields.get(1)?).zip(address(fields.get(2)?));
        let socket = fields.get(9)?.parse().ok().zip(fields.get(7)?.parse().ok());
        socket.filter(|_| addresses == wanted)
    })
}

/// Parses an address such as `0100007F:1F90`: words of 32 bits in the order of the host, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..host.len() / 8)
        .map(|index| u32::from_str_radix(host.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    let host = match *words?.as_flattened() {
        [a, b, c, d] => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
        ref bytes => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(plain(SocketAddr::new(host, u16::from_str_radix(port, 16).ok()?)))
}

/// Returns an address without scope, and an IPv4 address that is mapped to IPv6 as IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_that_connected_by_tcp_is_found() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let here = listener.local_addr().unwrap();
            let client = TcpStream::connect(here).unwrap();
            let (inode, uid) = tcp_socket(client.local_addr().unwrap(), here).unwrap();
            assert_eq!(uid, rustix::process::geteuid().as_raw());
            let link = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&client))).unwrap();
            assert_eq!(link, Path::new(&format!("socket:[{inode}]")));
        }
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        // The kernel prints each word as a number of this processor.
        let word = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
        let (zero, v4) = (word([0; 4]), word([127, 0, 0, 1]));
        assert_eq!(address(&format!("{v4}:1F90")), Some("127.0.0.1:8080".parse().unwrap()));
        let loopback = format!("{}{}:0016", zero.repeat(3), word([0, 0, 0, 1]));
        assert_eq!(address(&loopback), Some("[::1]:22".parse().unwrap()));
        let mapped = format!("{}{}{v4}:0016", zero.repeat(2), word([0, 0, 0xff, 0xff]));
        assert_eq!(address(&mapped), Some("127.0.0.1:22".parse().unwrap()));
        for wrong in ["", ":", "0100007F", "0100007F:", "01007F:16", "0100007G:0016", "0100007F:10000"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_process_descends_from_itself_and_its_parent() {
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        assert_eq!((descends(own, own), descends(own, parent)), (Some(true), Some(true)));
        assert_eq!(descends(1, own), Some(false));
    }
}
