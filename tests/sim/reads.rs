//! Blocks that a torrent's plugin has read from disk.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::metainfo::PieceDigest;
use pilotfish_plugin::{
    ErrorCode, PeerRequest, PieceIndex, TorrentBox, TorrentContext, TorrentPlugin, hooks,
};
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim};

const LIMIT: Duration = Duration::from_secs(300);
const BLOCK: i32 = 16_384;

/// What was asked for and not refused, and what came.
#[derive(Default)]
struct Seen {
    asked: Vec<PeerRequest>,
    read: Vec<(PeerRequest, Vec<u8>, ErrorCode)>,
}

/// Reads blocks when the files are checked, and every block of a piece that fails.
#[derive(Clone)]
struct Reads {
    first: Vec<PeerRequest>,
    seen: Arc<Mutex<Seen>>,
}

impl Reads {
    fn read(&self, cx: &TorrentContext<'_>, blocks: impl IntoIterator<Item = PeerRequest>) {
        for block in blocks {
            if cx.this().read_block(block) {
                self.seen.lock().unwrap().asked.push(block);
            }
        }
    }
}

#[hooks]
impl TorrentPlugin for Reads {
    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        self.read(cx, self.first.clone());
    }

    fn on_piece_failed(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex) {
        let blocks = cx.this().piece_size(piece).cast_signed() / BLOCK;
        self.read(cx, (0..blocks).map(|number| PeerRequest { piece, start: number * BLOCK, length: BLOCK }));
    }

    fn on_block_read(
        &mut self,
        _: &mut TorrentContext<'_>,
        block: PeerRequest,
        data: &[u8],
        error: ErrorCode,
    ) {
        self.seen.lock().unwrap().read.push((block, data.to_vec(), error));
    }
}

fn reads(sim: &mut Sim, node: NodeId, first: &[(i32, i32, i32)]) -> Arc<Mutex<Seen>> {
    let request = |&(piece, start, length)| PeerRequest { piece: PieceIndex(piece), start, length };
    let plugin = Reads { first: first.iter().map(request).collect(), seen: Arc::default() };
    let seen = plugin.seen.clone();
    sim.plug_on_torrents(node, "reads", move || TorrentBox::new(plugin.clone()));
    seen
}

#[test]
fn a_plugin_reads_what_is_on_disk_and_another_does_not_hear_of_it() {
    let mut sim = Sim::new(400);
    let content = Content::random(400, 100_000, 65_536);
    let seed = sim.node();
    let log = Probe::new().plug(&mut sim, seed);
    let seen = reads(&mut sim, seed, &[(0, 16_384, 16_384), (1, 30_000, 4_464), (1, 0, 1)]);
    sim.seed(seed, &content);
    sim.run_until(LIMIT, |_| seen.lock().unwrap().read.len() == 3);
    for (block, data, error) in &seen.lock().unwrap().read {
        let from = block.piece.0 as usize * 65_536 + block.start as usize;
        assert_eq!(*error, ErrorCode::NO_ERROR);
        assert!(*data == content.bytes()[from..from + block.length as usize], "{block:?}");
    }
    assert!(!log.lock().unwrap().iter().any(|line| line.contains("on_block_read")));
}

#[test]
fn what_no_torrent_has_is_not_asked_for() {
    let mut sim = Sim::new(401);
    let content = Content::random(401, 100_000, 65_536);
    let seed = sim.node();
    let nonsense = [
        (2, 0, 1),
        (-1, 0, 1),
        (0, -1, 1),
        (0, 0, -1),
        (0, 65_535, 2),
        (1, 34_464, 1),
        (0, 0, 16_385),
        (0, 0, 0),
    ];
    let seen = reads(&mut sim, seed, &nonsense);
    sim.seed(seed, &content);
    sim.run_for(Duration::from_secs(2));
    assert_eq!(seen.lock().unwrap().asked, []);
}

#[test]
fn what_cannot_be_read_is_told_and_the_torrent_goes_on() {
    let mut sim = Sim::new(402);
    let content = Content::random(402, 100_000, 65_536);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content);
    let seen = reads(&mut sim, leech, &[(1, 0, 100)]);
    sim.disk(leech).failing_reads = 1;
    let torrent = sim.add(leech, &content);
    sim.run_for(Duration::from_secs(1));
    {
        let seen = seen.lock().unwrap();
        assert!(seen.read[0].1.is_empty() && seen.read[0].2.is_error());
    }
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

