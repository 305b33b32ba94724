//! Disks that are late, full, broken or stuck.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::Command;
use pilotfish::settings::Settings;
use pilotfish_plugin::TorrentHandle;
use pilotfish_tests::sim::{Content, Link, NodeId, Sim, talkative};

const LIMIT: Duration = Duration::from_secs(120);
/// Blocks that may come with one read of a socket, before anybody can stop reading, in bytes.
const ONE_READ: usize = 9 << 14;

fn pair(sim: &mut Sim, content: &Content, settings: Settings) -> (NodeId, NodeId, TorrentHandle) {
    let [seed, leech] = [sim.node(), sim.node_with(settings)];
    sim.seed(seed, content);
    let torrent = sim.add(leech, content);
    sim.introduce(leech, torrent, seed);
    (seed, leech, torrent)
}

#[test]
fn a_disk_that_answers_late_and_out_of_order_changes_nothing_but_the_time() {
    let mut sim = Sim::new(10);
    let content = Content::random(10, 3_000_000, 131_072);
    let (seed, leech, torrent) = pair(&mut sim, &content, talkative());
    for node in [seed, leech] {
        sim.disk(node).latency = Duration::ZERO..=Duration::from_millis(700);
    }
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
    assert_eq!(sim.status(leech, torrent).total_redundant_bytes, 0);
}

#[test]
fn a_write_that_fails_stops_the_torrent_and_a_resume_gets_every_block() {
    let mut sim = Sim::new(11);
    let content = Content::random(11, 3_000_000, 131_072);
    let (_, leech, torrent) = pair(&mut sim, &content, talkative());
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > 2);
    sim.disk(leech).failing_writes = 3;
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).error.is_some());
    sim.run_for(Duration::from_secs(3));
    let status = sim.status(leech, torrent);
    assert!(status.paused && status.num_peers == 0, "{status:?}");
    assert_eq!(status.error.as_deref(), Some("cannot write sim: the disk is full"));
    assert_eq!(sim.alerts(leech).filter(|alert| matches!(alert, AlertKind::FileError { .. })).count(), 1);

    sim.disk(leech).failing_writes = 0;
    sim.command(leech, Command::ResumeTorrent(torrent));
    assert_eq!(sim.status(leech, torrent).error, None);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
}

#[test]
fn what_was_written_of_a_piece_before_a_write_failed_does_not_count() {
    let mut sim = Sim::new(16);
    let content = Content::random(16, 1 << 20, 1 << 20);
    let (seed, leech, torrent) = pair(&mut sim, &content, talkative());
    sim.disk(seed).lies.insert(0);
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).total_payload_download > 200_000);
    sim.disk(leech).failing_writes = 1;
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).error.is_some());
    sim.run_for(Duration::from_secs(3));

    // From now on everybody is honest: nobody is to pay for what came before.
    sim.disk(seed).lies.clear();
    sim.command(leech, Command::ResumeTorrent(torrent));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    assert_eq!(sim.disk(leech).bytes(".", &content), content.bytes());
    assert!(!sim.alerts(leech).any(|alert| matches!(alert, AlertKind::HashFailed { .. })));
}

#[test]
fn a_recheck_in_the_middle_of_a_piece_leaves_no_block_behind() {
    let mut sim = Sim::new(15);
    let content = Content::random(15, 3_000_000, 1 << 20);
    let (_, leech, torrent) = pair(&mut sim, &content, talkative());
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).total_payload_download > 200_000);
    assert_eq!(sim.status(leech, torrent).num_pieces, 0);
    sim.command(leech, Command::Recheck(torrent));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    assert_eq!(sim.disk(leech).bytes(".", &content), content.bytes());
}

#[test]
fn a_read_that_fails_stops_the_seed() {
    let mut sim = Sim::new(12);
    let content = Content::random(12, 1_000_000, 131_072);
    let (seed, leech, torrent) = pair(&mut sim, &content, talkative());
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > 1);
    sim.disk(seed).failing_reads = 1;
    sim.run_for(Duration::from_secs(2));
    assert!(sim.alerts(seed).any(|alert| matches!(alert, AlertKind::FileError { .. })));
    assert!(!sim.is_finished(leech, torrent));
}

#[test]
fn a_disk_that_stands_still_for_two_seconds_does_not_fill_the_memory() {
    let mut sim = Sim::new(13);
    sim.link = Link { bandwidth: 20_000_000, window: 64 << 20, chunk: 1..=128_000, ..Link::default() };
    let content = Content::numbered(256 << 20, 256 << 10);
    let settings = Settings { max_queued_disk_bytes: 2 << 20, ..talkative() };
    let [seed, leech] = [sim.node(), sim.node_with(settings)];
    let torrent = sim.add(leech, &content);
    sim.disk(leech).expect_numbered(".", &content);
    sim.seed(seed, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(2));
    sim.stall(leech, Duration::from_secs(2));
    let before = sim.status(leech, torrent);
    let mut most = 0;
    for _ in 0..200 {
        sim.run_for(Duration::from_millis(10));
        most = most.max(sim.at(leech).engine.blocks_in_use());
    }
    assert!(most << 14 > 2 << 20, "only {most} blocks: the disk was never behind");
    // Twice what may be queued, and what one read brings.
    assert!(most << 14 <= (4 << 20) + ONE_READ, "{most} blocks");
    sim.run_for(Duration::from_secs(1));
    let after = sim.status(leech, torrent);
    assert!(after.num_pieces > before.num_pieces + 50, "{before:?} {after:?}");
    assert_eq!(after.num_peers, 1);
}

