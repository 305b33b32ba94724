//! A plugin that overrides every hook of a session, a torrent and a connection, and does next to nothing in it: what it costs
//! is what being called costs.

use std::net::SocketAddr;

use pilotfish::command::PluginSource;
use pilotfish_plugin::{
    AddPeerFlags, AddTorrentParams, Alert, AlertCategory, Attach, Bitfield, Consent, Dict, Entry, ErrorCode,
    Features, InfoHashes, Keep, PeerBox, PeerContext, PeerHandle, PeerPlugin, PeerRequest, PeerSource,
    PieceIndex, PieceOrigin, Refusal, Request, Reserved, SessionBox, SessionContext, SessionPlugin,
    TorrentBox, TorrentContext, TorrentHandle, TorrentPlugin, TorrentState, Userdata, Verdict, hooks,
};

/// The plugin, linked in, under a name of its own.
pub fn source(name: &str) -> PluginSource {
    PluginSource::linked(name, |_| Ok(SessionBox::new(OnSession { calls: 0 })))
}

/// The plugin's object for a connection.
pub fn on_peer() -> PeerBox {
    PeerBox::new(OnPeer { calls: 0 })
}

struct OnSession {
    calls: u64,
}

struct OnTorrent {
    calls: u64,
}

struct OnPeer {
    calls: u64,
}

/// One `impl` of a plugin trait, whose hooks count and answer what is given here.
macro_rules! impl_busy {
    (
        $Trait:ident for $Type:ty, |$cx:ident: $Cx:ident|
        $( fn $name:ident ( $( $argument:ty ),* ) -> $Answer:ty = $answer:expr; )*
    ) => {
        #[hooks]
        impl $Trait for $Type {
            $(
                #[allow(unused_variables)]
                fn $name(&mut self, $cx: &mut $Cx<'_>, $( _: $argument ),*) -> $Answer {
                    self.calls += 1;
                    $answer
                }
            )*
        }
    };
}

impl_busy! {
    SessionPlugin for OnSession, |cx: SessionContext|
    fn implemented_features(Features) -> Features =
        Features::OPTIMISTIC_UNCHOKE | Features::TICK | Features::DHT_REQUEST | Features::ALERT;
    fn new_torrent(TorrentHandle, Userdata) -> Option<TorrentBox> = Some(TorrentBox::new(OnTorrent { calls: 0 }));
    fn added() -> () = ();
    fn abort() -> () = cx.session().done();
    fn on_dht_request(&str, SocketAddr, Dict<'_>, Entry<'_>) -> Verdict = Verdict::Continue;
    fn on_alert(Alert<'_>) -> () = ();
    fn on_unknown_torrent(InfoHashes, PeerHandle, AddTorrentParams<'_>) -> Verdict = Verdict::Continue;
    fn on_tick() -> () = ();
    fn get_unchoke_priority(PeerHandle) -> u64 = u64::MAX;
    fn unchoke_score(PeerHandle) -> i64 = 0;
    fn save_state(Entry<'_>) -> () = ();
    fn load_state(Dict<'_>) -> () = ();
    fn alert_mask() -> AlertCategory = AlertCategory::ALL;
    fn torrent_removed(TorrentHandle) -> () = ();
}

impl_busy! {
    TorrentPlugin for OnTorrent, |cx: TorrentContext|
    fn new_connection(PeerHandle, Attach) -> Option<PeerBox> = Some(on_peer());
    fn on_piece_pass(PieceIndex, PieceOrigin) -> () = ();
    fn on_piece_failed(PieceIndex) -> () = ();
    fn tick() -> () = ();
    fn on_resume() -> Verdict = Verdict::Continue;
    fn on_pause() -> Verdict = Verdict::Continue;
    fn on_files_checked() -> () = ();
    fn on_state(TorrentState) -> () = ();
    fn on_add_peer(SocketAddr, PeerSource, PeerSource, AddPeerFlags, Refusal) -> () = ();
    fn on_metadata() -> () = ();
    fn on_metadata_failed() -> () = ();
    fn on_block_read(PeerRequest, &[u8], ErrorCode) -> () = ();
    fn on_removed() -> () = ();
}

impl_busy! {
    PeerPlugin for OnPeer, |cx: PeerContext|
    fn type_name() -> &'static str = "busy";
    fn add_handshake(Entry<'_>) -> () = ();
    fn on_disconnect(ErrorCode) -> () = ();
    fn on_connected() -> () = ();
    fn on_handshake(Reserved) -> Keep = Keep::Stay;
    fn on_extension_handshake(Dict<'_>) -> Keep = Keep::Stay;
    fn on_choke() -> Verdict = Verdict::Continue;
    fn on_unchoke() -> Verdict = Verdict::Continue;
    fn on_interested() -> Verdict = Verdict::Continue;
    fn on_not_interested() -> Verdict = Verdict::Continue;
    fn on_have(PieceIndex) -> Verdict = Verdict::Continue;
    fn on_dont_have(PieceIndex) -> Verdict = Verdict::Continue;
    fn on_bitfield(Bitfield<'_>) -> Verdict = Verdict::Continue;
    fn on_have_all() -> Verdict = Verdict::Continue;
    fn on_have_none() -> Verdict = Verdict::Continue;
    fn on_allowed_fast(PieceIndex) -> Verdict = Verdict::Continue;
    fn on_request(PeerRequest) -> Verdict = Verdict::Continue;
    fn on_piece(PeerRequest, &[u8]) -> Verdict = Verdict::Continue;
    fn on_cancel(PeerRequest) -> Verdict = Verdict::Continue;
    fn on_reject(PeerRequest) -> Verdict = Verdict::Continue;
    fn on_suggest(PieceIndex) -> Verdict = Verdict::Continue;
    fn sent_have_all() -> () = ();
    fn sent_have_none() -> () = ();
    fn sent_reject_request(PeerRequest) -> () = ();
    fn sent_allow_fast(PieceIndex) -> () = ();
    fn sent_suggest(PieceIndex) -> () = ();
    fn sent_cancel(PeerRequest) -> () = ();
    fn sent_request(PeerRequest) -> () = ();
    fn sent_choke() -> () = ();
    fn sent_unchoke() -> () = ();
    fn sent_interested() -> () = ();
    fn sent_not_interested() -> () = ();
    fn sent_have(PieceIndex) -> () = ();
    fn sent_piece(PeerRequest) -> () = ();
    fn sent_payload(u32) -> () = ();
    fn can_disconnect(ErrorCode) -> Consent = Consent::Allow;
    fn on_extended(u32, u8, &[u8]) -> Verdict = Verdict::Continue;
    fn on_unknown_message(u32, u8, &[u8]) -> Verdict = Verdict::Continue;
    fn on_piece_pass(PieceIndex) -> () = ();
    fn on_piece_failed(PieceIndex) -> () = ();
    fn tick() -> () = ();
    fn write_request(PeerRequest) -> Request = Request::Continue;
}
