//! The extensions that come with the engine, as libraries in a plugin directory: what they do is the same, byte for byte.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::AddTorrent;
use pilotfish::metainfo::Magnet;
use pilotfish::plugins::{PluginLibrary, load, scan};
use pilotfish::session::default_extensions;
use pilotfish_tests::fixtures;
use pilotfish_tests::sim::{Content, Link, NodeId, Sim, Trace, talkative};

const LIMIT: Duration = Duration::from_secs(900);
/// The extensions in the order of the session's defaults, and the packages that they are as libraries.
const BUILT_IN: [(&str, &str); 3] = [
    ("ut_pex", "fixture-ut-pex"),
    ("ut_metadata", "fixture-ut-metadata"),
    ("smart_ban", "fixture-smart-ban"),
];

/// A plugin directory into which somebody dropped all of them; what was loaded from it.
fn dropped_into(directory: &Path) -> Vec<PluginLibrary> {
    for (_, package) in BUILT_IN {
        let library = fixtures::library(package);
        fs::copy(library, directory.join(library.file_name().unwrap())).unwrap();
    }
    let found = scan(directory).unwrap();
    let libraries: Vec<PluginLibrary> = found.iter().map(|found| load(&found.path).unwrap()).collect();
    let of = |id: &str| libraries.iter().find(|library| library.id == id).unwrap().clone();
    BUILT_IN.map(|(id, _)| of(id)).to_vec()
}

/// What a swarm did that needs each of them.
#[derive(Debug, PartialEq)]
struct Outcome {
    trace: Trace,
    /// Who was banned, and by whom.
    bans: Vec<String>,
    /// Whom the newcomer connected to.
    connected: Vec<String>,
}

/// A newcomer has only a link, and knows a leech and, of three seeds, the one that lies.
fn swarm(node: impl Fn(&mut Sim) -> NodeId) -> Outcome {
    let mut sim = Sim::new(700);
    sim.link = Link { bandwidth: 200_000, ..Link::default() };
    let content = Content::random(700, 4_000_000, 524_288);
    let seeds = [(); 3].map(|()| {
        let seed = node(&mut sim);
        let torrent = sim.seed(seed, &content);
        sim.run_until_finished(LIMIT, &[(seed, torrent)]);
        seed
    });
    let pieces = content.layout().geometry().num_pieces();
    sim.disk(seeds[0]).lies.extend((0..pieces).step_by(2));
    let link = || AddTorrent::new(Magnet::new(*content.metainfo.info_hashes()));
    let [middle, newcomer] = [(); 2].map(|()| node(&mut sim));
    let theirs = sim.add_as(middle, link());
    seeds[1..].iter().for_each(|seed| sim.introduce(middle, theirs, *seed));
    sim.run_for(Duration::from_secs(2));
    let torrent = sim.add_as(newcomer, link());
    [middle, seeds[0]].iter().for_each(|node| sim.introduce(newcomer, torrent, *node));
    sim.run_until_finished(LIMIT, &[(newcomer, torrent), (middle, theirs)]);
    sim.run_for(Duration::from_secs(2));
    [middle, newcomer].iter().for_each(|node| sim.assert_complete(*node, &content));
    let mut outcome = Outcome { trace: sim.trace(), bans: Vec::new(), connected: Vec::new() };
    for alert in sim.alerts(newcomer) {
        match alert {
            AlertKind::PeerBan { address, by, .. } => outcome.bans.push(format!("{address} {by}")),
            AlertKind::PeerConnect { address, .. } => outcome.connected.push(address.to_string()),
            _ => {}
        }
    }
    outcome
}

#[test]
fn what_is_built_in_does_the_same_when_it_comes_from_the_plugin_directory() {
    let names: Vec<String> = default_extensions().into_iter().map(|extension| extension.name).collect();
    assert_eq!(names, BUILT_IN.map(|(name, _)| name));
    let directory = tempfile::tempdir().unwrap();
    let libraries = dropped_into(directory.path());
    let built_in = swarm(|sim| sim.full_node(talkative()));
    let dropped = swarm(|sim| {
        let node = sim.node();
        for library in &libraries {
            sim.load(node, library, &[]);
        }
        node
    });
    assert_eq!(built_in, dropped);
    // And that is something: the newcomer met everybody, and the liar did not stay.
    assert_eq!(built_in.connected.len(), 4, "{built_in:?}");
    assert!(built_in.bans.iter().all(|ban| ban.starts_with("10.0.0.1:")) && !built_in.bans.is_empty());
}

#[test]
fn without_them_the_newcomer_learns_nothing() {
    let mut sim = Sim::new(701);
    let content = Content::random(701, 100_000, 16_384);
    let [seed, middle, newcomer] = [(); 3].map(|()| sim.node());
    sim.seed(seed, &content);
    let theirs = sim.add(middle, &content);
    sim.introduce(middle, theirs, seed);
    let link = AddTorrent::new(Magnet::new(*content.metainfo.info_hashes()));
    let torrent = sim.add_as(newcomer, link);
    sim.introduce(newcomer, torrent, middle);
    sim.run_for(Duration::from_secs(120));
    assert_eq!((sim.status(newcomer, torrent).num_peers, sim.status(newcomer, torrent).total_pieces), (1, 0));
}