#[test]
fn torrents_share_the_memory_that_waits_for_the_disk() {
    let mut sim = Sim::new(14);
    sim.link = Link { bandwidth: 20_000_000, window: 64 << 20, chunk: 1..=128_000, ..Link::default() };
    let settings = Settings { max_queued_disk_bytes: 2 << 20, ..talkative() };
    let leech = sim.node_with(settings);
    let torrents: Vec<_> = (0..4)
        .map(|number| {
            let content = Content::random(140 + number, 12 << 20, 256 << 10);
            let seed = sim.node();
            sim.seed(seed, &content);
            let torrent = sim.add(leech, &content);
            sim.introduce(leech, torrent, seed);
            (leech, torrent)
        })
        .collect();
    sim.run_until(LIMIT, |sim| sim.status(leech, torrents[0].1).num_pieces > 0);
    sim.stall(leech, Duration::from_secs(2));
    let mut most = 0;
    for _ in 0..100 {
        sim.run_for(Duration::from_millis(10));
        most = most.max(sim.at(leech).engine.blocks_in_use());
    }
    assert!(most << 14 > 2 << 20, "only {most} blocks: the disk was never behind");
    // Twice what may be queued, and what one read of each connection brings.
    assert!(most << 14 <= (4 << 20) + 4 * ONE_READ, "{most} blocks");
    sim.run_until_finished(LIMIT, &torrents);
}

/// A seed of more than any peer has for as long as these tests last, which has `watermark` bytes ready for `peers` peers.
fn upload(sim: &mut Sim, watermark: u32, peers: usize) -> (NodeId, Content) {
    let content = Content::numbered(512 << 20, 1 << 20);
    let seed = sim.node_with(Settings {
        unchoke_slots_limit: peers as u32,
        send_buffer_watermark: watermark,
        ..talkative()
    });
    sim.seed(seed, &content);
    (seed, content)
}

/// One more peer that downloads from a seed. What it is offered it takes at once, so that more is offered, until more than
/// `window` bytes are on their way.
fn leech(sim: &mut Sim, (seed, content): &(NodeId, Content), bandwidth: u64, window: usize) -> NodeId {
    sim.link = Link { bandwidth, window, chunk: 1..=1_000_000, ..Link::default() };
    let leech = sim.node();
    let torrent = sim.add(leech, content);
    sim.disk(leech).expect_numbered(".", content);
    sim.introduce(leech, torrent, *seed);
    leech
}

/// The most bytes of blocks that a seed holds within a second.
fn most_held(sim: &mut Sim, seed: NodeId) -> usize {
    let held = (0..100).map(|_| {
        sim.run_for(Duration::from_millis(10));
        sim.at(seed).engine.blocks_in_use() << 14
    });
    held.max().unwrap_or(0)
}

#[test]
fn many_peers_share_the_memory_for_what_stands_ready_to_be_sent() {
    const WATERMARK: usize = 4 << 20;
    const PEERS: usize = 16;
    let mut sim = Sim::new(15);
    let upload = upload(&mut sim, WATERMARK as u32, PEERS);
    for _ in 0..PEERS {
        leech(&mut sim, &upload, 50_000_000, 1 << 20);
    }
    let most = most_held(&mut sim, upload.0);
    assert!(most > WATERMARK / 2, "only {most} bytes: nobody was offered much");
    // And one block beyond for each.
    assert!(most <= WATERMARK + (PEERS << 14), "{most} bytes");
}

#[test]
fn who_stops_to_take_what_stands_ready_still_has_its_share_of_it() {
    const WATERMARK: usize = 1 << 20;
    const PEERS: usize = 16;
    let mut sim = Sim::new(17);
    let upload = upload(&mut sim, WATERMARK as u32, PEERS);
    let mut silent = Vec::new();
    for _ in 0..PEERS {
        silent.push(leech(&mut sim, &upload, 100_000_000, 1 << 20));
        sim.run_for(Duration::from_millis(700));
        sim.partition(|node| u32::from(silent.contains(&node)));
    }
    sim.run_for(Duration::from_secs(5));
    let held = sim.at(upload.0).engine.blocks_in_use() << 14;
    // One watermark for the first, half of it for the second, a third of it for the third, and so on.
    let most: usize = (1..=PEERS).map(|number| WATERMARK / number + (1 << 14)).sum();
    assert!((WATERMARK..=most).contains(&held), "{held} bytes, of at most {most}");
}

#[test]
fn who_takes_little_leaves_its_share_of_what_stands_ready_to_others() {
    const WATERMARK: usize = 1 << 20;
    const SLOW: usize = 15;
    let mut sim = Sim::new(16);
    let upload = upload(&mut sim, WATERMARK as u32, SLOW + 1);
    for number in 0..=SLOW {
        let bandwidth = if number < SLOW { 20_000 } else { 500_000_000 };
        leech(&mut sim, &upload, bandwidth, 4 << 20);
        sim.run_for(Duration::from_millis(100));
    }
    let most = most_held(&mut sim, upload.0);
    assert!(most > WATERMARK / 2, "only {most} bytes");
}
