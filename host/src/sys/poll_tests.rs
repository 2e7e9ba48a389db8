//! Tests of pollers, which each implementation must pass.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::{Interest, Poll, Poller, Source};

/// Longer than a wait ever takes that is to end.
const LONG: Option<Duration> = Some(Duration::from_secs(60));

/// No source.
const NONE: [u64; 0] = [];

fn ready(poller: &Poller, timeout: Option<Duration>) -> Vec<u64> {
    poller.wait(timeout).tokens().to_vec()
}

/// Two connected sockets: one to watch, and one to write to.
fn sockets() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

#[test]
fn unread_bytes_are_reported_again_and_once_only_if_that_is_wanted() {
    let (poller, (socket, mut peer)) = (Poller::new().unwrap(), sockets());
    let source = Source::Descriptor(socket.as_fd());
    poller.add(source, 7, Interest::Read).unwrap();
    assert_eq!(ready(&poller, Some(Duration::ZERO)), NONE);
    peer.write_all(b"x").unwrap();
    assert_eq!((ready(&poller, LONG), ready(&poller, LONG)), (vec![7], vec![7]));
    poller.modify(source, 8, Interest::ReadOnce);
    assert_eq!((ready(&poller, LONG), ready(&poller, Some(Duration::ZERO))), (vec![8], vec![]));
    poller.modify(source, 8, Interest::Write);
    assert_eq!(ready(&poller, LONG), [8]);
    poller.modify(source, 8, Interest::None);
    assert_eq!(ready(&poller, Some(Duration::ZERO)), NONE);
    poller.modify(source, 8, Interest::Read);
    poller.remove(source);
    assert_eq!(ready(&poller, Some(Duration::ZERO)), NONE);
}

#[test]
fn a_poller_is_ready_while_a_source_of_it_is() {
    let (outer, middle, inner) = (Poller::new().unwrap(), Poller::new().unwrap(), Poller::new().unwrap());
    let (socket, mut peer) = sockets();
    outer.add(Source::Poller(&middle), 1, Interest::Read).unwrap();
    middle.add(Source::Poller(&inner), 2, Interest::Read).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ready(&outer, LONG));
        // Whether the other thread waits already or not, it sees the source and then the byte.
        inner.add(Source::Descriptor(socket.as_fd()), 3, Interest::Read).unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(waiting.join().unwrap(), [1]);
    });
    assert_eq!((ready(&middle, LONG), ready(&inner, LONG)), (vec![2], vec![3]));
    inner.remove(Source::Descriptor(socket.as_fd()));
    assert_eq!(ready(&outer, Some(Duration::ZERO)), NONE);
    inner.wake();
    assert_eq!((ready(&outer, LONG), ready(&middle, LONG)), (vec![1], vec![2]));
    assert!(inner.wait(LONG).woken());
    assert_eq!(ready(&outer, Some(Duration::ZERO)), NONE);
    outer.remove(Source::Poller(&middle));
    inner.wake();
    assert_eq!(ready(&outer, Some(Duration::ZERO)), NONE);
}

#[test]
fn a_change_applies_to_the_waits_in_progress() {
    let (poller, (socket, mut peer)) = (Poller::new().unwrap(), sockets());
    peer.write_all(b"x").unwrap();
    let (sender, received) = channel();
    thread::scope(|scope| {
        for _ in 0..2 {
            let (poller, sender) = (&poller, sender.clone());
            scope.spawn(move || sender.send(ready(poller, LONG)).unwrap());
        }
        for round in 0..1000 {
            poller.add(Source::Descriptor(peer.as_fd()), round, Interest::Read).unwrap();
            poller.remove(Source::Descriptor(peer.as_fd()));
        }
        poller.add(Source::Descriptor(socket.as_fd()), 7, Interest::Read).unwrap();
        let limit = LONG.unwrap();
        assert_eq!((received.recv_timeout(limit).unwrap(), received.recv_timeout(limit).unwrap()), (vec![7], vec![7]));
    });
}

#[test]
fn a_wake_ends_the_wait_in_progress_or_the_next_one() {
    let poller = Poller::new().unwrap();
    poller.wake();
    assert!(poller.wait(LONG).woken() && !poller.wait(Some(Duration::ZERO)).woken());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| poller.wait(LONG).woken());
        poller.wake();
        assert!(waiting.join().unwrap());
    });
}

/// Sixteen sources are reported at once, and then the others.
#[test]
fn each_of_many_sources_has_its_turn() {
    let poller = Poller::new().unwrap();
    let sockets: Vec<_> = (0..40).map(|_| sockets()).collect();
    for ((socket, peer), token) in sockets.iter().zip(0..) {
        let mut peer = peer;
        peer.write_all(b"x").unwrap();
        poller.add(Source::Descriptor(socket.as_fd()), token, Interest::Read).unwrap();
    }
    let mut seen: Vec<_> = (0..3).flat_map(|_| ready(&poller, LONG)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
}