/// As a plugin would that looks for the liar among several peers.
#[test]
fn a_failed_piece_is_read_as_it_failed_although_it_is_fetched_anew() {
    let mut sim = Sim::new(403);
    let content = Content::random(403, 65_536, 65_536);
    let [liar, seed, leech] = [sim.node(), sim.node(), sim.node()];
    let lying = sim.seed(liar, &content);
    sim.run_until_finished(LIMIT, &[(liar, lying)]);
    sim.disk(liar).lies.insert(0);
    sim.seed(seed, &content);
    let seen = reads(&mut sim, leech, &[]);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, liar);
    sim.run_until(LIMIT, |sim| sim.alerts(leech).any(|alert| matches!(alert, AlertKind::PeerBan { .. })));
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.asked.len(), seen.read.len()), (4, 4));
    for (block, data, error) in &seen.read {
        assert_eq!(*error, ErrorCode::NO_ERROR);
        let right = &content.bytes()[block.start as usize..][..block.length as usize];
        let wrong = data.iter().zip(right).filter(|(read, right)| read != right).count();
        assert_eq!((data.len(), wrong), (right.len(), 1), "{block:?}");
    }
}

#[test]
fn so_many_reads_may_be_outstanding_and_no_more() {
    let mut sim = Sim::new(404);
    let content = Content::random(404, 100_000, 65_536);
    let seed = sim.node();
    let seen = reads(&mut sim, seed, &[(0, 0, 1); 2_000]);
    let torrent = sim.seed(seed, &content);
    sim.run_until(LIMIT, |_| !seen.lock().unwrap().read.is_empty());
    assert_eq!(seen.lock().unwrap().asked.len(), 1_024);
    sim.command(seed, pilotfish::command::Command::RemoveTorrent { torrent, delete_files: false });
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.at(seed).engine.blocks_in_use(), 0);
}

/// A block, its hash, and why it has none.
type Hashed = (PeerRequest, Vec<u8>, ErrorCode);

/// Has blocks hashed when the files are checked, and writes down what it hears.
#[derive(Clone, Default)]
struct Hashes {
    blocks: Vec<PeerRequest>,
    asked: Arc<Mutex<Vec<bool>>>,
    heard: Arc<Mutex<Vec<Hashed>>>,
}

#[hooks]
impl TorrentPlugin for Hashes {
    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        let asked = self.blocks.iter().map(|block| cx.this().hash_block(*block));
        *self.asked.lock().unwrap() = asked.collect();
    }

    fn on_block_hash(
        &mut self,
        _: &mut TorrentContext<'_>,
        block: PeerRequest,
        sha1: &[u8],
        error: ErrorCode,
    ) {
        self.heard.lock().unwrap().push((block, sha1.to_vec(), error));
    }
}

#[test]
fn a_block_is_hashed_where_it_is_read_and_the_plugin_that_asked_hears_of_it() {
    let mut sim = Sim::new(406);
    // Of such small pieces, the hash of the block is that of the piece.
    let content = Content::random(406, 50_000, 16_384);
    let seed = sim.node();
    let log = Probe::new().plug(&mut sim, seed);
    let block = |piece, length| PeerRequest { piece: PieceIndex(piece), start: 0, length };
    let blocks =
        vec![block(0, BLOCK), block(3, 50_000 % BLOCK), block(4, 1), block(-1, 1), block(0, BLOCK + 1)];
    let plugin = Hashes { blocks: blocks.clone(), ..Hashes::default() };
    let (asked, heard) = (plugin.asked.clone(), plugin.heard.clone());
    sim.plug_on_torrents(seed, "hashes", move || TorrentBox::new(plugin.clone()));
    sim.seed(seed, &content);
    sim.run_until(LIMIT, |_| heard.lock().unwrap().len() == 2);
    assert_eq!(*asked.lock().unwrap(), [true, true, false, false, false]);
    for (block, sha1, error) in heard.lock().unwrap().iter() {
        let digest = PieceDigest::Sha1(sha1.as_slice().try_into().unwrap());
        let piece = content.layout().geometry().piece(block.piece.0.cast_unsigned()).unwrap();
        assert!(content.metainfo.hashes().matches(piece, &digest) && *error == ErrorCode::NO_ERROR);
    }
    assert!(!log.lock().unwrap().iter().any(|line| line.contains("on_block_hash")));
}

#[test]
fn a_block_that_cannot_be_read_has_no_hash_but_a_reason() {
    let mut sim = Sim::new(407);
    let content = Content::random(407, 50_000, 16_384);
    let seed = sim.node();
    let block = PeerRequest { piece: PieceIndex(1), start: 0, length: BLOCK };
    let plugin = Hashes { blocks: vec![block], ..Hashes::default() };
    let heard = plugin.heard.clone();
    sim.plug_on_torrents(seed, "hashes", move || TorrentBox::new(plugin.clone()));
    sim.disk(seed).failing_reads = 1;
    sim.seed(seed, &content);
    sim.run_until(LIMIT, |_| !heard.lock().unwrap().is_empty());
    let (of, sha1, error) = heard.lock().unwrap()[0].clone();
    assert!(of == block && sha1.is_empty() && error.is_error());
}
