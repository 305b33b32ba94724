//! Rate limits of the session, of torrents and of peers: they are kept, and shared fairly.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, TorrentLimit};
use pilotfish::settings::Settings;
use pilotfish_plugin::{PeerHandle, TorrentHandle};
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim, talkative};

const SECOND: Duration = Duration::from_secs(1);

fn big(seed: u64) -> Content {
    Content::random(seed, 20_000_000, 262_144)
}

/// Limits of everything that is received and sent, and of nothing else: headers of packets do not count, and nobody finds
/// anybody but whom it is told of.
fn limited(download: u32, upload: u32) -> Settings {
    Settings {
        download_rate_limit: download,
        upload_rate_limit: upload,
        rate_limit_ip_overhead: false,
        enable_dht: false,
        ..talkative()
    }
}

/// So many that have nothing yet, and their torrents.
fn leeches(sim: &mut Sim, count: usize, content: &Content) -> Vec<(NodeId, TorrentHandle)> {
    let nodes: Vec<NodeId> = (0..count).map(|_| sim.node()).collect();
    nodes.into_iter().map(|node| (node, sim.add(node, content))).collect()
}

/// What each of these downloads, in B/s, over so long.
fn rates(sim: &mut Sim, leeches: &[(NodeId, TorrentHandle)], time: Duration) -> Vec<u64> {
    let received = |sim: &mut Sim| -> Vec<u64> {
        leeches.iter().map(|(node, torrent)| sim.status(*node, *torrent).total_payload_download).collect()
    };
    let before = received(sim);
    sim.run_for(time);
    let after = received(sim);
    before
        .iter()
        .zip(after)
        .map(|(before, after)| (after - before) * 1_000 / time.as_millis() as u64)
        .collect()
}

#[track_caller]
fn within(percent: u64, rate: u64, wanted: u64) {
    assert!(
        rate.abs_diff(wanted) * 100 <= wanted * percent,
        "{rate} B/s, and {wanted} wanted within {percent} %"
    );
}

#[test]
fn a_download_limit_is_kept_and_used() {
    let mut sim = Sim::new(1);
    let content = big(1);
    let leech = sim.node_with(limited(200_000, 0));
    let torrent = sim.add(leech, &content);
    for _ in 0..3 {
        let seed = sim.node();
        sim.seed(seed, &content);
        sim.introduce(leech, torrent, seed);
    }
    sim.run_for(2 * SECOND);
    within(5, rates(&mut sim, &[(leech, torrent)], 10 * SECOND)[0], 200_000);
    let status = sim.status(leech, torrent);
    assert_eq!((status.total_redundant_bytes, status.num_peers), (0, 3));
}

#[test]
fn an_upload_limit_is_kept_used_and_shared_equally() {
    let mut sim = Sim::new(2);
    let content = big(2);
    let seed = sim.node_with(limited(0, 300_000));
    sim.seed(seed, &content);
    let leeches = leeches(&mut sim, 4, &content);
    leeches.iter().for_each(|(leech, torrent)| sim.introduce(*leech, *torrent, seed));
    sim.run_for(5 * SECOND);
    let rates = rates(&mut sim, &leeches, 10 * SECOND);
    within(5, rates.iter().sum(), 300_000);
    rates.iter().for_each(|rate| within(10, *rate, 75_000));
}

#[test]
fn one_that_needs_less_than_its_share_leaves_the_rest_to_the_others() {
    let mut sim = Sim::new(3);
    let content = big(3);
    let seed = sim.node_with(limited(0, 300_000));
    sim.seed(seed, &content);
    let slow = sim.node_with(limited(20_000, 0));
    let fast = [sim.node(), sim.node()];
    let leeches = [slow, fast[0], fast[1]].map(|leech| (leech, sim.add(leech, &content)));
    leeches.iter().for_each(|(leech, torrent)| sim.introduce(*leech, *torrent, seed));
    // The buffers on the way to the slow one are full then.
    sim.run_for(60 * SECOND);
    let rates = rates(&mut sim, &leeches, 20 * SECOND);
    within(10, rates[0], 20_000);
    within(10, rates[1], 140_000);
    within(10, rates[2], 140_000);
}

#[test]
fn headers_of_packets_count_unless_the_setting_says_otherwise() {
    let mut sim = Sim::new(4);
    let content = big(4);
    let seed = sim.node();
    sim.seed(seed, &content);
    let leech = sim.node_with(Settings { download_rate_limit: 500_000, ..talkative() });
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_for(2 * SECOND);
    let rate = rates(&mut sim, &[(leech, torrent)], 10 * SECOND)[0];
    assert!((440_000..490_000).contains(&rate), "{rate}");
}

