//! The plugins: every hook is overridden, does something at random, and answers at random.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pilotfish_plugin::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::mischief;

/// What a plugin says when it panics on purpose.
const ON_PURPOSE: &str = "a plugin panics on purpose";

/// What all plugin objects of a run share.
pub(crate) struct Shared {
    rng: Mutex<StdRng>,
    /// Plugins do nothing any more, and answer as by default.
    pub(crate) calm: AtomicBool,
    /// Whether this run has panics.
    panics: bool,
    /// In one of so many hooks something is done.
    reserve: usize,
    /// In every hook something is done, as long as the budget lasts.
    pub(crate) storm: AtomicBool,
    /// Plugin objects that exist.
    pub(crate) live: AtomicI64,
    /// Calls of hooks.
    pub(crate) hooks: AtomicU64,
    /// How often plugins may still do something before the next event: what they do calls hooks.
    pub(crate) budget: AtomicI64,
    /// Files may have been deleted under a torrent.
    pub(crate) deleted: AtomicBool,
    /// Torrent files.
    pub(crate) files: Vec<Vec<u8>>,
    /// Handles that were good once.
    pub(crate) old: Mutex<(Vec<PeerHandle>, Vec<TorrentHandle>)>,
}

impl Shared {
    pub(crate) fn new(seed: u64, files: Vec<Vec<u8>>) -> Arc<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        Arc::new(Self {
            panics: rng.random_bool(0.3),
            reserve: [6, 30, 150, 600][rng.random_range(0..4)],
            storm: AtomicBool::new(false),
            rng: Mutex::new(rng),
            calm: AtomicBool::new(false),
            live: AtomicI64::new(0),
            hooks: AtomicU64::new(0),
            budget: AtomicI64::new(0),
            deleted: AtomicBool::new(false),
            files,
            old: Mutex::default(),
        })
    }

    /// A number below `n`.
    pub(crate) fn below(&self, n: usize) -> usize {
        self.rng.lock().unwrap().random_range(0..n)
    }

    pub(crate) fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn any(&self) -> u64 {
        self.rng.lock().unwrap().random()
    }

    pub(crate) fn bytes(&self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.any() as u8).collect()
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Whether something is to be done in this hook.
    fn acts(&self) -> bool {
        self.hooks.fetch_add(1, Ordering::Relaxed);
        let stormy = self.storm.load(Ordering::Relaxed);
        if self.is_calm() || !(stormy || self.one_in(self.reserve)) {
            return false;
        }
        if self.budget.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return false;
        }
        if self.panics && self.one_in(100) {
            std::panic::panic_any(ON_PURPOSE);
        }
        true
    }
}

/// Keeps panics on purpose from stderr.
pub(crate) fn hush() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&ON_PURPOSE) {
            previous(info);
        }
    }));
}

/// Counts as long as it lives.
pub(crate) struct Alive(Arc<Shared>);

impl Alive {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.live.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One plugin object, on whatever.
pub(crate) struct Chatty {
    pub(crate) shared: Arc<Shared>,
    /// Posts to the session object, from inside hooks; other threads would make runs differ.
    remote: Option<Remote<u32>>,
    _alive: Alive,
}

impl Chatty {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), remote: None, _alive: Alive::new(shared) }
    }

    /// The object of the session.
    pub(crate) fn open(shared: &Arc<Shared>, cx: &mut SessionContext<'_>) -> SessionBox {
        let (mailbox, remote) = cx.mailbox(16);
        SessionBox::with_mailbox(Self { remote: Some(remote), ..Self::new(shared) }, mailbox)
    }

    fn child<B>(&self, boxed: impl FnOnce(Self) -> B) -> Option<B> {
        let child = Self { remote: self.remote.clone(), ..Self::new(&self.shared) };
        (!self.shared.one_in(10)).then(|| boxed(child))
    }

    fn hook(&self, cx: &impl mischief::Reach) {
        if self.shared.acts() {
            if let Some(remote) = self.remote.as_ref().filter(|_| self.shared.one_in(8)) {
                // It may be full.
                let _ = remote.post(7);
            }
            mischief::act(&self.shared, cx);
        }
    }
}

