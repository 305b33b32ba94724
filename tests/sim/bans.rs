//! Who is banned is neither let in nor called, whoever asked for it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{Answer, Ban, Command};
use pilotfish_plugin::{PeerHandle, TorrentHandle};
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim};

const LIMIT: Duration = Duration::from_secs(300);

fn content() -> Content {
    Content::random(620, 200_000, 16_384)
}

fn bans(sim: &mut Sim, node: NodeId) -> Vec<Ban> {
    let Answer::Bans(bans) = sim.ask(node, Command::Bans) else { panic!("no list") };
    bans
}

/// The alerts of bans: address, torrent, who asked for it.
fn told(sim: &Sim, node: NodeId) -> Vec<(IpAddr, TorrentHandle, String)> {
    let ban = |alert: &AlertKind| match alert {
        AlertKind::PeerBan { address, torrent, by, .. } => Some((address.ip(), *torrent, by.clone())),
        _ => None,
    };
    sim.alerts(node).filter_map(ban).collect()
}

fn ban(torrent: Option<TorrentHandle>, address: IpAddr) -> Command {
    Command::Ban { torrent, address, reason: "I say so".to_owned() }
}

#[test]
fn who_is_banned_from_a_torrent_is_disconnected_and_neither_called_nor_let_in_until_the_ban_is_lifted() {
    for scope in ["torrent", "session"] {
        let mut sim = Sim::new(620);
        let [seed, leech] = [sim.node(), sim.node()];
        let theirs = sim.seed(seed, &content());
        let ours = sim.add(leech, &content());
        let torrent = (scope == "torrent").then_some(ours);
        sim.introduce(leech, ours, seed);
        sim.run_for(Duration::from_millis(100));
        assert_eq!(sim.status(leech, ours).num_peers, 1);
        let address = sim.at(seed).address.ip();
        sim.command(leech, ban(torrent, address));
        assert_eq!(sim.status(leech, ours).num_peers, 0);
        // Neither way, for a long time.
        sim.introduce(leech, ours, seed);
        sim.introduce(seed, theirs, leech);
        sim.run_for(Duration::from_secs(400));
        let connections = |sim: &Sim| {
            sim.alerts(leech).filter(|alert| matches!(alert, AlertKind::PeerConnect { .. })).count()
        };
        assert_eq!(connections(&sim), 1, "{scope}");
        let by = "program".to_owned();
        let listed = Ban { address, torrent, by: by.clone(), reason: "I say so".to_owned() };
        assert_eq!(bans(&mut sim, leech), [listed]);
        assert_eq!(told(&sim, leech), [(address, torrent.unwrap_or(TorrentHandle::INVALID), by)]);
        sim.command(leech, Command::Unban { torrent, address });
        assert_eq!(bans(&mut sim, leech), []);
        sim.introduce(leech, ours, seed);
        sim.run_until_finished(LIMIT, &[(leech, ours)]);
    }
}

#[test]
fn a_ban_from_one_torrent_says_nothing_of_another_and_one_from_the_session_of_all() {
    let mut sim = Sim::new(621);
    let contents = [Content::random(622, 200_000, 16_384), Content::random(623, 200_000, 16_384)];
    let [seed, leech] = [sim.node(), sim.node()];
    let torrents = [0, 1].map(|i| {
        sim.seed(seed, &contents[i]);
        let torrent = sim.add(leech, &contents[i]);
        sim.introduce(leech, torrent, seed);
        torrent
    });
    sim.run_for(Duration::from_millis(100));
    let address = sim.at(seed).address.ip();
    sim.command(leech, ban(Some(torrents[0]), address));
    let peers = |sim: &mut Sim| torrents.map(|torrent| sim.status(leech, torrent).num_peers);
    assert_eq!(peers(&mut sim), [0, 1]);
    sim.command(leech, ban(None, address));
    assert_eq!(peers(&mut sim), [0, 0]);
    // The first reason stays: it is banned twice, and was told so twice.
    sim.command(leech, ban(None, address));
    assert_eq!((bans(&mut sim, leech).len(), told(&sim, leech).len()), (2, 2));
    // A torrent that is added later keeps it out as well.
    let third = Content::random(624, 200_000, 16_384);
    sim.seed(seed, &third);
    let torrent = sim.add(leech, &third);
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(10));
    assert_eq!(sim.status(leech, torrent).num_peers, 0);
}

