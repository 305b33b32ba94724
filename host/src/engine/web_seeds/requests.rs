//! What is asked of web seeds: runs of neighbouring blocks, which become as few requests as there can be.

use pilotfish_plugin::rt::HookStatus;
use pilotfish_plugin::{PeerHandle, PeerHooks};

use crate::engine::Engine;
use crate::engine::state::State;
use crate::engine::step::Step;
use crate::metainfo::{BlockSpan, Geometry, PieceIndex};
use crate::peer::as_request;
use crate::torrent::PickOptions;

impl Engine {
    /// Neighbouring blocks of a piece were picked for a web seed: `write_request` decides what becomes of them.
    pub(in crate::engine) fn request_run(&mut self, peer: PeerHandle, run: BlockSpan) {
        let Some((connection, torrent)) = self.state.pair(peer) else { return };
        let geometry = torrent.geometry();
        // Some may be void by now.
        let blocks = blocks_of(geometry, run).filter(|block| connection.requests.contains(*block)).collect();
        for run in runs(blocks) {
            self.write_run(peer, run);
        }
    }

    fn write_run(&mut self, peer: PeerHandle, run: BlockSpan) {
        let now = self.state.now;
        if self.open_peer(peer).is_none() {
            return;
        }
        let (subject, request) = (self.subject(peer), as_request(run));
        let stops = |status| status == HookStatus::HANDLED || status == HookStatus::DROPPED;
        let answer = match self.chains.peers.get_mut(peer) {
            Some(chain) => chain.first(&mut self.state, subject, PeerHooks::write_request, stops, |p, cx| {
                p.write_request(cx, request)
            }),
            None => HookStatus::CONTINUE,
        };
        let Some((connection, torrent)) = self.state.pair(peer).filter(|(c, _)| !c.is_closing()) else {
            return;
        };
        let geometry = torrent.geometry();
        let Some(web) = &mut connection.web else { return };
        match answer {
            HookStatus::HANDLED => {}
            HookStatus::DROPPED => {
                for block in blocks_of(geometry, run) {
                    connection.requests.rejected(block, now);
                    torrent.picker.abort(peer, block);
                }
            }
            _ => {
                connection.last_request = Some(now);
                let mut known = torrent.web_seeds.get_mut(web.seed());
                let mut begun = known.as_mut().and_then(|known| known.partial.take());
                for block in blocks_of(geometry, run) {
                    match begun.take_if(|begun| begun.span == block && !web.is_waiting()) {
                        Some(begun) => web.ask_rest(begun),
                        None => web.ask(block),
                    }
                }
                if let Some(known) = known {
                    known.partial = begun;
                }
                self.state.transmit(peer);
            }
        }
    }
}

impl State {
    /// Picks as much as it is sensible to ask a web seed for now, and writes the requests down.
    pub(in crate::engine) fn request_runs(&mut self, peer: PeerHandle) {
        let Some((connection, torrent, _)) = self.triple(peer) else { return };
        let idle = !connection.is_established()
            || !connection.interesting
            || connection.peer_choked
            || connection.requests.is_paused()
            || !torrent.is_downloading()
            || torrent.disk_congested;
        let Some(web) = connection.web.as_ref().filter(|_| !idle) else { return };
        let room = web.room(connection.payload_down.rate());
        // What was asked of others is on its way: copies are asked for one at a time, of who has nothing else to do.
        let room = match torrent.picker.all_requested() {
            true if connection.requests.is_empty() => room.min(1),
            true => 0,
            false => room,
        };
        let mut picked = Vec::new();
        while picked.len() < room {
            let before = picked.len();
            self.pick_run(peer, room - before, &mut picked);
            if picked.len() == before {
                break;
            }
        }
        self.write_down(peer, picked);
    }