/// An answer at random; mostly the default.
trait Word: Sized {
    fn pick(shared: &Shared) -> Self;
}

macro_rules! words {
    ($( $Word:ty: $default:expr, one in $n:literal $other:expr; )*) => {
        $( impl Word for $Word {
            fn pick(shared: &Shared) -> Self {
                let other: fn(&Shared) -> Self = $other;
                if !shared.is_calm() && shared.one_in($n * shared.reserve / 6) { other(shared) } else { $default }
            }
        } )*
    };
}

words! {
    (): (), one in 1_000 |_| ();
    Verdict: Self::Continue, one in 12 |_| Self::Handled;
    Keep: Self::Stay, one in 20 |_| Self::Leave;
    Consent: Self::Allow, one in 3 |_| Self::Refuse;
    Request: Self::Continue, one in 8 |shared| if shared.one_in(2) { Self::Sent } else { Self::Dropped };
    u64: Self::MAX, one in 2 |shared| shared.any();
    i64: 0, one in 2 |shared| shared.any().cast_signed();
    bool: false, one in 3 |_| true;
}

macro_rules! chat {
    ($Cx:ident; $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) -> $ret:ty; )*) => {
        $(
            fn $name(&mut self, cx: &mut $Cx<'_>, $( $arg: $ty ),*) -> $ret {
                $( let _ = $arg; )*
                self.hook(cx);
                Word::pick(&self.shared)
            }
        )*
    };
}

#[hooks]
impl SessionPlugin for Chatty {
    chat! { SessionContext;
        fn added() -> ();
        fn on_alert(alert: Alert<'_>) -> ();
        fn on_tick() -> ();
        fn get_unchoke_priority(peer: PeerHandle) -> u64;
        fn unchoke_score(peer: PeerHandle) -> i64;
        fn load_state(state: Dict<'_>) -> ();
        fn torrent_removed(torrent: TorrentHandle) -> ();
    }

    fn new_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        torrent: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        self.shared.old.lock().unwrap().1.push(torrent);
        self.hook(cx);
        self.child(TorrentBox::new)
    }

    fn on_unknown_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        _: InfoHashes,
        _: PeerHandle,
        mut params: AddTorrentParams<'_>,
    ) -> Verdict {
        self.hook(cx);
        mischief::fill(&self.shared, &mut params);
        Word::pick(&self.shared)
    }

    fn save_state(&mut self, cx: &mut SessionContext<'_>, mut state: Entry<'_>) {
        self.hook(cx);
        mischief::scribble(&self.shared, &mut state);
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        self.hook(cx);
        if self.shared.is_calm() || self.shared.one_in(2) {
            cx.session().done();
        }
    }
}

impl Receive<u32> for Chatty {
    fn on_message(&mut self, cx: &mut SessionContext<'_>, _: u32) {
        self.hook(cx);
    }
}

#[hooks]
impl TorrentPlugin for Chatty {
    chat! { TorrentContext;
        fn on_piece_pass(piece: PieceIndex, origin: PieceOrigin) -> ();
        fn on_piece_failed(piece: PieceIndex) -> ();
        fn tick() -> ();
        fn on_resume() -> Verdict;
        fn on_pause() -> Verdict;
        fn on_files_checked() -> ();
        fn on_state(state: TorrentState) -> ();
        fn on_add_peer(address: SocketAddr, source: PeerSource, sources: PeerSource, flags: AddPeerFlags, refusal: Refusal) -> ();
        fn on_metadata() -> ();
        fn on_metadata_failed() -> ();
        fn on_block_read(block: PeerRequest, data: &[u8], error: ErrorCode) -> ();
        fn on_removed() -> ();
        fn on_block_hash(block: PeerRequest, sha1: &[u8], error: ErrorCode) -> ();
    }