#[test]
fn a_torrents_limit_is_kept_below_the_sessions() {
    let mut sim = Sim::new(5);
    let contents = [big(5), big(6)];
    let leech = sim.node_with(limited(300_000, 0));
    let mut torrents = Vec::new();
    for content in &contents {
        let seed = sim.node();
        sim.seed(seed, content);
        let torrent = sim.add(leech, content);
        torrents.push((leech, torrent));
        sim.introduce(leech, torrent, seed);
    }
    sim.command(leech, Command::SetTorrentLimit(torrents[0].1, TorrentLimit::Download(50_000)));
    sim.run_for(2 * SECOND);
    let rates = rates(&mut sim, &torrents, 10 * SECOND);
    within(5, rates[0], 50_000);
    within(5, rates[1], 250_000);
    assert_eq!(sim.status(leech, torrents[0].1).limits.download_limit, 50_000);
}

#[test]
fn a_torrents_limit_holds_although_the_session_has_none() {
    let mut sim = Sim::new(6);
    let content = big(7);
    let seed = sim.node_with(limited(0, 0));
    let torrent = sim.seed(seed, &content);
    let leeches = leeches(&mut sim, 2, &content);
    leeches.iter().for_each(|(leech, torrent)| sim.introduce(*leech, *torrent, seed));
    sim.command(seed, Command::SetTorrentLimit(torrent, TorrentLimit::Upload(100_000)));
    sim.run_for(3 * SECOND);
    let rates = rates(&mut sim, &leeches, 10 * SECOND);
    within(5, rates.iter().sum(), 100_000);
    within(10, rates[0], 50_000);
}

/// The connection to a node, as another sees it.
fn connection(sim: &Sim, from: NodeId, to: NodeId) -> PeerHandle {
    let address = sim.at(to).address;
    let mut connected = sim.alerts(from).filter_map(|alert| match alert {
        AlertKind::PeerConnect { peer, address: other, .. } if other.ip() == address.ip() => Some(*peer),
        _ => None,
    });
    connected.next().unwrap()
}

#[test]
fn a_peers_limit_holds_and_the_rest_goes_to_the_others() {
    let mut sim = Sim::new(7);
    let content = big(8);
    let seed = sim.node_with(limited(0, 200_000));
    sim.seed(seed, &content);
    let leeches = leeches(&mut sim, 2, &content);
    leeches.iter().for_each(|(leech, torrent)| sim.introduce(*leech, *torrent, seed));
    sim.run_for(SECOND);
    let peer = connection(&sim, seed, leeches[0].0);
    sim.command(seed, Command::SetPeerLimit { peer, upload: true, limit: 30_000 });
    sim.run_for(2 * SECOND);
    let rates = rates(&mut sim, &leeches, 10 * SECOND);
    within(7, rates[0], 30_000);
    within(7, rates[1], 170_000);
}

