//! Figures, for the embedding program and for plugins; settings, read and changed.

use std::sync::Arc;

use pilotfish_plugin::{PeerHandle, PeerInfo, TorrentHandle};

use super::state::State;
use crate::command::TorrentStatus;
use crate::peer::mse::Method;
use crate::peer::{Direction, Transport};
use crate::settings::{SettingError, Settings};
use crate::torrent::CandidateLimits;
use crate::wire::EntryTree;

/// Settings that are looked at once, when the session starts.
const FIXED: [&str; 5] =
    ["listen_interfaces", "aio_threads", "alert_queue_size", "peer_fingerprint", "anonymous_mode"];

impl State {
    /// A torrent's figures at this moment.
    pub(super) fn torrent_status(&self, torrent: TorrentHandle) -> Option<TorrentStatus> {
        let t = self.torrent(torrent)?;
        let connections: Vec<_> = t.peers.iter().filter_map(|peer| self.peer(*peer)).collect();
        let (total_wanted, total_wanted_done) = t.wanted();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(TorrentStatus {
            name: t.name().to_owned(),
            info_hashes: *t.description.info_hashes(),
            state: t.state,
            paused: t.paused || t.held_by_session,
            error: t.error.as_deref().map(str::to_owned),
            total: t.geometry().total(),
            total_done: t.bytes_done(),
            total_wanted,
            total_wanted_done,
            pieces_checked: t.pieces_checked,
            num_pieces: t.picker.num_have(),
            total_pieces: t.geometry().num_pieces(),
            total_payload_download: t.payload_down.total(),
            total_payload_upload: t.payload_up.total(),
            download_payload_rate: t.payload_down.rate(),
            upload_payload_rate: t.payload_up.rate(),
            limits: t.limits(),
            total_failed_bytes: t.failed_bytes,
            total_redundant_bytes: t.redundant_bytes,
            all_time_download: t.record.downloaded_before + t.payload_down.total(),
            all_time_upload: t.record.uploaded_before + t.payload_up.total(),
            added_time: t.record.added_time,
            completed_time: t.record.completed_time,
            num_peers: count(connections.iter().filter(|c| c.is_established()).count()),
            num_seeds: count(connections.iter().filter(|c| c.is_seed()).count()),
        })
    }

    /// The same for plugins, bencoded, by libtorrent's names.
    pub(super) fn torrent_status_bencoded(&self, torrent: TorrentHandle) -> Option<Vec<u8>> {
        let status = self.torrent_status(torrent)?;
        let ppm =
            (u128::from(status.total_done) * 1_000_000).checked_div(status.total.into()).unwrap_or(1_000_000);
        let mut tree = EntryTree::new();
        let fields: [(&str, u64); 13] = [
            ("state", status.state.0.into()),
            ("paused", status.paused.into()),
            ("progress_ppm", u64::try_from(ppm).unwrap_or(0)),
            ("total_done", status.total_done),
            ("total", status.total),
            ("total_payload_download", status.total_payload_download),
            ("total_payload_upload", status.total_payload_upload),
            ("download_payload_rate", status.download_payload_rate),
            ("upload_payload_rate", status.upload_payload_rate),
            ("num_peers", status.num_peers.into()),
            ("num_seeds", status.num_seeds.into()),
            ("total_failed_bytes", status.total_failed_bytes),
            ("total_redundant_bytes", status.total_redundant_bytes),
        ];
        insert_all(&mut tree, &fields);
        insert_all(&mut tree, &[("num_pieces", status.num_pieces.into())]);
        Some(tree.encode_root())
    }

