//! The DHT with libtorrent's nodes on this machine: a magnet link and a node to begin with are all that is told.

use crate::data::{Data, MIB};
use crate::peers::{
    LIMIT, LISTEN, address, dht_node, downloading, libtorrent, name_by_links, pilotfish, seeding, start,
};
use crate::process::Process;

/// All nodes here have one address.
pub(crate) const SETTINGS: [&str; 6] = [
    "--set",
    "dht_restrict_routing_ips=0",
    "--set",
    "dht_restrict_search_ips=0",
    "--set",
    "dht_bootstrap_nodes=",
];

fn seed(data: &Data, node: &str) -> Process {
    Process::start(seeding(data, LISTEN).args(["--dht-node", node]).args(SETTINGS), LIMIT)
}

fn download(data: &Data, node: &str) -> Process {
    Process::start(downloading(data, LISTEN).args(["--dht-node", node]).args(SETTINGS), LIMIT)
}

fn their(role: &str, data: &Data, node: &str) -> Process {
    let folder = if role == "seed" { data.complete() } else { data.arrived() };
    let mut command = libtorrent(role, data, &folder, "127.0.0.1:0");
    start(command.args(["--dht-node", node]), 0)
}

fn data() -> Data {
    let mut data = Data::new();
    data.add("file", &[("", 2 * MIB + 5)]);
    data
}

#[test]
fn a_link_alone_downloads_from_libtorrent_through_the_dht_alone() {
    let mut data = data();
    let (_router, node) = dht_node();
    let mut libtorrent = their("seed", &data, &node);
    libtorrent.wait_for("checked data", |line| line.event("checked"));
    name_by_links(&mut data);
    let mut pilotfish = download(&data, &node);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    assert!(pilotfish.printed.iter().any(|line| line.alert("dht_reply").is_some()));
}

#[test]
fn libtorrent_downloads_a_link_from_us_through_the_dht_alone() {
    let mut data = data();
    let (_router, node) = dht_node();
    let mut pilotfish = seed(&data, &node);
    pilotfish.wait_for("checked data", |line| line.event("finished"));
    name_by_links(&mut data);
    let mut libtorrent = their("leech", &data, &node);
    libtorrent.wait_for("a finished torrent", |line| line.event("finished"));
    data.assert_arrived();
}

#[test]
fn libtorrent_enters_through_us() {
    let mut data = data();
    let mut router = pilotfish("run");
    router.args(["--listen", "127.0.0.1:0", "--stop-after", "300s"]).args(SETTINGS);
    let mut router = Process::start(&mut router, LIMIT);
    let node = address(&mut router);
    let mut libtorrent = their("seed", &data, &node);
    libtorrent.wait_for("checked data", |line| line.event("checked"));
    name_by_links(&mut data);
    let mut pilotfish = download(&data, &node);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
}
