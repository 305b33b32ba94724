//! What a plugin may do in a hook: everything, to anything, with any argument.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilotfish_plugin::*;

use crate::chatty::{Chatty, Shared};
use crate::cipher::Noise;

/// What every context reaches.
pub(crate) trait Reach {
    fn session(&self) -> Session<'_>;
    fn torrent(&self, torrent: TorrentHandle) -> Option<Torrent<'_>>;
    fn peer(&self, peer: PeerHandle) -> Option<Peer<'_>>;
    fn log(&self, text: &str);
}

macro_rules! reach {
    ($( $Cx:ident ),*) => {
        $( impl Reach for $Cx<'_> {
            fn session(&self) -> Session<'_> { $Cx::session(self) }
            fn torrent(&self, torrent: TorrentHandle) -> Option<Torrent<'_>> { $Cx::torrent(self, torrent) }
            fn peer(&self, peer: PeerHandle) -> Option<Peer<'_>> { $Cx::peer(self, peer) }
            fn log(&self, text: &str) { $Cx::log(self, Level::Info, text) }
        } )*
    };
}

reach!(SessionContext, TorrentContext, PeerContext, CipherContext);

/// Settings that change how things go, and values that leave them going.
const SETTINGS: [(&str, &[&str]); 12] = [
    ("connections_limit", &["5", "200"]),
    ("connection_speed", &["0", "30"]),
    ("max_out_request_queue", &["2", "10", "8192"]),
    ("max_allowed_in_request_queue", &["1", "8192"]),
    ("unchoke_slots_limit", &["0", "1", "8"]),
    ("max_queued_disk_bytes", &["65536", "33554432"]),
    ("min_reconnect_time", &["0", "60"]),
    ("allowed_fast_set_size", &["0", "5"]),
    ("initial_picker_threshold", &["0", "4"]),
    ("close_redundant_connections", &["0", "1"]),
    ("send_redundant_have", &["0", "1"]),
    ("no_such_setting", &["1", "x"]),
];

/// Addresses of peers that are not honest.
pub(crate) fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 9, 0, (number % 50) as u8], 6881 + (number / 50 % 2) as u16))
}

/// Does one thing.
pub(crate) fn act(shared: &Arc<Shared>, cx: &impl Reach) {
    match shared.below(10) {
        0 | 1 => on_session(shared, cx),
        2..=4 => on_torrent(shared, cx),
        5..=8 => on_peer(shared, cx),
        _ => cx.log("chatter"),
    }
}

fn torrent_handle(shared: &Shared, cx: &impl Reach) -> TorrentHandle {
    let (torrents, old) = (cx.session().torrents(), &shared.old.lock().unwrap().1);
    match shared.below(8) {
        0 => TorrentHandle::from_raw(shared.any()),
        1 if !old.is_empty() => old[shared.below(old.len())],
        _ if !torrents.is_empty() => torrents[shared.below(torrents.len())],
        _ => TorrentHandle::INVALID,
    }
}

fn peer_handle(shared: &Shared, cx: &impl Reach) -> PeerHandle {
    let torrent = torrent_handle(shared, cx);
    let peers = cx.torrent(torrent).map(|torrent| torrent.peers()).unwrap_or_default();
    let old = &shared.old.lock().unwrap().0;
    match shared.below(8) {
        0 => PeerHandle::from_raw(shared.any()),
        1 if !old.is_empty() => old[shared.below(old.len())],
        _ if !peers.is_empty() => peers[shared.below(peers.len())],
        _ => PeerHandle::INVALID,
    }
}

fn piece(shared: &Shared) -> PieceIndex {
    PieceIndex(if shared.one_in(8) { shared.any() as i32 } else { shared.below(20) as i32 - 1 })
}

/// Fills in the parameters of a torrent, or something like it.
pub(crate) fn fill(shared: &Shared, params: &mut AddTorrentParams<'_>) {
    match shared.below(6) {
        0 => drop(params.torrent(&shared.bytes(60))),
        1 => params
            .entry()
            .insert_bytes("magnet", "magnet:?xt=urn:btih:0123456789012345678901234567890123456789"),
        _ => {
            params.torrent(&shared.files[shared.below(shared.files.len())]);
            params.paused(shared.one_in(6)).userdata(Userdata(shared.any()));
        }
    }
}

/// Reads from and writes to a dictionary.
pub(crate) fn scribble(shared: &Shared, entry: &mut Entry<'_>) {
    let keys: [&[u8]; 6] = [b"m", b"p", b"reqq", b"v", b"", b"\xff\0"];
    for _ in 0..shared.below(5) {
        let key = keys[shared.below(keys.len())];
        match shared.below(6) {
            0 => entry.insert_int(key, shared.any().cast_signed()),
            1 => entry.insert_bytes(key, shared.bytes(30)),
            2 => drop(entry.insert_bencoded(key, shared.bytes(30))),
            3 => drop(entry.insert_bencoded(key, b"d1:ai1ee")),
            4 => drop(entry.remove(key)),
            _ => scribble(shared, &mut entry.dict(key)),
        }
    }
    let _ = (entry.encode(), entry.to_string());
}

