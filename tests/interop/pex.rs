//! Peers that tell each other of peers (BEP 11): libtorrent tells us, and we tell libtorrent.

use pilotfish_tests::program;

use crate::data::{Data, MIB};
use crate::peers::{LISTEN, Seed, address, download, leech, name_by_links, pilotfish, poor, start};

/// So little is received that nothing is complete as long as a test takes, in bytes per second.
const TRICKLE: u64 = 2_000;

#[test]
fn a_link_alone_becomes_a_torrent_through_a_libtorrent_that_has_nothing_but_knows_a_seed() {
    let mut data = Data::single(8 * MIB);
    let seed = Seed::of(&data);
    let (mut middle, address) = poor(&data, &seed.address, TRICKLE);
    middle.wait_for("its seed", |line| connected_to(&line.event("alert")?, &seed.address));
    name_by_links(&mut data);
    let mut pilotfish = start(&mut download(&data, &[&address]), 8 * MIB);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    // Who heard of whom first, and called, is chance; but all came from the seed.
    let complete = |line: &crate::process::Line| line.event("finished").is_some();
    assert!(!middle.kill().iter().any(complete));
}

#[test]
fn libtorrent_finds_a_seed_of_which_only_we_have_told_it() {
    let data = Data::single(8 * MIB);
    let seed = Seed::of(&data);
    let mut middle = pilotfish("download");
    middle.args(&data.torrents).arg("--output").arg(data.path("middle")).args(["--listen", LISTEN]);
    middle.args(["--peer", &seed.address, "--set", &format!("download_rate_limit={TRICKLE}")]);
    middle.env("XDG_STATE_HOME", program::target_dir());
    let mut middle = start(&mut middle, 0);
    let address = address(&mut middle);
    middle.wait_for("its seed", |line| line.alert("peer_connect"));
    let mut libtorrent = leech(&data, &address, 8 * MIB);
    libtorrent.wait_for("the seed", |line| connected_to(&line.event("alert")?, &seed.address));
    libtorrent.wait_for("a finished torrent", |line| line.event("finished"));
    data.assert_arrived();
}

/// Whether libtorrent says that it has a connection to this address.
fn connected_to(alert: &serde_json::Value, address: &str) -> Option<()> {
    let message = alert["message"].as_str()?;
    (alert["what"] == "peer_connect" && message.contains(address)).then_some(())
}
