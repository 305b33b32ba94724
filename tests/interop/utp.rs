//! uTP alone, without TCP: with libtorrent in both directions, and over a line that delays and loses.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::data::{Data, MIB};
use crate::lossy::{Line, Quality};
use crate::peers::{address, download, libtorrent, seed_with, set, start};
use crate::process::{Line as Printed, Process};
use crate::size;

/// Has Pilotfish speak uTP and nothing else.
pub(crate) fn by_utp_alone(pilotfish: &mut Command) -> &mut Command {
    set(pilotfish, &["enable_outgoing_tcp=false", "enable_incoming_tcp=false"])
}

/// Has libtorrent speak uTP, and TCP or not.
pub(crate) fn with_utp(libtorrent: &mut Command, tcp: bool) -> &mut Command {
    for way in ["incoming", "outgoing"] {
        set(libtorrent, &[&format!("enable_{way}_utp=true"), &format!("enable_{way}_tcp={tcp}")]);
    }
    libtorrent
}

/// libtorrent, which speaks uTP and nothing else, and its address.
fn libtorrent_by_utp(command: &mut Command, size: u64) -> (Process, String) {
    let mut process = start(with_utp(command, false), size);
    let address = address(&mut process);
    (process, address)
}

/// libtorrent with all data of a test, which it has checked.
fn seed_by_utp(data: &Data, listen: &str, size: u64) -> (Process, String) {
    let (mut process, address) =
        libtorrent_by_utp(&mut libtorrent("seed", data, &data.complete(), listen), size);
    for _ in &data.torrents {
        process.wait_for("checked data", |line| line.event("checked"));
    }
    (process, address)
}

/// What a connection that was made goes by.
pub(crate) fn socket_type(line: &Printed) -> Option<String> {
    line.alert("peer_connect").and_then(|fields| Some(fields["socket_type"].as_str()?.to_owned()))
}

#[track_caller]
pub(crate) fn assert_by_utp(pilotfish: &Process) {
    let types: Vec<String> = pilotfish.printed.iter().filter_map(socket_type).collect();
    assert!(!types.is_empty() && types.iter().all(|socket_type| socket_type == "uTP"), "{types:?}");
}

/// Pilotfish gets everything from libtorrent; `more` is said to Pilotfish as well.
#[track_caller]
fn comes(data: &Data, listen: &str, more: &[&str], size: u64) {
    let (mut libtorrent, address) = seed_by_utp(data, listen, size);
    let mut pilotfish = start(by_utp_alone(&mut download(data, &[&address])).args(more), size);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    assert_by_utp(&pilotfish);
    // It was told that this is the end, and has not found out by waiting.
    let bye = Instant::now();
    libtorrent.wait_for("the end of the connection", |line| {
        line.event("alert").filter(|alert| alert["what"] == "peer_disconnected")
    });
    assert!(bye.elapsed() < Duration::from_secs(5), "it was left waiting for {:?}", bye.elapsed());
}

#[test]
fn a_file_comes_from_libtorrent_by_utp() {
    comes(&Data::single(size()), "127.0.0.1:0", &[], size());
}

#[test]
fn torrents_come_from_libtorrent_by_utp_over_ipv6_and_encrypted() {
    let mut data = Data::new();
    data.add("file", &[("", 5 * MIB + 99)]);
    data.add("folder", &[("a/b.bin", 3 * MIB + 3), ("c", 70_000)]);
    let encrypted = ["--set", "out_enc_policy=forced", "--set", "allowed_enc_level=rc4"];
    comes(&data, "[::1]:0", &encrypted, 0);
}

#[test]
fn libtorrent_gets_a_file_by_utp() {
    let data = Data::single(size());
    let (mut pilotfish, address) = seed_with(&data, "127.0.0.1:0", by_utp_alone);
    let mut leech = libtorrent("leech", &data, &data.arrived(), "127.0.0.1:0");
    let (mut leech, _) = libtorrent_by_utp(leech.args(["--peer", &address]), size());
    leech.wait_for("a finished torrent", |line| line.event("finished"));
    data.assert_arrived();
    let by = pilotfish.wait_for("a connection", socket_type);
    assert_eq!(by, "uTP");
}

#[test]
fn whoever_speaks_both_is_connected_to_once_and_sends_everything() {
    let data = Data::single(8 * MIB);
    let mut libtorrent =
        start(with_utp(&mut libtorrent("seed", &data, &data.complete(), "127.0.0.1:0"), true), 0);
    let address = address(&mut libtorrent);
    libtorrent.wait_for("checked data", |line| line.event("checked"));
    let mut pilotfish = start(&mut download(&data, &[&address]), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    let connections = pilotfish.printed.iter().filter(|line| socket_type(line).is_some()).count();
    assert_eq!(connections, 1);
}

#[test]
fn libtorrent_that_wants_no_tcp_is_reached_although_both_are_tried() {
    let data = Data::single(MIB);
    let (_libtorrent, address) = seed_by_utp(&data, "127.0.0.1:0", 0);
    let mut pilotfish = start(&mut download(&data, &[&address]), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    assert_eq!(pilotfish.printed.iter().filter_map(socket_type).next_back().as_deref(), Some("uTP"));
}

/// A line of 50 ms in each direction that loses two in a hundred datagrams.
const BAD: Quality = Quality { delay: Duration::from_millis(50), loss: 2.0 };

#[track_caller]
fn say_how_fast(what: &str, size: u64, line: &Line, begun: Instant) {
    let ((sent, lost), seconds) = (line.counted(), begun.elapsed().as_secs_f64());
    assert!(lost > 0, "the line lost nothing of {sent} datagrams");
    let rate = size as f64 / seconds / 1_024.0;
    println!("{what}: {size} bytes in {seconds:.1} s, {rate:.0} KiB/s; {lost} of {sent} datagrams were lost");
}

#[test]
fn a_file_comes_from_libtorrent_by_utp_over_a_bad_line() {
    let data = Data::single(2 * MIB);
    let (_libtorrent, address) = seed_by_utp(&data, "127.0.0.1:0", 0);
    let line = Line::to(address.parse().unwrap(), BAD);
    let begun = Instant::now();
    let mut pilotfish = start(by_utp_alone(&mut download(&data, &[&line.near.to_string()])), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    assert_by_utp(&pilotfish);
    say_how_fast("from libtorrent", 2 * MIB, &line, begun);
}

#[test]
fn libtorrent_gets_a_file_by_utp_over_a_bad_line() {
    let data = Data::single(MIB);
    let (_pilotfish, address) = seed_with(&data, "127.0.0.1:0", by_utp_alone);
    let line = Line::to(address.parse().unwrap(), BAD);
    let begun = Instant::now();
    let mut leech = libtorrent("leech", &data, &data.arrived(), "127.0.0.1:0");
    let (mut leech, _) = libtorrent_by_utp(leech.args(["--peer", &line.near.to_string()]), 0);
    leech.wait_for("a finished torrent", |line| line.event("finished"));
    data.assert_arrived();
    say_how_fast("to libtorrent", MIB, &line, begun);
}