    /// Picks the best block, and then those that follow it, as far as they can be had.
    fn pick_run(&mut self, peer: PeerHandle, room: usize, picked: &mut Vec<BlockSpan>) {
        let Some((connection, torrent, rng)) = self.triple(peer) else { return };
        let known = connection.web.as_ref().and_then(|web| torrent.web_seeds.get(web.seed()));
        let parole = known.is_some_and(|known| known.parole);
        let options = PickOptions {
            suggested: &connection.suggested,
            only: None,
            parole,
            contiguous: true,
            endgame: !parole && torrent.picker.all_requested(),
        };
        let before = picked.len();
        torrent.picker.pick(peer, &connection.has, 1, &options, rng, picked);
        if picked.len() == before && parole && torrent.picker.stands_still() {
            let options = PickOptions { parole: false, ..options };
            torrent.picker.pick(peer, &connection.has, 1, &options, rng, picked);
        }
        let Some(first) = picked.get(before).filter(|_| room > 1 && !options.endgame) else { return };
        let geometry = torrent.geometry();
        let last = geometry.blocks_in(first.piece).max(1);
        let pieces = u32::try_from(room).unwrap_or(u32::MAX) / last + 1;
        let number = first.piece.get();
        let follow = (number..number.saturating_add(pieces)).map_while(|piece| geometry.piece(piece));
        let follow: Vec<PieceIndex> = follow.collect();
        let options = PickOptions { suggested: &[], only: Some(&follow), ..options };
        torrent.picker.pick(peer, &connection.has, room - 1, &options, rng, picked);
        picked[before..].sort_unstable_by_key(|span| (span.piece, span.start));
    }

    /// All of a file comes, although a part of it was asked for: what is missing of these bytes is taken from it as well.
    pub(super) fn request_passing(&mut self, peer: PeerHandle, file: usize, from: u64, to: u64) {
        let Some((connection, torrent, rng)) = self.triple(peer) else { return };
        let geometry = torrent.geometry();
        let Some(start) = torrent.layout.files().get(file).map(|file| file.offset) else { return };
        let inside = |piece: &PieceIndex| {
            let offset = geometry.offset(*piece);
            offset >= start + from && offset + u64::from(geometry.piece_size(*piece)) <= start + to
        };
        let pieces = crate::torrent::pieces_of(&torrent.layout, start + from, to - from).filter(inside);
        let pieces: Vec<PieceIndex> = pieces.collect();
        let idle = !connection.interesting || !torrent.is_downloading() || torrent.disk_congested;
        if pieces.is_empty() || idle {
            return;
        }
        let options = PickOptions { only: Some(&pieces), contiguous: true, ..PickOptions::default() };
        let mut picked = Vec::new();
        torrent.picker.pick(peer, &connection.has, usize::MAX, &options, rng, &mut picked);
        picked.sort_unstable_by_key(|span| (span.piece, span.start));
        self.write_down(peer, picked);
    }

    fn write_down(&mut self, peer: PeerHandle, picked: Vec<BlockSpan>) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer) else { return };
        for block in &picked {
            connection.requests.sent(*block, now);
        }
        self.steps.extend(runs(picked).into_iter().map(|run| Step::RequestRun(peer, run)));
    }

    /// Writes the requests that a web seed may be sent now, just before they are sent.
    pub(in crate::engine) fn write_web_requests(&mut self, peer: PeerHandle) {
        let agent = (!self.settings.anonymous_mode).then(|| self.settings.user_agent.clone());
        if let Some(connection) = self.peer_mut(peer).filter(|connection| connection.is_established())
            && let Some(web) = &mut connection.web
        {
            web.write_requests(agent.as_deref().filter(|agent| !agent.is_empty()), &mut connection.outbox);
        }
    }
}

/// The blocks that a run is made of.
fn blocks_of(geometry: Geometry, run: BlockSpan) -> impl Iterator<Item = BlockSpan> {
    let end = run.start + run.len;
    let blocks = geometry.blocks(run.piece).skip_while(move |block| block.start < run.start);
    blocks.take_while(move |block| block.start < end)
}

/// Puts neighbouring blocks of a piece together.
fn runs(blocks: Vec<BlockSpan>) -> Vec<BlockSpan> {
    let mut runs: Vec<BlockSpan> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some(run) if run.piece == block.piece && run.start + run.len == block.start => {
                run.len += block.len
            }
            _ => runs.push(block),
        }
    }
    runs
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_a_piece_are_one_run() {
        let geometry = Geometry::new(200_000, 65_536).unwrap();
        let block = |piece, index| geometry.block(geometry.piece(piece).unwrap(), index).unwrap();
        let blocks = vec![block(0, 2), block(0, 3), block(1, 0), block(1, 2), block(3, 0)];
        let runs = runs(blocks.clone());
        let shown: Vec<_> = runs.iter().map(|run| (run.piece.get(), run.start, run.len)).collect();
        assert_eq!(shown, [(0, 32_768, 32_768), (1, 0, 16_384), (1, 32_768, 16_384), (3, 0, 3_392)]);
        let again: Vec<_> = runs.into_iter().flat_map(|run| blocks_of(geometry, run)).collect();
        assert_eq!(again, blocks);
    }
}
