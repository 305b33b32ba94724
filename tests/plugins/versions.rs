//! Plugins built against older and newer interfaces than this host's, beside one built against the same.

use std::collections::BTreeSet;
use std::process::Command;

use pilotfish::plugins::load;
use pilotfish_plugin::rt::{API_MAJOR, API_MINOR};
use pilotfish_plugin::{PeerHooks, SessionHooks, TorrentHooks};
use pilotfish_tests::fixtures;

use crate::tour::{self, Guest};
use pilotfish_tests::bare_host::{BareHost, PLUGIN};

/// The plugins, the interface that each was built against, and the peer with whom it encrypts.
const PLUGINS: [(&str, (u16, u16), u8); 3] =
    [("fixture-1-0", (1, 0), 1), ("fixture-versioned", (1, 1), 3), ("fixture-1-2", (1, 2), 11)];

/// What all of them say in their log.
const ALL: [&str; 10] = [
    "session.new_torrent",
    "session.added",
    "session.save_state",
    "session.abort",
    "torrent.new_connection",
    "torrent.on_files_checked: 16 pieces",
    "peer.on_handshake",
    "peer.on_piece: true",
    "peer.on_disconnect",
    "cipher.encrypt",
];
/// What they say of rows that 1.0 lacks.
const SINCE_1_1: [&str; 12] = [
    "session.torrent_removed",
    "torrent.on_block_hash: true",
    "peer.wants_fragments",
    "cipher.decrypt",
    "log.enabled: true",
    "session.bans: 0",
    "entry.remove: true",
    "torrent.bans: false",
    "peer.listen_port: true",
    "peer.listen_port: false",
    "bt.reserved: true",
    "bt.reserved: false",
];
/// What one says of rows that this host lacks: functions are gone, and hooks are not called.
const SINCE_1_2: [&str; 7] = [
    "host.since_1_2: gone true",
    "log.since_1_2: gone true",
    "session.since_1_2: gone true",
    "entry.since_1_2: gone true",
    "torrent.since_1_2: gone true",
    "peer.since_1_2: gone true",
    "bt.since_1_2: gone true",
];

/// In a child process: the order in which the plugins are loaded.
const ORDER: &str = "PILOTFISH_TEST_ORDER";

#[test]
fn this_host_is_between_the_versions() {
    assert_eq!((API_MAJOR, API_MINOR), (1, 1), "the versions that fixtures::SKEWED makes have to follow");
}

/// A library stays loaded, and what was loaded first might decide what is found to fit later: so each order has a process of
/// its own, this test once more.
#[test]
fn plugins_of_every_minor_version_behave_beside_each_other_in_every_order() {
    if let Ok(order) = std::env::var(ORDER) {
        let order: Vec<usize> = order.chars().map(|c| c.to_digit(10).unwrap() as usize).collect();
        return behave_in_order(&order);
    }
    fixtures::library("fixture-1-0");
    for order in ["012", "021", "102", "120", "201", "210"] {
        let me = std::env::current_exe().unwrap();
        let name = "versions::plugins_of_every_minor_version_behave_beside_each_other_in_every_order";
        let output =
            Command::new(me).args(["--exact", name, "--nocapture"]).env(ORDER, order).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let failed =
            format!("order {order}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{failed}");
    }
}

fn behave_in_order(order: &[usize]) {
    let plugins: Vec<_> = order.iter().map(|i| PLUGINS[*i]).collect();
    let mut guests = Vec::new();
    for (package, api, number) in &plugins {
        let library = load(fixtures::library(package)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(library.api, *api);
        let address = tour::peer_address(*number).to_string();
        guests.push(Guest::new(&library, &[("cipher", &address)]));
    }
    let report = tour::take(guests).unwrap();
    assert!(report.stopped);
    assert_eq!(report.finished(), BTreeSet::from(["had", "lacked"]));
    for (package, (_, minor), _) in plugins {
        let said: BTreeSet<&str> = report.log(package).into_iter().collect();
        let mut expected = BTreeSet::from(ALL);
        if minor >= 1 {
            expected.extend(SINCE_1_1);
        }
        if minor >= 2 {
            expected.extend(SINCE_1_2);
        }
        assert_eq!(said, expected, "{package}");
        let kept: &[u8] = if minor >= 1 { b"d4:kepti1ee" } else { b"d7:droppedi2e4:kepti1ee" };
        assert_eq!(report.states[package], kept, "{package}");
    }
    // All of them saw the same blocks.
    let blocks = PLUGINS
        .map(|(package, ..)| report.log(package).iter().filter(|line| line.contains("on_piece")).count());
    assert!(blocks[0] >= 32 && blocks.iter().all(|n| *n == blocks[0]), "{blocks:?}");
}

#[test]
fn a_hook_that_a_plugin_is_too_old_for_counts_as_not_overridden() {
    for (package, (_, minor), _) in PLUGINS {
        let (_, chains) = BareHost::open(&load(fixtures::library(package)).unwrap(), &[]);
        let (session, torrent, peer) =
            (SessionHooks::torrent_removed, TorrentHooks::on_block_hash, PeerHooks::wants_fragments);
        let has = [
            chains.session.set_of(PLUGIN) & session.bits() != 0,
            chains.torrent.set_of(PLUGIN) & torrent.bits() != 0,
            chains.peer.set_of(PLUGIN) & peer.bits() != 0,
        ];
        assert_eq!(has, [minor >= 1; 3], "{package}");
        assert!(chains.session.has(SessionHooks::added) && chains.peer.has(PeerHooks::on_piece), "{package}");
        // And one that is too new for the host is not there for it.
        assert_eq!(chains.session.set_of(PLUGIN) >> SessionHooks::NAMES.len(), 0, "{package}");
    }
}

#[test]
fn a_changed_signature_is_refused_in_one_line_that_names_the_hook() {
    let error = load(fixtures::library("fixture-changed")).unwrap_err().to_string();
    let name = fixtures::library("fixture-changed").file_name().unwrap().to_str().unwrap();
    assert_eq!(
        error,
        format!(
            "{name}: built for plugin API 1.1, which differs from this host's 1.1 in hook PeerPlugin::on_have, \
             argument piece: expected PieceIndex, found u64: rebuild it against pilotfish-plugin 1.1"
        )
    );
}

#[test]
fn another_major_version_is_refused_in_one_line_with_both_numbers() {
    let error = load(fixtures::library("fixture-2-0")).unwrap_err().to_string();
    let name = fixtures::library("fixture-2-0").file_name().unwrap().to_str().unwrap();
    assert_eq!(
        error,
        format!("{name}: built for plugin API 2.0, this host has 1.1: rebuild it against pilotfish-plugin 1")
    );
}
