//! Limits of how many connections there are, and to how many peers is uploaded.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, TorrentLimit};
use pilotfish::peer::{Transport, peer_priority};
use pilotfish::settings::Settings;
use pilotfish_plugin::{ErrorCode, TorrentHandle};
use pilotfish_tests::sim::{Content, Log, NodeId, Probe, Sim, talkative};

use crate::alone::{Alone, address};

const SECOND: Duration = Duration::from_secs(1);

/// A seed with these settings, which everybody calls, and as many that call it and nobody else.
struct Crowd {
    sim: Sim,
    seed: NodeId,
    torrent: TorrentHandle,
    callers: Vec<NodeId>,
    logs: Vec<Log>,
}

impl Crowd {
    fn new(number: u64, settings: Settings, callers: usize) -> Self {
        let mut sim = Sim::new(number);
        sim.link.bandwidth = 20_000;
        let content = Content::random(number, 4 << 20, 65_536);
        // Nobody finds anybody else.
        let alone = |settings| Settings { enable_dht: false, enable_lsd: false, ..settings };
        let seed = sim.node_with(alone(settings));
        let torrent = sim.seed(seed, &content);
        let callers: Vec<NodeId> = (0..callers).map(|_| sim.node_with(alone(talkative()))).collect();
        let logs = callers.iter().map(|caller| Probe::new().plug(&mut sim, *caller)).collect();
        for caller in &callers {
            sim.add(*caller, &content);
        }
        sim.run_for(SECOND);
        Self { sim, seed, torrent, callers, logs }
    }

    /// All of them call, one after the other.
    fn call(&mut self) {
        for caller in self.callers.clone() {
            let torrent = TorrentHandle::from_raw(self.torrent.into_raw());
            self.sim.introduce(caller, torrent, self.seed);
            self.sim.run_for(Duration::from_millis(200));
        }
        self.sim.run_for(2 * SECOND);
    }

    fn limit(&mut self, limit: TorrentLimit) {
        self.sim.command(self.seed, Command::SetTorrentLimit(self.torrent, limit));
        self.sim.run_for(2 * SECOND);
    }

    /// Who is connected to the seed, as it says itself.
    fn connected(&self) -> BTreeSet<IpAddr> {
        let mut connected = BTreeSet::new();
        for alert in self.sim.alerts(self.seed) {
            match alert {
                AlertKind::PeerConnect { address, .. } => connected.insert(address.ip()),
                AlertKind::PeerDisconnected { address, .. } => connected.remove(&address.ip()),
                _ => false,
            };
        }
        connected
    }

    /// The addresses of those that stand highest with the seed.
    fn highest(&self, count: usize) -> BTreeSet<IpAddr> {
        let ours = self.sim.at(self.seed).address;
        let mut callers: Vec<_> = self.callers.iter().map(|caller| self.sim.at(*caller).address).collect();
        callers.sort_by_key(|theirs| Reverse(peer_priority(ours, *theirs)));
        callers.iter().take(count).map(|address| address.ip()).collect()
    }

    /// How many of the callers are unchoked.
    fn unchoked(&self) -> usize {
        let unchoked = |log: &&Log| {
            let log = log.lock().unwrap();
            let last =
                log.iter().rev().find(|line| line.ends_with("on_choke") || line.ends_with("on_unchoke"));
            last.is_some_and(|line| line.ends_with("on_unchoke"))
        };
        self.logs.iter().filter(unchoked).count()
    }
}

#[test]
fn a_torrent_that_is_full_keeps_the_connections_of_highest_priority() {
    let mut crowd = Crowd::new(1, talkative(), 12);
    crowd.limit(TorrentLimit::Connections(4));
    crowd.call();
    assert_eq!(crowd.connected(), crowd.highest(4));
    let evicted = |alert: &&AlertKind| {
        matches!(alert, AlertKind::PeerDisconnected { error: ErrorCode::TOO_MANY_CONNECTIONS, .. })
    };
    assert!(crowd.sim.alerts(crowd.seed).any(|alert| evicted(&alert)));
    assert_eq!(crowd.sim.status(crowd.seed, crowd.torrent).limits.max_connections, 4);
}

#[test]
fn a_session_that_is_full_keeps_the_connections_of_highest_priority() {
    let mut crowd = Crowd::new(2, Settings { connections_limit: 5, connections_slack: 2, ..talkative() }, 12);
    crowd.call();
    assert_eq!(crowd.connected(), crowd.highest(5));
}

#[test]
fn a_limit_that_is_lowered_closes_the_connections_of_lowest_priority() {
    let mut crowd = Crowd::new(3, talkative(), 10);
    crowd.call();
    assert_eq!(crowd.connected().len(), 10);
    crowd.limit(TorrentLimit::Connections(6));
    assert_eq!(crowd.connected(), crowd.highest(6));
    crowd.sim.ask(crowd.seed, |ticket| Command::Set(ticket, "connections_limit".into(), "3".into()));
    crowd.sim.run_for(SECOND);
    assert_eq!(crowd.connected(), crowd.highest(3));
}

#[test]
fn no_more_come_in_than_the_limit_and_the_slack() {
    let mut alone = Alone::new(Settings { connections_limit: 3, connections_slack: 2, ..talkative() });
    let accepted = (1..9).filter(|number| {
        alone.engine.accept(address(*number), address(0), Transport::Tcp, alone.now).is_some()
    });
    assert_eq!(accepted.count(), 5);
}

#[test]
fn a_torrent_is_uploaded_to_as_many_as_it_may_be_and_the_slots_go_round() {
    let mut crowd = Crowd::new(4, Settings { allowed_fast_set_size: 0, ..talkative() }, 6);
    crowd.limit(TorrentLimit::Uploads(2));
    crowd.call();
    crowd.sim.run_for(20 * SECOND);
    assert_eq!(crowd.unchoked(), 2);
    crowd.limit(TorrentLimit::Uploads(1));
    // What is on its way to the other comes first.
    crowd.sim.run_for(15 * SECOND);
    assert_eq!(crowd.unchoked(), 1);
    crowd.limit(TorrentLimit::Uploads(0));
    crowd.sim.run_for(20 * SECOND);
    assert_eq!(crowd.unchoked(), 6);
}

#[test]
fn a_plugin_limits_connections_and_uploads_of_its_torrent() {
    let mut sim = Sim::new(5);
    let content = Content::random(5, 4 << 20, 65_536);
    sim.link.bandwidth = 20_000;
    let seed = sim.node();
    Probe::new()
        .torrent("on_files_checked", |cx| {
            let this = cx.this();
            assert_eq!((this.max_connections(), this.max_uploads()), (0, 0));
            this.set_max_connections(3);
            this.set_max_uploads(1);
            assert_eq!((this.max_connections(), this.max_uploads()), (3, 1));
            true
        })
        .plug(&mut sim, seed);
    let torrent = sim.seed(seed, &content);
    for _ in 0..5 {
        let caller = sim.node();
        let theirs = sim.add(caller, &content);
        sim.introduce(caller, theirs, seed);
    }
    sim.run_for(5 * SECOND);
    let status = sim.status(seed, torrent);
    assert_eq!((status.num_peers, status.limits.max_uploads), (3, 1));
}
