//! A plugin that is linked in, writes down every hook, and does what a test tells it to do in some of them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use pilotfish_plugin::{
    AddPeerFlags, Alert, Attach, Bitfield, Consent, Dict, Entry, ErrorCode, Keep, PeerBox, PeerContext,
    PeerHandle, PeerPlugin, PeerRequest, PeerSource, PieceIndex, PieceOrigin, Refusal, Request, Reserved,
    SessionBox, SessionContext, SessionPlugin, TorrentBox, TorrentContext, TorrentHandle, TorrentPlugin,
    TorrentState, Userdata, Verdict, hooks,
};

use super::{NodeId, Sim};

/// What a probe saw, one line per hook: `peer.on_have 3`.
pub type Log = Arc<Mutex<Vec<String>>>;

/// What to do in a hook. The answer is "handled", "leave", "refuse" or "sent", whichever the hook understands.
pub enum Act {
    Session(Box<dyn Fn(&mut SessionContext<'_>) -> bool + Send + Sync>),
    Torrent(Box<dyn Fn(&mut TorrentContext<'_>) -> bool + Send + Sync>),
    Peer(Box<dyn Fn(&mut PeerContext<'_>) -> bool + Send + Sync>),
}

/// What is done with the answer to a query of the DHT; whether that handles it.
type DhtAnswer = Box<dyn Fn(&mut Entry<'_>) -> bool + Send + Sync>;

/// The plugin, to be [plugged](Probe::plug) into a node.
#[derive(Default)]
pub struct Probe {
    log: Log,
    acts: Vec<(&'static str, Act)>,
    /// What it does with the answer to which query of the DHT; whether that handles it.
    answers: Vec<(&'static str, DhtAnswer)>,
    /// Where the lines are written, with this in front.
    prefix: &'static str,
}

impl Probe {
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes its lines to the log of another, with a prefix.
    pub fn beside(log: &Log, prefix: &'static str) -> Self {
        Self { log: log.clone(), prefix, ..Self::default() }
    }

    /// Does something in a session's hook.
    pub fn session(
        mut self,
        hook: &'static str,
        act: impl Fn(&mut SessionContext<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.acts.push((hook, Act::Session(Box::new(act))));
        self
    }

    /// Does something with the answer to a query of the DHT; whether that handles it.
    pub fn dht(
        mut self,
        query: &'static str,
        act: impl Fn(&mut Entry<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.answers.push((query, Box::new(act)));
        self
    }

    /// Does something in a torrent's hook.
    pub fn torrent(
        mut self,
        hook: &'static str,
        act: impl Fn(&mut TorrentContext<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.acts.push((hook, Act::Torrent(Box::new(act))));
        self
    }

    /// Does something in a connection's hook.
    pub fn peer(
        mut self,
        hook: &'static str,
        act: impl Fn(&mut PeerContext<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.acts.push((hook, Act::Peer(Box::new(act))));
        self
    }

    /// What it sees, now and later.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Registers it with a node, and hands out its log.
    pub fn plug(self, sim: &mut Sim, node: NodeId) -> Log {
        let log = self.log.clone();
        let name = format!("probe{}", self.prefix);
        sim.plug(node, &name, move |_| SessionBox::new(OnSession(Arc::new(self))));
        log
    }

    /// A probe for an engine that is not part of a [`Sim`].
    pub fn on_session(self) -> SessionBox {
        SessionBox::new(OnSession(Arc::new(self)))
    }

    /// A probe for one connection, to be added by another plugin.
    pub fn on_peer(self) -> PeerBox {
        PeerBox::new(OnPeer(Arc::new(self)))
    }

    /// A probe for one torrent, to be added by another plugin.
    pub fn on_torrent(self) -> TorrentBox {
        TorrentBox::new(OnTorrent(Arc::new(self)))
    }

    fn note(&self, hook: &str, details: String) {
        let space = if details.is_empty() { "" } else { " " };
        self.log.lock().unwrap().push(format!("{}{hook}{space}{details}", self.prefix));
    }

    fn act(&self, hook: &str, mut run: impl FnMut(&Act) -> bool) -> bool {
        // All of them act, and any of them may answer.
        self.acts.iter().filter(|(name, _)| *name == hook).fold(false, |yes, (_, act)| run(act) || yes)
    }
}

struct OnSession(Arc<Probe>);
struct OnTorrent(Arc<Probe>);
struct OnPeer(Arc<Probe>);

/// An answer made of yes or no.
trait Word {
    fn of(yes: bool) -> Self;
}

impl Word for () {
    fn of(_: bool) {}
}

macro_rules! words {
    ($( $Word:ident: $yes:ident or $no:ident; )*) => {
        $( impl Word for $Word { fn of(yes: bool) -> Self { if yes { Self::$yes } else { Self::$no } } } )*
    };
}

words! {
    Verdict: Handled or Continue;
    Keep: Leave or Stay;
    Consent: Refuse or Allow;
    Request: Sent or Continue;
}

macro_rules! probe {
    ($Trait:ident for $Probe:ident, $Cx:ident, $Kind:ident, $level:literal;
     $( $name:ident ( $( $arg:ident : $ty:ty ),* ) -> $Ret:ty, $( $detail:expr ),* ; )* { $( $rest:item )* }) => {
        #[hooks]
        impl $Trait for $Probe {
            $(
                #[allow(unused_variables)]
                fn $name(&mut self, cx: &mut $Cx<'_>, $( $arg: $ty ),*) -> $Ret {
                    let details: Vec<String> = vec![$( $detail.to_string() ),*];
                    self.0.note(concat!($level, ".", stringify!($name)), details.join(" "));
                    let act = |act: &Act| matches!(act, Act::$Kind(act) if act(cx));
                    <$Ret as Word>::of(self.0.act(stringify!($name), act))
                }
            )*
            $( $rest )*
        }
    };
}

probe! {
    SessionPlugin for OnSession, SessionContext, Session, "session";
    added() -> (), ;
    abort() -> (), ;
    on_alert(alert: Alert<'_>) -> (), alert.what();
    on_tick() -> (), ;
    save_state(state: Entry<'_>) -> (), ;
    load_state(state: Dict<'_>) -> (), ;
    torrent_removed(torrent: TorrentHandle) -> (), ;
    {
        fn on_dht_request(
            &mut self,
            _: &mut SessionContext<'_>,
            query: &str,
            source: SocketAddr,
            message: Dict<'_>,
            mut response: Entry<'_>,
        ) -> Verdict {
            let transaction = message.str("t").unwrap_or_default();
            self.0.note("session.on_dht_request", format!("{query} {source} {transaction}"));
            let mut answers = self.0.answers.iter().filter(|(name, _)| *name == query);
            <Verdict as Word>::of(answers.any(|(_, answer)| answer(&mut response)))
        }

        fn new_torrent(&mut self, cx: &mut SessionContext<'_>, _: TorrentHandle, _: Userdata) -> Option<TorrentBox> {
            self.0.note("session.new_torrent", String::new());
            self.0.act("new_torrent", |act| matches!(act, Act::Session(act) if act(cx)));
            Some(TorrentBox::new(OnTorrent(self.0.clone())))
        }
    }
}

probe! {
    TorrentPlugin for OnTorrent, TorrentContext, Torrent, "torrent";
    on_piece_pass(piece: PieceIndex, origin: PieceOrigin) -> (), piece.0;
    on_piece_failed(piece: PieceIndex) -> (), piece.0;
    tick() -> (), ;
    on_resume() -> Verdict, ;
    on_pause() -> Verdict, ;
    on_files_checked() -> (), ;
    on_state(state: TorrentState) -> (), state.name();
    on_add_peer(a: SocketAddr, s: PeerSource, all: PeerSource, f: AddPeerFlags, refusal: Refusal) -> (), a, s.name(), all.0, f.0, refusal.0;
    on_metadata() -> (), ;
    on_metadata_failed() -> (), ;
    on_block_read(block: PeerRequest, data: &[u8], error: ErrorCode) -> (), shown(block), data.len();
    on_removed() -> (), ;
    on_block_hash(block: PeerRequest, sha1: &[u8], error: ErrorCode) -> (), shown(block), sha1.len();
    {
        fn new_connection(&mut self, cx: &mut TorrentContext<'_>, _: PeerHandle, attach: Attach) -> Option<PeerBox> {
            self.0.note("torrent.new_connection", attach.0.to_string());
            self.0.act("new_connection", |act| matches!(act, Act::Torrent(act) if act(cx)));
            Some(PeerBox::new(OnPeer(self.0.clone())))
        }
    }
}

fn shown(request: PeerRequest) -> String {
    format!("{}:{}+{}", request.piece.0, request.start, request.length)
}

probe! {
    PeerPlugin for OnPeer, PeerContext, Peer, "peer";
    add_handshake(entry: Entry<'_>) -> (), ;
    on_disconnect(error: ErrorCode) -> (), error.text().unwrap_or("");
    on_connected() -> (), ;
    on_handshake(reserved: Reserved) -> Keep, ;
    on_extension_handshake(message: Dict<'_>) -> Keep, ;
    on_choke() -> Verdict, ;
    on_unchoke() -> Verdict, ;
    on_interested() -> Verdict, ;
    on_not_interested() -> Verdict, ;
    on_have(piece: PieceIndex) -> Verdict, piece.0;
    on_dont_have(piece: PieceIndex) -> Verdict, piece.0;
    on_bitfield(bitfield: Bitfield<'_>) -> Verdict, bitfield.count();
    on_have_all() -> Verdict, ;
    on_have_none() -> Verdict, ;
    on_allowed_fast(piece: PieceIndex) -> Verdict, piece.0;
    on_request(request: PeerRequest) -> Verdict, shown(request);
    on_piece(request: PeerRequest, data: &[u8]) -> Verdict, shown(request);
    on_cancel(request: PeerRequest) -> Verdict, shown(request);
    on_reject(request: PeerRequest) -> Verdict, shown(request);
    on_suggest(piece: PieceIndex) -> Verdict, piece.0;
    sent_have_all() -> (), ;
    sent_have_none() -> (), ;
    sent_reject_request(request: PeerRequest) -> (), shown(request);
    sent_allow_fast(piece: PieceIndex) -> (), piece.0;
    sent_suggest(piece: PieceIndex) -> (), piece.0;
    sent_cancel(request: PeerRequest) -> (), shown(request);
    sent_request(request: PeerRequest) -> (), shown(request);
    sent_choke() -> (), ;
    sent_unchoke() -> (), ;
    sent_interested() -> (), ;
    sent_not_interested() -> (), ;
    sent_have(piece: PieceIndex) -> (), piece.0;
    sent_piece(request: PeerRequest) -> (), shown(request);
    sent_payload(bytes: u32) -> (), bytes;
    can_disconnect(error: ErrorCode) -> Consent, error.text().unwrap_or("");
    on_extended(length: u32, message: u8, body: &[u8]) -> Verdict, message, length;
    on_unknown_message(length: u32, message: u8, body: &[u8]) -> Verdict, message, length;
    on_piece_pass(piece: PieceIndex) -> (), piece.0;
    on_piece_failed(piece: PieceIndex) -> (), piece.0;
    tick() -> (), ;
    write_request(request: PeerRequest) -> Request, shown(request);
    {
        fn type_name(&mut self, _: &mut PeerContext<'_>) -> &'static str {
            "probe"
        }
    }
}