    /// What is known of a peer, bencoded, by the names of libtorrent's `peer_info`.
    pub(super) fn peer_info_bencoded(&self, peer: PeerHandle) -> Option<Vec<u8>> {
        let connection = self.peer(peer)?;
        let ms = |at: std::time::Instant| {
            u64::try_from(self.now.duration_since(at).as_millis()).unwrap_or(u64::MAX)
        };
        let torrent = connection.torrent.and_then(|torrent| self.torrent(torrent));
        let known = torrent
            .filter(|_| connection.web.is_none())
            .and_then(|t| t.candidates.known(connection.known_as));
        let pieces = u64::from(connection.has.len());
        let count = |n: usize| n as u64;
        let quota = |direction: Direction| connection.allowances[direction as usize].quota().unwrap_or(0);
        let limit = |direction: Direction| connection.allowances[direction as usize].own.limit().into();
        let mut tree = EntryTree::new();
        let _ = tree.insert_bytes(EntryTree::ROOT, b"client", connection.client.as_bytes());
        insert_all(
            &mut tree,
            &[
                ("flags", self.peer_info_flags(peer)),
                ("total_download", connection.payload_down.total()),
                ("total_upload", connection.payload_up.total()),
                ("down_speed", connection.down.rate()),
                ("up_speed", connection.up.rate()),
                ("payload_down_speed", connection.payload_down.rate()),
                ("payload_up_speed", connection.payload_up.rate()),
                ("download_rate_peak", connection.payload_down.peak()),
                ("upload_rate_peak", connection.payload_up.peak()),
                ("last_request", ms(connection.last_request.unwrap_or(connection.created))),
                ("last_active", ms(connection.last_received.max(connection.last_sent))),
                ("download_queue_length", count(connection.requests.len())),
                ("target_dl_queue_length", connection.requests.depth().into()),
                ("upload_queue_length", count(connection.upload_queue.len())),
                ("pending_disk_read_bytes", connection.reading.iter().map(|span| u64::from(span.len)).sum()),
                ("queue_bytes", connection.requests.outstanding_bytes()),
                ("send_buffer_size", connection.outbox.len()),
                ("used_send_buffer", connection.outbox.len()),
                ("used_receive_buffer", count(connection.decoder.buffered())),
                ("receive_quota", quota(Direction::Download)),
                ("send_quota", quota(Direction::Upload)),
                ("download_limit", limit(Direction::Download)),
                ("upload_limit", limit(Direction::Upload)),
                ("supports_holepunch", connection.extensions.theirs("ut_holepunch").is_some().into()),
                ("failcount", known.map_or(0, |known| known.failcount.into())),
                ("num_hashfails", known.map_or(0, |known| known.hash_failures.into())),
                ("source", known.map_or(0, |known| known.sources.0.into())),
                (
                    "rtt",
                    connection
                        .requests
                        .mean_rtt()
                        .map_or(0, |rtt| u64::try_from(rtt.as_millis()).unwrap_or(0)),
                ),
                ("num_pieces", connection.has.count().into()),
                (
                    "progress_ppm",
                    (u64::from(connection.has.count()) * 1_000_000).checked_div(pieces).unwrap_or(0),
                ),
            ],
        );
        self.insert_arriving(peer, &mut tree);
        Some(tree.encode_root())
    }

    fn insert_arriving(&self, peer: PeerHandle, tree: &mut EntryTree) {
        let arriving =
            self.peer(peer).and_then(|connection| connection.arriving).map(|arriving| arriving.request);
        let int = |value: Option<u32>| value.map_or(-1, i64::from);
        let block = arriving.map(|request| request.start / crate::metainfo::BLOCK_SIZE);
        let _ = tree.insert_int(EntryTree::ROOT, b"downloading_piece_index", int(arriving.map(|r| r.piece)));
        let _ = tree.insert_int(EntryTree::ROOT, b"downloading_block_index", int(block));
        let _ = tree.insert_int(
            EntryTree::ROOT,
            b"downloading_total",
            i64::from(arriving.map_or(0, |r| r.length)),
        );
    }