#[test]
fn a_limit_that_is_changed_holds_from_then_on() {
    let mut sim = Sim::new(8);
    sim.link.bandwidth = 2_000_000;
    let content = big(9);
    let seed = sim.node();
    sim.seed(seed, &content);
    let leech = sim.node_with(limited(0, 0));
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_for(SECOND);
    for limit in [100_000, 400_000, 30_000, 800_000] {
        let set = |ticket| Command::Set(ticket, "download_rate_limit".into(), limit.to_string());
        sim.ask(leech, set);
        sim.run_for(SECOND);
        within(5, rates(&mut sim, &[(leech, torrent)], 10 * SECOND)[0], limit);
    }
    sim.ask(leech, |ticket| Command::Set(ticket, "download_rate_limit".into(), "0".into()));
    sim.run_until_finished(30 * SECOND, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
}

#[test]
fn a_limit_far_below_one_block_per_second_loses_no_peer() {
    let mut sim = Sim::new(9);
    let content = Content::random(10, 100_000, 32_768);
    let leech = sim.node_with(limited(400, 0));
    let torrent = sim.add(leech, &content);
    for _ in 0..2 {
        let seed = sim.node();
        sim.seed(seed, &content);
        sim.introduce(leech, torrent, seed);
    }
    sim.run_until_finished(Duration::from_secs(400), &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
    let complaint =
        |alert: &&AlertKind| matches!(alert, AlertKind::PeerSnubbed { .. } | AlertKind::BlockTimeout { .. });
    assert_eq!(sim.alerts(leech).find(complaint).map(AlertKind::message), None);
}

#[test]
fn nothing_hangs_when_a_limited_torrent_is_paused_resumed_and_shut_down() {
    let mut sim = Sim::new(10);
    let content = Content::random(11, 2_000_000, 65_536);
    let seed = sim.node_with(limited(0, 150_000));
    sim.seed(seed, &content);
    let leech = sim.node_with(Settings {
        min_reconnect_time: pilotfish::settings::Seconds(1),
        ..limited(100_000, 1_000)
    });
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    for _ in 0..3 {
        sim.run_for(2 * SECOND);
        sim.command(leech, Command::PauseTorrent(torrent));
        sim.run_for(SECOND);
        sim.command(leech, Command::ResumeTorrent(torrent));
    }
    sim.run_for(2 * SECOND);
    sim.command(leech, Command::PauseTorrentGracefully(torrent));
    sim.run_until(60 * SECOND, |sim| sim.status(leech, torrent).num_peers == 0);
    sim.command(leech, Command::ResumeTorrent(torrent));
    sim.run_until_finished(Duration::from_secs(60), &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
    [seed, leech].into_iter().for_each(|node| sim.command(node, Command::Shutdown));
    sim.run_until(10 * SECOND, |sim| sim.at(seed).stopped && sim.at(leech).stopped);
}

#[test]
fn a_session_that_is_shut_down_while_everybody_waits_stops() {
    let mut sim = Sim::new(11);
    let content = big(12);
    let seed = sim.node_with(limited(0, 1_000));
    sim.seed(seed, &content);
    let leech = sim.node_with(limited(1_000, 1_000));
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_for(5 * SECOND);
    [seed, leech].into_iter().for_each(|node| sim.command(node, Command::Shutdown));
    sim.run_until(10 * SECOND, |sim| sim.at(seed).stopped && sim.at(leech).stopped);
    assert_eq!([seed, leech].map(|node| sim.at(node).engine.blocks_in_use()), [0, 0]);
}

#[test]
fn many_idle_connections_do_not_save_up_a_burst() {
    let mut sim = Sim::new(12);
    let content = big(13);
    let leech = sim.node_with(limited(50_000, 0));
    let torrent = sim.add(leech, &content);
    let mut choked = limited(0, 0);
    choked.unchoke_slots_limit = 0;
    choked.allowed_fast_set_size = 0;
    let seeds: Vec<NodeId> = (0..40).map(|_| sim.node_with(choked.clone())).collect();
    for seed in &seeds {
        sim.seed(*seed, &content);
        sim.introduce(leech, torrent, *seed);
    }
    sim.run_for(60 * SECOND);
    // Now all of them send at once.
    for seed in &seeds {
        sim.ask(*seed, |ticket| Command::Set(ticket, "unchoke_slots_limit".into(), "8".into()));
    }
    sim.run_for(2 * SECOND);
    for seconds in [2, 30, 30] {
        let received = sim.status(leech, torrent).total_payload_download;
        // 2 KiB of each is what they may have saved.
        assert!(received < 50_000 * (sim.now().as_secs() - 59) + 40 * 2_048, "{received}");
        sim.run_for(seconds * SECOND);
    }
    assert!(sim.status(leech, torrent).total_payload_download > 50_000 * 50);
}

#[test]
fn a_plugin_limits_its_torrent_and_its_peer() {
    let mut sim = Sim::new(13);
    let content = big(14);
    let [seed, leech] = [sim.node_with(limited(0, 0)), sim.node_with(limited(0, 0))];
    Probe::new()
        .torrent("on_files_checked", |cx| {
            let this = cx.this();
            assert_eq!((this.upload_limit(), this.download_limit()), (0, 0));
            this.set_upload_limit(150_000);
            this.set_download_limit(9);
            assert_eq!((this.upload_limit(), this.download_limit()), (150_000, 9));
            this.set_download_limit(0);
            assert_eq!(this.download_limit(), 0);
            true
        })
        .plug(&mut sim, seed);
    Probe::new()
        .peer("on_handshake", |cx| {
            cx.this().set_download_limit(60_000);
            cx.this().set_upload_limit(70_000);
            let info = cx.this().peer_info();
            assert_eq!((info.download_limit(), info.upload_limit()), (60_000, 70_000));
            false
        })
        .plug(&mut sim, leech);
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    let other = sim.node_with(limited(0, 0));
    let second = sim.add(other, &content);
    sim.introduce(leech, torrent, seed);
    sim.introduce(other, second, seed);
    sim.run_for(20 * SECOND);
    let rates = rates(&mut sim, &[(leech, torrent), (other, second)], 10 * SECOND);
    within(5, rates[0], 60_000);
    within(8, rates[1], 90_000);
}
