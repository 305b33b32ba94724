//! Local discovery (BEP 14) with libtorrent, on a network of the test's own.

use crate::data::{Data, MIB};
use crate::network::{Host, network};
use crate::peers::{downloading, libtorrent, name_by_links, seeding, set, start};
use crate::process::Process;

/// Peers are found on the network alone.
pub(crate) const ALONE: &str = "enable_dht=false";

/// So many torrents, each of which is to be found.
pub(crate) fn data(torrents: usize) -> Data {
    let mut data = Data::new();
    (0..torrents).for_each(|number| data.add(&number.to_string(), &[("", MIB + 5)]));
    data
}

/// Pilotfish has the data, on this host, and has said so.
pub(crate) fn first_seed(data: &Data, host: &Host, listen: &str) -> Process {
    let mut pilotfish = start(&mut host.runs(set(&mut seeding(data, listen), &[ALONE])), 0);
    for _ in &data.torrents {
        pilotfish.wait_for("checked data", |line| line.event("finished"));
    }
    pilotfish
}

/// Pilotfish downloads links on this host. Nobody is told of it but by what it says itself.
#[track_caller]
pub(crate) fn downloads(data: &mut Data, host: &Host, listen: &str) {
    name_by_links(data);
    let mut pilotfish = start(&mut host.runs(set(&mut downloading(data, listen), &[ALONE])), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
}

/// libtorrent on this host.
fn their(role: &str, data: &Data, host: &Host, listen: &str) -> Process {
    let folder = if role == "seed" { data.complete() } else { data.arrived() };
    start(&mut host.runs(set(&mut libtorrent(role, data, &folder, listen), &["enable_lsd=true"])), 0)
}

/// libtorrent, which was there first, hears that Pilotfish looks for peers.
#[track_caller]
fn is_heard(ours: &str, theirs: &str) {
    let ([here, there], mut data) = (network(), data(3));
    let mut libtorrent = their("seed", &data, &there, theirs);
    for _ in &data.torrents {
        libtorrent.wait_for("checked data", |line| line.event("checked"));
    }
    downloads(&mut data, &here, ours);
}

/// Pilotfish, which was there first, hears that libtorrent looks for peers.
#[track_caller]
fn hears(ours: &str, theirs: &str) {
    let ([here, there], mut data) = (network(), data(3));
    let mut pilotfish = first_seed(&data, &here, ours);
    name_by_links(&mut data);
    let mut libtorrent = their("leech", &data, &there, theirs);
    pilotfish.wait_for("libtorrent", |line| line.alert("lsd_peer"));
    for _ in &data.torrents {
        libtorrent.wait_for("a finished torrent", |line| line.event("finished"));
    }
    data.assert_arrived();
}

#[test]
fn libtorrent_hears_us_on_the_network() {
    is_heard("10.77.0.1:0", "10.77.0.2:0");
}

#[test]
fn we_hear_libtorrent_on_the_network() {
    hears("10.77.0.1:0", "10.77.0.2:0");
}

#[test]
fn libtorrent_hears_us_on_the_network_by_ipv6() {
    is_heard("[fd77::1]:0", "[fd77::2]:0");
}

#[test]
fn we_hear_libtorrent_on_the_network_by_ipv6() {
    hears("[fd77::1]:0", "[fd77::2]:0");
}
