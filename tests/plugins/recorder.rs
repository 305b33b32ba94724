//! A plugin that is linked in and writes down every hook, and what a whole tour of the session makes of it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};

use pilotfish_plugin::*;

use crate::tour::{self, Guest};

/// Hooks in the order in which they came: who, and which.
type Seen = Vec<(String, &'static str)>;

/// Where all objects of the plugin write; the last of them sends it home.
struct Journal {
    seen: RefCell<Seen>,
    home: Sender<Seen>,
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The test may have ended already, for another reason.
        let _ = self.home.send(self.seen.take());
    }
}

/// One object of the plugin.
struct Recorder {
    who: String,
    journal: Rc<Journal>,
}

impl Recorder {
    fn note(&self, hook: &'static str) {
        self.journal.seen.borrow_mut().push((self.who.clone(), hook));
    }

    fn child(&self, who: String) -> Self {
        Self { who, journal: self.journal.clone() }
    }
}

/// Hooks that are written down and answer as by default.
macro_rules! note {
    ($Cx:ident; $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) -> $ret:ty = $answer:expr; )*) => {
        $(
            fn $name(&mut self, _: &mut $Cx<'_>, $( $arg: $ty ),*) -> $ret {
                $( let _ = $arg; )*
                self.note(stringify!($name));
                $answer
            }
        )*
    };
}