    fn new_connection(
        &mut self,
        cx: &mut TorrentContext<'_>,
        peer: PeerHandle,
        _: Attach,
    ) -> Option<PeerBox> {
        self.shared.old.lock().unwrap().0.push(peer);
        self.hook(cx);
        self.child(PeerBox::new)
    }
}

#[hooks]
impl PeerPlugin for Chatty {
    chat! { PeerContext;
        fn on_disconnect(error: ErrorCode) -> ();
        fn on_connected() -> ();
        fn on_handshake(reserved: Reserved) -> Keep;
        fn on_extension_handshake(message: Dict<'_>) -> Keep;
        fn on_choke() -> Verdict;
        fn on_unchoke() -> Verdict;
        fn on_interested() -> Verdict;
        fn on_not_interested() -> Verdict;
        fn on_have(piece: PieceIndex) -> Verdict;
        fn on_dont_have(piece: PieceIndex) -> Verdict;
        fn on_bitfield(bitfield: Bitfield<'_>) -> Verdict;
        fn on_have_all() -> Verdict;
        fn on_have_none() -> Verdict;
        fn on_allowed_fast(piece: PieceIndex) -> Verdict;
        fn on_request(request: PeerRequest) -> Verdict;
        fn on_cancel(request: PeerRequest) -> Verdict;
        fn on_reject(request: PeerRequest) -> Verdict;
        fn on_suggest(piece: PieceIndex) -> Verdict;
        fn sent_have_all() -> ();
        fn sent_have_none() -> ();
        fn sent_reject_request(request: PeerRequest) -> ();
        fn sent_allow_fast(piece: PieceIndex) -> ();
        fn sent_suggest(piece: PieceIndex) -> ();
        fn sent_cancel(request: PeerRequest) -> ();
        fn sent_request(request: PeerRequest) -> ();
        fn sent_choke() -> ();
        fn sent_unchoke() -> ();
        fn sent_interested() -> ();
        fn sent_not_interested() -> ();
        fn sent_have(piece: PieceIndex) -> ();
        fn sent_piece(piece: PeerRequest) -> ();
        fn sent_payload(bytes: u32) -> ();
        fn can_disconnect(error: ErrorCode) -> Consent;
        fn on_piece_pass(piece: PieceIndex) -> ();
        fn on_piece_failed(piece: PieceIndex) -> ();
        fn tick() -> ();
        fn write_request(request: PeerRequest) -> Request;
        fn wants_fragments() -> bool;
    }

    fn type_name(&mut self, cx: &mut PeerContext<'_>) -> &'static str {
        self.hook(cx);
        if self.shared.one_in(2) { "chatty" } else { "" }
    }

    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, mut entry: Entry<'_>) {
        self.hook(cx);
        for name in ["one", "two"].into_iter().filter(|_| self.shared.one_in(2)) {
            // Another plugin may have it.
            let _ = cx.this().register_extended(name);
        }
        if self.shared.acts() {
            mischief::scribble(&self.shared, &mut entry);
        }
    }

    /// What is lent is handed straight back.
    fn on_piece(&mut self, cx: &mut PeerContext<'_>, _: PeerRequest, data: &[u8]) -> Verdict {
        if self.shared.acts() {
            cx.this().send_extended("one", data);
        }
        self.hook(cx);
        Word::pick(&self.shared)
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, _: u32, _: u8, body: &[u8]) -> Verdict {
        if self.shared.acts() {
            cx.this().send_buffer(body);
        }
        self.hook(cx);
        Word::pick(&self.shared)
    }

    fn on_unknown_message(&mut self, cx: &mut PeerContext<'_>, _: u32, _: u8, body: &[u8]) -> Verdict {
        if self.shared.acts() {
            cx.this().send_extended("two", body);
        }
        self.hook(cx);
        Word::pick(&self.shared)
    }
}