    /// libtorrent's `peer_info::flags`.
    fn peer_info_flags(&self, peer: PeerHandle) -> u64 {
        let Some(connection) = self.peer(peer) else { return 0 };
        let flags = connection.flags();
        let torrent = connection.torrent.and_then(|torrent| self.torrent(torrent));
        let parole = torrent
            .filter(|_| connection.web.is_none())
            .and_then(|t| t.candidates.known(connection.known_as))
            .is_some_and(|known| known.parole);
        let endgame = torrent.is_some_and(|t| t.picker.all_requested());
        use pilotfish_plugin::PeerFlags as F;
        let bits = [
            flags.contains(F::INTERESTING),
            flags.contains(F::CHOKED),
            flags.contains(F::PEER_INTERESTED),
            flags.contains(F::PEER_CHOKED),
            connection.extended(),
            flags.contains(F::OUTGOING),
            flags.contains(F::IN_HANDSHAKE),
            flags.contains(F::CONNECTING),
            false,
            parole,
            flags.contains(F::SEED),
            connection.optimistic,
            connection.requests.is_snubbed(),
            flags.contains(F::UPLOAD_ONLY),
            endgame,
        ];
        debug_assert_eq!(PeerInfo::ON_PAROLE, 1 << 9);
        let encryption = match connection.encryption.map(|encryption| encryption.method) {
            None => 0,
            Some(Method::Rc4) => PeerInfo::RC4_ENCRYPTED.cast_unsigned(),
            Some(Method::Plaintext) => PeerInfo::PLAINTEXT_ENCRYPTED.cast_unsigned(),
        };
        let mut socket = match connection.transport {
            Transport::Tcp => 0,
            Transport::Utp => PeerInfo::UTP_SOCKET.cast_unsigned(),
        };
        if connection.holepunched {
            socket |= PeerInfo::HOLEPUNCHED.cast_unsigned();
        }
        let bits: u64 = bits.iter().enumerate().filter(|(_, on)| **on).map(|(bit, _)| 1 << bit).sum();
        bits | encryption | socket
    }

    /// Changes a setting, and whatever depends on it.
    ///
    /// # Errors
    /// There is no such setting, or it cannot have that value.
    pub(super) fn apply_setting(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        if let Some(name) = FIXED.iter().find(|fixed| **fixed == name) {
            return Err(SettingError::Fixed { name });
        }
        self.settings.set(name, value)?;
        self.apply_session_limits();
        self.enforce_connection_limits();
        self.choker.set_limits(super::choking::limits(&self.settings));
        let limits = self.request_limits();
        let peers: Vec<PeerHandle> = self.peers().map(|(peer, _)| peer).collect();
        for peer in peers {
            if let Some(connection) = self.peer_mut(peer) {
                connection.requests.set_limits(limits);
            }
        }
        if name == "enable_lsd" {
            self.update_lsd();
        }
        if name.contains("dht") || name.starts_with("proxy") {
            self.update_dht();
        }
        if name.starts_with("proxy") {
            self.stop_calling();
        }
        self.update_port_mappings();
        self.candidate_limits = Arc::new(candidate_limits(&self.settings));
        let candidates = self.candidate_limits.clone();
        for torrent in self.order.clone() {
            if let Some(t) = self.torrent_mut(torrent) {
                t.candidates.set_limits(candidates.clone());
            }
        }
        Ok(())
    }
}

/// The limits of torrents' lists of peers.
pub(super) fn candidate_limits(settings: &Settings) -> CandidateLimits {
    CandidateLimits {
        max_peerlist_size: settings.max_peerlist_size as usize,
        min_reconnect_time: settings.min_reconnect_time.duration(),
        max_failcount: u8::try_from(settings.max_failcount).unwrap_or(u8::MAX),
    }
}

fn insert_all(tree: &mut EntryTree, fields: &[(&str, u64)]) {
    for (name, value) in fields {
        // The root is a dictionary: nothing can be refused.
        let _ = tree.insert_int(EntryTree::ROOT, name.as_bytes(), i64::try_from(*value).unwrap_or(i64::MAX));
    }
}
