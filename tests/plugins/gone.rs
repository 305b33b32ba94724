//! What every method answers on a host for which everything that a handle names is gone.

use std::time::Duration;

use pilotfish::hooks::{Chain, Peers, Sessions, Torrents};
use pilotfish_plugin::rt::{PeerObject, SessionObject, TorrentObject};
use pilotfish_plugin::*;

use pilotfish_tests::bare_host::{BareHost, PEER, PLUGIN, TORRENT};

/// Asks everything in one hook of each trait.
struct Asker;

#[hooks]
impl PeerPlugin for Asker {
    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        let peer = cx.this();
        let yes = [peer.is_choked(), peer.has_peer_choked(), peer.is_disconnecting(), peer.failed()];
        assert_eq!(yes, [true; 4]);
        let no = [
            peer.is_seed(),
            peer.upload_only(),
            peer.is_interesting(),
            peer.is_peer_interested(),
            peer.is_connecting(),
            peer.is_outgoing(),
            peer.on_local_network(),
            peer.ignore_unchoke_slots(),
            peer.has_metadata(),
            peer.in_handshake(),
            peer.has_piece(PieceIndex(0)),
            peer.should_log(Direction::Info),
            peer.send_extended("x", b""),
        ];
        assert_eq!(no, [false; 13]);
        assert_eq!(peer.connection_type(), ConnectionType::BITTORRENT);
        assert_eq!(peer.pid(), PeerId([0; 20]));
        assert!(peer.associated_torrent().is_none() && peer.find_plugin("asker").is_none());
        assert!(peer.remote().ip().is_unspecified() && peer.local_endpoint().ip().is_unspecified());
        assert_eq!(peer.can_disconnect(ErrorCode::NO_ERROR), Consent::Allow);
        assert_eq!(peer.register_extended("x"), Err(RegisterError::TooLate));
        assert_eq!(peer.peer_info(), PeerInfo::default());
        assert_eq!(peer.time_of_last_unchoke(), Duration::ZERO);
        assert_eq!((peer.last_seen_complete(), peer.send_queue_len()), (0, 0));
        assert_eq!(peer.listen_port(), None);
        peer.choke_this_peer();
        peer.maybe_unchoke_this_peer();
        peer.disconnect(ErrorCode::NO_ERROR, Operation::UNKNOWN, Severity::NORMAL);
        peer.set_upload_limit(1);
        peer.set_download_limit(1);
        peer.send_buffer(b"x");
        peer.peer_log(Direction::Info, "x", "x");
        peer.add_extension(PeerBox::new(Self));
        let bt = peer.bt().unwrap();
        assert_eq!([bt.packet_finished(), bt.support_extensions(), bt.supports_encryption()], [false; 3]);
        assert_eq!(bt.reserved(), Reserved([0; 8]));
        bt.switch_send_crypto(None);
        bt.switch_recv_crypto(None);
        assert!(cx.peer(PEER.peer).is_none() && cx.torrent(TORRENT).is_none());
    }
}

#[hooks]
impl TorrentPlugin for Asker {
    fn tick(&mut self, cx: &mut TorrentContext<'_>) {
        let (torrent, piece) = (cx.this(), PieceIndex(0));
        assert_eq!(torrent.info_hashes(), InfoHashes::new(None, None));
        assert_eq!((torrent.name().as_str(), torrent.userdata()), ("", Userdata(0)));
        assert_eq!((torrent.state().name(), torrent.status()), ("unknown", TorrentStatus::default()));
        assert_eq!([torrent.is_paused(), torrent.is_private(), torrent.have_piece(piece)], [false; 3]);
        assert_eq!((torrent.num_pieces(), torrent.piece_size(piece), torrent.total_size()), (0, 0, 0));
        assert_eq!(torrent.piece_priority(piece), 0);
        assert!(torrent.peers().is_empty() && torrent.contributors(piece).is_empty());
        assert!(torrent.piece_availability().is_empty() && torrent.metadata().is_empty());
        assert_eq!(torrent.save_path().as_os_str(), "");
        torrent.pause();
        torrent.pause_gracefully();
        torrent.resume();
        torrent.force_recheck();
        torrent.add_extension(TorrentBox::new(Self));
        torrent.connect_peer(([1, 2, 3, 4], 5).into(), PeerSource::PEX);
        torrent.ban(([1, 2, 3, 4], 5).into());
        torrent.set_piece_priority(piece, 7);
        assert!(!torrent.has_metadata() && !torrent.set_metadata(b"de"));
        let block = PeerRequest { piece, start: 0, length: 1 };
        assert!(!torrent.read_block(block) && !torrent.hash_block(block));
        assert_eq!((torrent.flags(), torrent.downloader_address(PEER.peer)), (TorrentFlags::NONE, None));
        assert!(torrent.downloaders(piece).is_empty() && torrent.bans().is_empty());
        torrent.add_peer(([1, 2, 3, 4], 5).into(), PeerSource::PEX, PexFlags::SEED);
        torrent.ban_for(([1, 2, 3, 4], 5).into(), "x");
        torrent.unban(([1, 2, 3, 4], 5).into());
    }
}

#[hooks]
impl SessionPlugin for Asker {
    fn on_tick(&mut self, cx: &mut SessionContext<'_>) {
        let session = cx.session();
        assert!(session.torrents().is_empty() && session.plugins().is_empty());
        assert_eq!(session.find_torrent(&InfoHashes::new(Some([1; 20]), None)), None);
        assert_eq!((session.setting("x"), session.listen_port()), (None, 0));
        assert_eq!([session.apply_setting("x", "1"), session.is_paused()], [false; 2]);
        session.add_torrent(|params| {
            params.torrent(b"de").paused(true);
        });
        let alert = CustomAlert {
            kind: 1,
            what: "x",
            category: AlertCategory::ALL,
            message: "",
            payload: b"",
            torrent: Some(TORRENT),
            peer: Some(PEER.peer),
        };
        assert!(!session.post_alert(&alert));
        session.ban([1, 2, 3, 4].into(), "x");
        session.unban([1, 2, 3, 4].into());
        assert!(session.bans().is_empty());
        session.remove_torrent(TORRENT, true);
        session.pause();
        session.resume();
        session.done();
        assert_eq!((cx.now(), cx.log_enabled(Level::Error)), (Duration::ZERO, false));
        cx.log(Level::Error, "nobody hears this");
        assert_eq!(cx.describe(ErrorCode::TORRENT_REMOVED), "torrent removed");
        assert_eq!(cx.describe(ErrorCode::plugin(9)), "error 3:9");
        let (_mailbox, remote) = cx.mailbox::<u8>(1);
        assert!(remote.post(1).is_ok());
    }
}

#[test]
fn what_is_gone_answers_every_question_and_takes_every_order() {
    let mut host = BareHost::default();
    let mut peer = Chain::<Peers>::default();
    peer.push(PLUGIN, PeerObject::new(PeerBox::new(Asker)));
    peer.tell(&mut host, PEER, PeerHooks::tick, |p, cx| p.tick(cx));
    let mut torrent = Chain::<Torrents>::default();
    torrent.push(PLUGIN, TorrentObject::new(TorrentBox::new(Asker)));
    torrent.tell(&mut host, TORRENT, TorrentHooks::tick, |p, cx| p.tick(cx));
    let mut session = Chain::<Sessions>::default();
    session.push(PLUGIN, SessionObject::new(SessionBox::new(Asker)));
    session.tell(&mut host, (), SessionHooks::on_tick, |p, cx| p.on_tick(cx));
    assert!(host.faults.is_empty(), "{:?}", host.faults);
}