#[hooks]
impl SessionPlugin for Recorder {
    note! { SessionContext;
        fn added() -> () = ();
        fn on_dht_request(query: &str, source: SocketAddr, message: Dict<'_>, response: Entry<'_>) -> Verdict = Verdict::Continue;
        fn on_alert(alert: Alert<'_>) -> () = ();
        fn on_unknown_torrent(hashes: InfoHashes, peer: PeerHandle, params: AddTorrentParams<'_>) -> Verdict = Verdict::Continue;
        fn on_tick() -> () = ();
        fn get_unchoke_priority(peer: PeerHandle) -> u64 = u64::MAX;
        fn unchoke_score(peer: PeerHandle) -> i64 = 0;
        fn load_state(state: Dict<'_>) -> () = ();
        fn alert_mask() -> AlertCategory = AlertCategory::STATUS;
        fn drain(budget: u32) -> More = More::Empty;
        fn torrent_removed(torrent: TorrentHandle) -> () = ();
    }

    fn implemented_features(&mut self, _: &mut SessionContext<'_>, derived: Features) -> Features {
        self.note("implemented_features");
        derived
    }

    fn new_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        torrent: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        self.note("new_torrent");
        let name = cx.torrent(torrent).map(|torrent| torrent.name());
        Some(TorrentBox::new(self.child(name.unwrap_or_default())))
    }

    fn save_state(&mut self, _: &mut SessionContext<'_>, mut state: Entry<'_>) {
        self.note("save_state");
        state.insert_int("hooks", 1);
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        self.note("abort");
        cx.session().done();
    }
}

#[hooks]
impl TorrentPlugin for Recorder {
    note! { TorrentContext;
        fn on_piece_pass(piece: PieceIndex, origin: PieceOrigin) -> () = ();
        fn on_piece_failed(piece: PieceIndex) -> () = ();
        fn on_resume() -> Verdict = Verdict::Continue;
        fn on_pause() -> Verdict = Verdict::Continue;
        fn on_state(state: TorrentState) -> () = ();
        fn on_add_peer(address: SocketAddr, source: PeerSource, sources: PeerSource, flags: AddPeerFlags, refusal: Refusal) -> () = ();
        fn on_metadata() -> () = ();
        fn on_metadata_failed() -> () = ();
        fn on_block_read(block: PeerRequest, data: &[u8], error: ErrorCode) -> () = ();
        fn on_removed() -> () = ();
        fn on_block_hash(block: PeerRequest, sha1: &[u8], error: ErrorCode) -> () = ();
    }

    fn tick(&mut self, cx: &mut TorrentContext<'_>) {
        self.note("tick");
        // Where metadata is missing, this has `on_metadata_failed` called.
        cx.this().set_metadata(b"de");
    }

    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        self.note("on_files_checked");
        // What is read has `on_block_read` called, and what is hashed `on_block_hash`.
        let block = PeerRequest { piece: PieceIndex(0), start: 0, length: 1 };
        cx.this().read_block(block);
        cx.this().hash_block(block);
    }

    fn new_connection(
        &mut self,
        cx: &mut TorrentContext<'_>,
        peer: PeerHandle,
        _: Attach,
    ) -> Option<PeerBox> {
        self.note("new_connection");
        let remote = cx.peer(peer).map(|peer| peer.remote().to_string());
        Some(PeerBox::new(self.child(remote.unwrap_or_default())))
    }
}

#[hooks]
impl PeerPlugin for Recorder {
    note! { PeerContext;
        fn type_name() -> &'static str = "recorder";
        fn add_handshake(entry: Entry<'_>) -> () = ();
        fn on_disconnect(error: ErrorCode) -> () = ();
        fn on_connected() -> () = ();
        fn on_handshake(reserved: Reserved) -> Keep = Keep::Stay;
        fn on_extension_handshake(message: Dict<'_>) -> Keep = Keep::Stay;
        fn on_choke() -> Verdict = Verdict::Continue;
        fn on_unchoke() -> Verdict = Verdict::Continue;
        fn on_interested() -> Verdict = Verdict::Continue;
        fn on_not_interested() -> Verdict = Verdict::Continue;
        fn on_have(piece: PieceIndex) -> Verdict = Verdict::Continue;
        fn on_dont_have(piece: PieceIndex) -> Verdict = Verdict::Continue;
        fn on_bitfield(bitfield: Bitfield<'_>) -> Verdict = Verdict::Continue;
        fn on_have_all() -> Verdict = Verdict::Continue;
        fn on_have_none() -> Verdict = Verdict::Continue;
        fn on_allowed_fast(piece: PieceIndex) -> Verdict = Verdict::Continue;
        fn on_request(request: PeerRequest) -> Verdict = Verdict::Continue;
        fn on_piece(piece: PeerRequest, data: &[u8]) -> Verdict = Verdict::Continue;
        fn on_cancel(request: PeerRequest) -> Verdict = Verdict::Continue;
        fn on_reject(request: PeerRequest) -> Verdict = Verdict::Continue;
        fn on_suggest(piece: PieceIndex) -> Verdict = Verdict::Continue;
        fn sent_have_all() -> () = ();
        fn sent_have_none() -> () = ();
        fn sent_reject_request(request: PeerRequest) -> () = ();
        fn sent_allow_fast(piece: PieceIndex) -> () = ();
        fn sent_suggest(piece: PieceIndex) -> () = ();
        fn sent_cancel(request: PeerRequest) -> () = ();
        fn sent_request(request: PeerRequest) -> () = ();
        fn sent_choke() -> () = ();
        fn sent_unchoke() -> () = ();
        fn sent_interested() -> () = ();
        fn sent_not_interested() -> () = ();
        fn sent_have(piece: PieceIndex) -> () = ();
        fn sent_piece(piece: PeerRequest) -> () = ();
        fn sent_payload(bytes: u32) -> () = ();
        fn can_disconnect(error: ErrorCode) -> Consent = Consent::Allow;
        fn on_extended(length: u32, message: u8, body: &[u8]) -> Verdict = Verdict::Continue;
        fn on_unknown_message(length: u32, message: u8, body: &[u8]) -> Verdict = Verdict::Continue;
        fn on_piece_pass(piece: PieceIndex) -> () = ();
        fn on_piece_failed(piece: PieceIndex) -> () = ();
        fn tick() -> () = ();
        fn write_request(request: PeerRequest) -> Request = Request::Continue;
        fn wants_fragments() -> bool = true;
    }
}

/// Everything that a tour shows a recorder.
fn record() -> Seen {
    let (home, seen) = channel();
    let open = move |_: &mut SessionContext<'_>| {
        let journal = Journal { seen: RefCell::default(), home };
        Ok(SessionBox::new(Recorder { who: "session".to_owned(), journal: Rc::new(journal) }))
    };
    let report = tour::take(vec![Guest::linked("recorder", open)]).unwrap();
    assert!(report.stopped);
    seen.recv().expect("every object of the plugin was dropped")
}

#[test]
fn a_tour_shows_every_hook_but_those_that_nothing_causes_yet() {
    let seen = record();
    // The names of a torrent's and a peer's hooks overlap: who it was tells them apart.
    let saw = |who: fn(&str) -> bool, hook: &str| seen.iter().any(|(name, seen)| who(name) && *seen == hook);
    let session = SessionHooks::NAMES.iter().filter(|hook| !saw(|who| who == "session", hook));
    let torrent =
        TorrentHooks::NAMES.iter().filter(|hook| !saw(|who| who != "session" && !who.contains(':'), hook));
    let peer = PeerHooks::NAMES.iter().filter(|hook| !saw(|who| who.contains(':'), hook));
    let unseen: Vec<_> = session.chain(torrent).chain(peer).copied().collect();
    // `drain` comes only to a plugin whose threads have posted something.
    assert_eq!(unseen, ["drain"]);
}

#[test]
fn an_outgoing_connection_begins_with_its_hooks_in_libtorrents_order() {
    let seen = record();
    let first: Vec<&str> = seen
        .iter()
        .filter(|(who, hook)| who == "10.0.0.1:6881" && *hook != "tick")
        .map(|(_, hook)| *hook)
        .take(8)
        .collect();
    assert_eq!(
        first,
        [
            "type_name",
            "wants_fragments",
            "on_connected",
            "on_handshake",
            "add_handshake",
            "sent_have_none",
            "on_extension_handshake",
            "on_extended"
        ]
    );
}

#[test]
fn a_plugin_is_introduced_before_it_is_added_and_goes_last() {
    let seen = record();
    let session: Vec<&str> = seen
        .iter()
        .filter(|(who, hook)| {
            who == "session"
                && !["on_tick", "on_alert", "get_unchoke_priority", "unchoke_score"].contains(hook)
        })
        .map(|(_, hook)| *hook)
        .collect();
    assert_eq!(session[..4], ["load_state", "implemented_features", "alert_mask", "added"]);
    assert_eq!(session.last(), Some(&"abort"));
}