fn on_session(shared: &Arc<Shared>, cx: &impl Reach) {
    let session = cx.session();
    match shared.below(10) {
        0 => session.add_torrent(|params| fill(shared, params)),
        1 if shared.one_in(4) => {
            let delete = shared.one_in(3);
            shared.deleted.fetch_or(delete, Ordering::Relaxed);
            session.remove_torrent(torrent_handle(shared, cx), delete);
        }
        2 if shared.one_in(6) => session.pause(),
        3 => session.resume(),
        4 => {
            let (name, values) = SETTINGS[shared.below(SETTINGS.len())];
            session.apply_setting(name, values[shared.below(values.len())]);
        }
        5 | 6 => {
            session.post_alert(&CustomAlert {
                kind: shared.below(3) as u32,
                what: "chatter",
                category: AlertCategory(1 << shared.below(32)),
                message: "chatter",
                payload: &shared.bytes(20),
                torrent: shared.one_in(2).then(|| torrent_handle(shared, cx)),
                peer: shared.one_in(2).then(|| peer_handle(shared, cx)),
            });
        }
        7 if shared.one_in(10) => session.done(),
        _ => {
            let hashes = InfoHashes::new(Some([shared.any() as u8; 20]), None);
            let _ =
                (session.find_torrent(&hashes), session.setting("user_agent"), session.apply_setting("", ""));
            let _ = (session.is_paused(), session.listen_port(), session.plugins());
        }
    }
}

fn on_torrent(shared: &Arc<Shared>, cx: &impl Reach) {
    let Some(torrent) = cx.torrent(torrent_handle(shared, cx)) else { return };
    match shared.below(12) {
        0 if shared.one_in(6) => torrent.pause(),
        0 if shared.one_in(3) => torrent.pause_gracefully(),
        1 | 2 => torrent.resume(),
        3 if shared.one_in(4) => torrent.force_recheck(),
        4 => torrent.add_extension(TorrentBox::new(Chatty::new(shared))),
        5 | 6 => torrent.connect_peer(address(shared.below(100)), PeerSource(shared.any() as _)),
        7 => torrent.ban(address(shared.below(100))),
        9 => {
            let (start, length) = (shared.below(70_000) as i32 - 10, shared.below(20_000) as i32);
            torrent.read_block(PeerRequest { piece: piece(shared), start, length });
        }
        8 => torrent.set_piece_priority(piece(shared), shared.below(10) as u8),
        _ => {
            let piece = piece(shared);
            let _ = (torrent.info_hashes(), torrent.name(), torrent.userdata(), torrent.status());
            let _ = (torrent.is_paused(), torrent.have_piece(piece), torrent.num_pieces());
            let _ = (torrent.piece_size(piece), torrent.total_size(), torrent.piece_priority(piece));
            let _ = (torrent.piece_availability(), torrent.contributors(piece), torrent.metadata());
            let _ = (torrent.has_metadata(), torrent.set_metadata(b"d4:name1:xe"));
            let _ = (torrent.save_path(), torrent.is_private(), torrent.state());
        }
    }
}

fn on_peer(shared: &Arc<Shared>, cx: &impl Reach) {
    let Some(peer) = cx.peer(peer_handle(shared, cx)) else { return };
    let error = ErrorCode { category: shared.below(5) as u32, value: shared.below(200) as i32 };
    match shared.below(16) {
        0 if shared.one_in(3) => {
            peer.disconnect(error, Operation(shared.below(20) as u32), Severity(shared.below(4) as u8));
        }
        1 => peer.choke_this_peer(),
        2 | 3 => peer.maybe_unchoke_this_peer(),
        4 if shared.one_in(4) => peer.send_buffer(&shared.bytes(100)),
        // A keep-alive and a HAVE are always in order.
        5 => peer.send_buffer(&[0, 0, 0, 0, 0, 0, 0, 5, 4, 0, 0, 0, 0]),
        6 => drop(peer.register_extended(["one", "two", "", "ut_metadata"][shared.below(4)])),
        7 => drop(peer.send_extended(["one", "two", "three"][shared.below(3)], &shared.bytes(200))),
        8 => peer.add_extension(PeerBox::new(Chatty::new(shared))),
        9 | 10 if shared.one_in(6) => {
            let Some(bt) = peer.bt() else { return };
            let cipher = (!shared.one_in(3)).then(|| Noise::boxed(shared));
            if shared.one_in(2) { bt.switch_send_crypto(cipher) } else { bt.switch_recv_crypto(cipher) }
        }
        11 => peer.peer_log(Direction::Info, "chatter", "chatter"),
        _ => {
            let _ = (peer.flags(), peer.connection_type(), peer.pid(), peer.has_piece(piece(shared)));
            let _ = (peer.remote(), peer.local_endpoint(), peer.can_disconnect(error));
            let _ = (peer.find_plugin("chatty"), peer.peer_info(), peer.time_of_last_unchoke());
            let _ = (peer.last_seen_complete(), peer.should_log(Direction::Info), peer.send_queue_len());
            let _ = peer.associated_torrent().map(|torrent| torrent.name());
            let _ = peer.bt().map(|bt| (bt.packet_finished(), bt.supports_encryption(), bt.reserved()));
        }
    }
}
