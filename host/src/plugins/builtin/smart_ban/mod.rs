//! Finds out who sent the blocks that spoilt a piece, and bans them (libtorrent's smart_ban).
//!
//! When a piece fails its hash check, some of those who sent its blocks have lied, and nobody knows who. So the hash of each
//! block is kept, with who sent it. Once the piece is there after all, and right, whoever sent another block than the right one
//! is known. Who sends two versions of the same block is known at once: one of them is wrong.
//!
//! Nobody is banned on suspicion: each ban has a block that was compared. libtorrent remembers the first suspect of each block
//! alone; here a later one does not hide behind an earlier one.

mod evidence;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pilotfish_plugin::{
    ErrorCode, PeerRequest, PieceIndex, PieceOrigin, SessionContext, Torrent, TorrentBox, TorrentContext,
    TorrentHandle, TorrentPlugin, Userdata, hooks,
};

use evidence::{Evidence, Finding};

/// Bytes of a block; the last one of a torrent is shorter.
const BLOCK: u32 = 16 * 1024;
/// So many pieces are investigated at a time.
const MOST_PIECES: usize = 256;

/// Makes the plugin for one torrent (libtorrent's `create_smart_ban_plugin`).
pub fn create_smart_ban_plugin(
    _: &mut SessionContext<'_>,
    _: TorrentHandle,
    _: Userdata,
) -> Option<TorrentBox> {
    Some(TorrentBox::new(SmartBan::default()))
}

/// On one torrent.
#[derive(Default)]
struct SmartBan {
    /// Of each piece that failed and has not passed since.
    pieces: BTreeMap<PieceIndex, Evidence>,
}

impl SmartBan {
    /// Does what the evidence of a piece calls for next, and forgets it when it has served.
    fn proceed(&mut self, torrent: &Torrent<'_>, piece: PieceIndex, findings: Vec<Finding>) {
        for Finding { culprit, start, lied_twice } in findings {
            let what = if lied_twice { "sent two versions of" } else { "sent a wrong version of" };
            torrent.ban_for(culprit, &format!("it {what} the block at {start} of piece {piece}"));
        }
        let Some(evidence) = self.pieces.get_mut(&piece) else { return };
        for start in evidence.compare() {
            if !block(torrent, piece, start).is_some_and(|block| torrent.hash_block(block)) {
                evidence.give_up(start);
            }
        }
        if evidence.is_closed() {
            self.pieces.remove(&piece);
        }
    }
}

#[hooks]
impl TorrentPlugin for SmartBan {
    fn on_piece_failed(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex) {
        if self.pieces.len() >= MOST_PIECES && !self.pieces.contains_key(&piece) {
            return;
        }
        let torrent = cx.this();
        let evidence = self.pieces.entry(piece).or_default();
        let mut known: BTreeMap<_, Option<SocketAddr>> = BTreeMap::new();
        for (number, peer) in (0..).zip(torrent.downloaders(piece)) {
            let address = |peer| *known.entry(peer).or_insert_with(|| torrent.downloader_address(peer));
            let Some(suspect) = peer.and_then(address) else { continue };
            let Some(block) = block(&torrent, piece, number * BLOCK) else { continue };
            if evidence.may_suspect(number * BLOCK) && torrent.hash_block(block) {
                evidence.suspect(number * BLOCK, suspect);
            }
        }
        if evidence.is_closed() {
            self.pieces.remove(&piece);
        }
    }

    fn on_piece_pass(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex, _: PieceOrigin) {
        if let Some(evidence) = self.pieces.get_mut(&piece) {
            evidence.passed();
            self.proceed(&cx.this(), piece, Vec::new());
        }
    }

    fn on_block_hash(&mut self, cx: &mut TorrentContext<'_>, block: PeerRequest, sha1: &[u8], _: ErrorCode) {
        let Some(evidence) = self.pieces.get_mut(&block.piece) else { return };
        // What cannot be read is no evidence.
        let hash = sha1.try_into().ok();
        let findings = evidence.hashed(block.start.unsigned_abs(), hash);
        self.proceed(&cx.this(), block.piece, findings);
    }
}

/// The block of a piece that begins there.
fn block(torrent: &Torrent<'_>, piece: PieceIndex, start: u32) -> Option<PeerRequest> {
    let length = torrent.piece_size(piece).checked_sub(start)?.min(BLOCK);
    Some(PeerRequest { piece, start: start.try_into().ok()?, length: length.try_into().ok()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
