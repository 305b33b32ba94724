use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::net::Ipv4Addr;

use tokio::io::Interest;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::alert::AlertKind;
use crate::net::peer_io::Moved;
use crate::net::{listener, tests};
use crate::wire::Protocol;

/// Runs a test on a thread as a session has one.
fn on_network_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = Duration::from_secs(20);
    LocalSet::new().block_on(&runtime, async { timeout(limit, test).await }).unwrap();
}

/// uTP on a socket of its own on loopback, which hears only what `passes`.
async fn end(passes: impl FnMut(&[u8]) -> bool + 'static) -> Utp {
    end_at(Ipv4Addr::LOCALHOST, passes).await
}

async fn end_at(ip: Ipv4Addr, passes: impl FnMut(&[u8]) -> bool + 'static) -> Utp {
    let socket = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
    let limits = Limits { connections: 100, silence: Duration::from_secs(60) };
    let (utp, inbox, full) = Utp::new(&socket, socket.local_addr().unwrap(), limits).unwrap();
    spawn_local(wake_when_writable(socket.clone(), full));
    let mut passes = passes;
    spawn_local(async move {
        let mut buffer = [0; 2_048];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            if passes(&buffer[..len]) {
                inbox.deliver(from, &buffer[..len]);
            }
        }
    });
    utp
}

fn asks(packet: &[u8]) -> bool {
    Protocol::of(packet) == Some(Protocol::Utp { opens: true })
}

async fn accepted(utp: &Utp) -> UtpStream {
    utp.accept().await.unwrap()
}

/// Writes all of it.
async fn say(stream: &UtpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.ready(Interest::WRITABLE).await;
        let (Moved::Some(len) | Moved::Last(len)) = stream.write(&[IoSlice::new(bytes)]).unwrap();
        bytes = &bytes[len..];
    }
}

/// Reads so many bytes, or everything up to the end.
async fn hear(stream: &UtpStream, most: usize) -> Vec<u8> {
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 10_000]);
    while heard.len() < most {
        assert!(stream.ready(Interest::READABLE).await.is_readable());
        let room = buffer.len().min(most - heard.len());
        match stream.read(&mut [IoSliceMut::new(&mut buffer[..room])]).unwrap() {
            Moved::Some(0) => break,
            Moved::Some(len) | Moved::Last(len) => heard.extend(&buffer[..len]),
        }
    }
    heard
}

