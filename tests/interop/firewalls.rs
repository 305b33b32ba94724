//! Peers behind firewalls that let nobody in, introduced to each other (BEP 55), on a network of the test's own.

use std::process::{Command, Stdio};

use crate::data::Data;
use crate::network::{Host, network};
use crate::peers::{address, downloading, libtorrent, set, start};
use crate::utp::{by_utp_alone, socket_type, with_utp};

/// What a firewall lets in: answers, and nothing else.
const FIREWALL: &str = "add table inet f; \
     add chain inet f in { type filter hook input priority 0; policy drop; }; \
     add rule inet f in ct state established,related accept; \
     add rule inet f in iif lo accept; \
     add rule inet f in meta l4proto icmp accept";

/// Puts a host behind a firewall.
fn shut(host: &Host) {
    let mut command = host.runs(Command::new("nft").arg(FIREWALL));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}: install the Debian package nftables");
}

#[test]
fn two_peers_behind_firewalls_are_introduced_to_each_other_by_libtorrent() {
    let (data, [here, there, between]) = (Data::single(3_000_000), network());
    [&here, &there].into_iter().for_each(shut);
    // It is open to everybody, and has next to nothing to give itself.
    let mut command = libtorrent("leech", &data, &data.path("poor"), &between.listen());
    command.args(["--download-limit", "2000", "--upload-limit", "1000"]);
    let mut introducer = start(&mut between.runs(with_utp(&mut command, true)), 0);
    let known = address(&mut introducer);
    let mut command = libtorrent("seed", &data, &data.complete(), &there.listen());
    command.args(["--peer", &known]);
    let mut seed = start(&mut there.runs(with_utp(&mut command, false)), 0);
    let wanted = address(&mut seed);
    seed.wait_for("the introducer", |line| {
        line.event("alert").filter(|alert| alert["what"] == "peer_connect")
    });

    let mut command = downloading(&data, &here.listen());
    set(by_utp_alone(&mut command), &["peer_connect_timeout=5", "enable_lsd=false"]).args(["--peer", &known]);
    let mut pilotfish = start(&mut here.runs(&command), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    // Both call, and each call that gets through is a connection, until it is known that they have the same two ends.
    let with_seed = pilotfish.printed.iter().filter(|line| line.text().contains(&wanted));
    let types: Vec<String> = with_seed.filter_map(socket_type).collect();
    assert!(!types.is_empty() && types.iter().all(|socket_type| socket_type == "uTP"), "{types:?}");
}