#[test]
fn plugins_ban_say_why_see_the_list_and_lift() {
    let mut sim = Sim::new(625);
    let [seed, leech] = [sim.node(), sim.node()];
    let address = sim.at(seed).address;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lists = seen.clone();
    let probe = Probe::new()
        .torrent("on_files_checked", move |cx| {
            cx.this().ban_for(address, "it looks at me");
            cx.session().ban("1.2.3.4".parse().unwrap(), &"y".repeat(1_000));
            cx.this().ban("[::ffff:9.9.9.9]:1".parse().unwrap());
            false
        })
        .torrent("tick", move |cx| {
            let shown =
                |ban: pilotfish_plugin::Ban| format!("{} {} {}", ban.address, ban.by, ban.reason.len());
            let both = [cx.this().bans(), cx.session().bans()];
            lists.lock().unwrap().push(both.map(|bans| bans.into_iter().map(shown).collect::<Vec<_>>()));
            cx.this().unban(address);
            cx.session().unban("1.2.3.4".parse().unwrap());
            false
        });
    probe.plug(&mut sim, leech);
    sim.seed(seed, &content());
    let torrent = sim.add(leech, &content());
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_millis(2_500));
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let own = format!("{} probe 14", address.ip());
    let all = vec!["9.9.9.9 probe 18".to_owned(), own];
    assert_eq!(seen[0], [all.clone(), vec!["1.2.3.4 probe 200".to_owned()]]);
    assert_eq!(seen[1], [all[..1].to_vec(), Vec::new()]);
    let none = PeerHandle::INVALID;
    let strangers = |alert: &AlertKind| matches!(alert, AlertKind::PeerBan { peer, .. } if *peer == none);
    assert_eq!(sim.alerts(leech).filter(|alert| strangers(alert)).count(), 3);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

#[test]
fn offers_of_who_is_banned_are_refused_with_the_reason_and_the_sources_so_far() {
    let mut sim = Sim::new(626);
    let leech = sim.node();
    let log = Probe::new().plug(&mut sim, leech);
    let torrent = sim.add(leech, &content());
    sim.run_for(Duration::from_secs(1));
    let offer = |sim: &mut Sim, address: &str, source| {
        let address = address.parse().unwrap();
        sim.command(leech, Command::ConnectPeer { torrent, address, source });
    };
    use pilotfish_plugin::PeerSource;
    sim.command(leech, ban(Some(torrent), "10.9.0.1".parse().unwrap()));
    sim.command(leech, ban(None, "10.9.0.2".parse().unwrap()));
    for (address, source) in [
        ("10.9.0.1:6881", PeerSource::TRACKER),
        ("10.9.0.2:6881", PeerSource::DHT),
        ("10.9.0.3:1", PeerSource::LSD),
        ("10.9.0.4:6881", PeerSource::TRACKER),
        ("10.9.0.4:6881", PeerSource::DHT),
        ("10.9.0.4:6881", PeerSource::RESUME_DATA),
    ] {
        offer(&mut sim, address, source);
    }
    let log = log.lock().unwrap();
    let offers: Vec<&str> = log.iter().filter_map(|line| line.strip_prefix("torrent.on_add_peer ")).collect();
    // Address, source, all sources, flags (2 new, 4 refused), reason (3 unusable, 4 banned).
    assert_eq!(
        offers,
        [
            "10.9.0.1:6881 tracker 1 4 4",
            "10.9.0.2:6881 dht 2 4 4",
            "10.9.0.3:1 lsd 8 4 3",
            "10.9.0.4:6881 tracker 1 2 0",
            "10.9.0.4:6881 dht 3 0 0",
            "10.9.0.4:6881 resume_data 19 0 0",
        ]
    );
}