#[test]
fn what_is_written_arrives_in_order_and_so_does_the_end() {
    on_network_thread(async {
        let (here, there) = (end(|_| true).await, end(|_| true).await);
        let called = spawn_local({
            let there = there.clone();
            async move { accepted(&there).await }
        });
        let caller = here.connect(there.0.local).await.unwrap();
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 3) as u8).collect();
        let sent = data.clone();
        say(&caller, b"hello").await;
        let called = called.await.unwrap();
        assert!(called.speaks().await.unwrap());
        assert_eq!(hear(&called, 5).await, b"hello");
        assert_eq!((called.remote(), caller.remote()), (here.0.local, there.0.local));
        spawn_local(async move { say(&caller, &sent).await });
        assert!(hear(&called, usize::MAX).await == data);
        drop(called);
        while here.connections() + there.connections() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn both_directions_are_served_at_once() {
    on_network_thread(async {
        let (here, there) = (end(|_| true).await, end(|_| true).await);
        let called = async {
            let stream = accepted(&there).await;
            assert!(stream.speaks().await.unwrap());
            stream
        };
        let calling = async {
            let stream = here.connect(there.0.local).await.unwrap();
            say(&stream, &[1]).await;
            stream
        };
        let (one, other) = tokio::join!(calling, called);
        assert_eq!(hear(&other, 1).await, [1]);
        let (to_one, to_other) = (vec![2; 2_000_000], vec![3; 2_000_000]);
        let (at_one, at_other, (), ()) = tokio::join!(
            hear(&one, to_one.len()),
            hear(&other, to_other.len()),
            say(&other, &to_one),
            say(&one, &to_other),
        );
        assert!(at_one == to_one && at_other == to_other);
    });
}

#[test]
fn a_request_that_is_lost_is_sent_again() {
    on_network_thread(async {
        let requests = Rc::new(Cell::new(0));
        let seen = requests.clone();
        let deaf = move |packet: &[u8]| {
            seen.set(seen.get() + u32::from(asks(packet)));
            seen.get() != 1
        };
        let (here, there) = (end(|_| true).await, end(deaf).await);
        let (connected, _called) = tokio::join!(here.connect(there.0.local), accepted(&there));
        connected.unwrap();
        assert_eq!(requests.get(), 2);
    });
}

#[test]
fn nobody_who_never_answers_is_asked_more_often_than_that() {
    on_network_thread(async {
        let requests = Rc::new(Cell::new(0));
        let seen = requests.clone();
        let deaf = move |packet: &[u8]| {
            seen.set(seen.get() + usize::from(asks(packet)));
            false
        };
        let (here, there) = (end(|_| true).await, end(deaf).await);
        let patience = REQUEST_AGAIN * REQUESTS as u32 + REQUEST_AGAIN / 2;
        assert!(timeout(patience, here.connect(there.0.local)).await.is_err());
        assert_eq!(requests.get(), REQUESTS);
    });
}

/// Whether two ends that call each other at once, and hear `passes` of what the other sends, are connected to each other.
async fn meet(passes: [fn(u32) -> bool; 2]) {
    let [one, other] = passes.map(|passes| {
        let mut packets = 0;
        end(move |_| {
            packets += 1;
            passes(packets)
        })
    });
    let (one, other) = (one.await, other.await);
    let talk = |caller: UtpStream, called: UtpStream| async move {
        say(&caller, b"me").await;
        assert_eq!(hear(&called, 2).await, b"me");
        say(&called, b"you").await;
        assert_eq!(hear(&caller, 3).await, b"you");
    };
    let (from_one, from_other, at_one, at_other) = tokio::join!(
        one.connect(other.0.local),
        other.connect(one.0.local),
        accepted(&one),
        accepted(&other)
    );
    talk(from_one.unwrap(), at_other).await;
    talk(from_other.unwrap(), at_one).await;
}

#[test]
fn two_that_call_each_other_at_once_have_a_connection_each_way() {
    on_network_thread(meet([|_| true, |_| true]));
}

#[test]
fn two_that_call_each_other_meet_also_if_the_first_packets_find_a_closed_door() {
    // A router lets nothing in from an address that nothing was sent to yet.
    on_network_thread(meet([|_| true, |packet| packet > 1]));
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn who_says_nothing_is_no_peer_and_only_so_many_may_be_silent() {
    on_network_thread(async {
        let (driver, alerts) = tests::driver();
        listener::listen(&driver, &["127.0.0.1:0".parse().unwrap()]);
        let AlertKind::ListenSucceeded { address } = alerts.take(None).unwrap().kind else {
            panic!("it listens")
        };
        let peers = || driver.borrow().connections();
        let mut callers = Vec::new();
        let mut silent = Vec::new();
        for host in 0..MOST_SILENT / MOST_SILENT_OF_ONE {
            let caller = end_at(Ipv4Addr::new(127, 0, 1, host as u8), |_| true).await;
            for _ in 0..MOST_SILENT_OF_ONE {
                silent.push(caller.connect(address).await.unwrap());
            }
            callers.push(caller);
        }
        let here = end(|_| true).await;
        assert!(timeout(REQUEST_AGAIN / 2, here.connect(address)).await.is_err(), "there is room for more");
        assert_eq!(peers(), 0);

        // Who says something is one, and leaves its place to the next.
        let speaks = silent.pop().unwrap();
        say(&speaks, b"\x13BitTorrent").await;
        until(|| peers() == 1).await;
        let next = here.connect(address).await.unwrap();
        drop((silent, speaks, next));
        until(|| peers() == 0).await;
        let there = driver.borrow().udp.all_utp().remove(0);
        callers.push(here);
        until(|| there.connections() + callers.iter().map(Utp::connections).sum::<usize>() == 0).await;
    });
}

#[test]
fn one_address_does_not_take_the_places_of_all_silent_callers() {
    on_network_thread(async {
        let (driver, alerts) = tests::driver();
        listener::listen(&driver, &["127.0.0.1:0".parse().unwrap()]);
        let AlertKind::ListenSucceeded { address } = alerts.take(None).unwrap().kind else {
            panic!("it listens")
        };
        let greedy = end_at(Ipv4Addr::new(127, 0, 1, 1), |_| true).await;
        let mut calls = Vec::new();
        for _ in 0..MOST_SILENT * 2 {
            // Those that are too many are hung up on.
            calls.push(greedy.connect(address).await);
        }
        let other = end_at(Ipv4Addr::new(127, 0, 1, 2), |_| true).await;
        let speaks = other.connect(address).await.unwrap();
        say(&speaks, b"\x13BitTorrent").await;
        until(|| driver.borrow().connections() == 1).await;
    });
}
