//! Write plugins for the Pilotfish BitTorrent engine.
//!
//! A plugin is a shared library that a user drops into a directory. It sees every event that libtorrent's plugin interface
//! offers, may answer in the engine's place, and keeps working with every later host of the same major version, whatever
//! compiler built either. There are four traits, by what they are attached to: [`SessionPlugin`], [`TorrentPlugin`],
//! [`PeerPlugin`] and [`CipherPlugin`]. Each method has a default; `#[hooks]` on the `impl` block records those that are
//! written, and one that is not costs nothing.
//!
//! ```
//! use pilotfish_plugin::*;
//!
//! struct Torrent;
//! struct Peer { blocks: u64 }
//!
//! #[hooks]
//! impl TorrentPlugin for Torrent {
//!     fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
//!         Some(PeerBox::new(Peer { blocks: 0 }))
//!     }
//! }
//!
//! #[hooks]
//! impl PeerPlugin for Peer {
//!     fn on_piece(&mut self, cx: &mut PeerContext<'_>, piece: PeerRequest, _: &[u8]) -> Verdict {
//!         self.blocks += 1;
//!         cx.log(Level::Info, &format!("block {} of {}: piece {}", self.blocks, cx.this().remote(), piece.piece));
//!         Verdict::Continue
//!     }
//! }
//!
//! export_plugin!(torrent = |_, _, _| Some(TorrentBox::new(Torrent)));
//! ```
//!
//! # Threads
//!
//! Every hook runs on the session's one network thread, from `load_state` to `abort`. Plugin objects need not be `Send`.
//! A hook must not block: it holds up every connection. Work of your own belongs on a thread of your own, which reaches the
//! plugin through a [`Remote`]; its messages are delivered in the session's tick.
//!
//! # Order
//!
//! Plugins form a chain, in the order of registration. A message goes along the chain; the first [`Verdict::Handled`] ends
//! its way, and the engine's own handler stands behind the last plugin. **Hooks never nest**: what a hook asks for
//! (disconnect, pause, add, remove) is done after it has returned, in order, and the hooks which that causes come after
//! those of the event at hand. Marks such as `is_disconnecting` and `is_paused` are visible at once. (libtorrent calls back
//! recursively from inside `disconnect` and `pause`.)
//!
//! # Handles and contexts
//!
//! [`PeerHandle`] and [`TorrentHandle`] are plain numbers: keep them, send them anywhere. Only a context opens one, and
//! only as long as the thing is there: `cx.peer(handle)` is an `Option`.
//!
//! # Web seeds
//!
//! A server of a torrent's files ([`ConnectionType::URL_SEED`], [`ConnectionType::HTTP_SEED`]) is seen as a peer without
//! handshakes: `new_connection`, `on_connected`, then what it has (`on_have_all`, `on_have_none` or `on_bitfield`),
//! `on_suggest` if a block of an earlier connection is to be finished, and `on_unchoke`. `write_request` comes for each run
//! of neighbouring blocks of a piece, and `on_piece` for each block. `on_choke` says that the server will close the
//! connection, `on_dont_have` that what it sent was wrong, `on_have` that a redirect shows it to have another file. All of
//! these are [`MessageOrigin::IMPLIED`]. No `sent_` hook is called: nothing is sent to it but HTTP. There is no
//! [`Peer::bt`].
//!
//! # Panics
//!
//! A panic in a hook is caught in the plugin, and an alert names plugin, hook, message and place. A peer hook that panics
//! closes that connection; a torrent hook detaches the plugin from that torrent; a session hook detaches it from the
//! session. The object is never called again. After three panics a plugin is not attached to anything any more. Build with
//! `panic = "unwind"`, the default. What cannot be caught: a segmentation fault, a stack overflow, an endless loop. A
//! plugin is native code with all rights of the process.
//!
//! # Coming from libtorrent
//!
//! [`conformance`] lists every member of libtorrent's interface with its name here.
//!
//! # Versions
//!
//! This crate's version is the version of the interface. A host loads every plugin of its own major version: a hook that
//! an older host does not know is never called, a function that an older host does not have answers as if its object were
//! gone, and a hook that an older plugin does not have counts as not overridden.

mod alert;
mod answer;
mod ban;
mod bencode;
mod cipher_plugin;
mod config;
pub mod conformance;
mod context;
mod entry;
mod error;
mod host_api;
mod mailbox;
mod module;
mod panics;
mod peer;
mod peer_plugin;
mod session;
mod session_plugin;
mod table;
mod torrent;
mod torrent_plugin;
mod value;

pub use alert::{Alert, USER_ALERT_ID};
pub use answer::{CipherError, Consent, Keep, Request, Verdict};
pub use ban::Ban;
pub use bencode::{Dict, List, Value};
pub use cipher_plugin::{CipherBox, CipherHooks, CipherPlugin, Decrypted, Prefix};
pub use config::Config;
pub use context::{CipherContext, Level, PeerContext, SessionContext, TorrentContext};
pub use entry::Entry;
pub use error::{ErrorCode, Operation, Severity};
pub use mailbox::{Mailbox, PostError, Receive, Remote};
pub use peer::{BtPeer, Direction, Peer, PeerFlags, PeerInfo, RegisterError};
pub use peer_plugin::{Bitfield, PeerBox, PeerHooks, PeerPlugin};
pub use pilotfish_plugin_macros::hooks;
pub use session::{AddTorrentParams, CustomAlert, Session};
pub use session_plugin::{More, NO_SLOT, SessionBox, SessionHooks, SessionPlugin};
pub use torrent::{Torrent, TorrentStatus};
pub use torrent_plugin::{TorrentBox, TorrentHooks, TorrentPlugin};
pub use value::{
    AddPeerFlags, AlertCategory, Attach, ConnectionType, Features, InfoHashes, MessageOrigin, PeerHandle,
    PeerId, PeerRequest, PeerSource, PexFlags, PieceIndex, PieceOrigin, PluginId, Refusal, Reserved,
    TorrentFlags, TorrentHandle, TorrentState, Userdata,
};

/// What the type system rules out. Each block must fail to compile.
///
/// A context does not leave its thread:
/// ```compile_fail,E0277
/// fn hook(cx: &mut pilotfish_plugin::PeerContext<'_>) {
///     std::thread::scope(|s| { s.spawn(|| cx.log(pilotfish_plugin::Level::Info, "no")); });
/// }
/// ```
/// An open peer is not kept past the call:
/// ```compile_fail
/// use pilotfish_plugin::{Peer, PeerContext};
/// struct Keep { peer: Option<Peer<'static>> }
/// fn hook(keep: &mut Keep, cx: &mut PeerContext<'_>) { keep.peer = Some(cx.this()); }
/// ```
/// A handle alone does nothing:
/// ```compile_fail,E0599
/// use pilotfish_plugin::{ErrorCode, Operation, PeerHandle, Severity};
/// fn later(peer: PeerHandle) { peer.disconnect(ErrorCode::NO_ERROR, Operation::UNKNOWN, Severity::NORMAL); }
/// ```
/// A mailbox stays on the network thread:
/// ```compile_fail,E0277
/// fn ship(mailbox: pilotfish_plugin::Mailbox<u32>) { std::thread::spawn(move || drop(mailbox)); }
/// ```
/// A message that is not `Send` is not posted:
/// ```compile_fail
/// fn post(remote: &pilotfish_plugin::Remote<std::rc::Rc<u32>>) { let _ = remote.post(std::rc::Rc::new(1)); }
/// ```
/// An `impl` without `#[hooks]` is not boxed:
/// ```compile_fail,E0277
/// struct P;
/// impl pilotfish_plugin::PeerPlugin for P {}
/// fn boxed() -> pilotfish_plugin::PeerBox { pilotfish_plugin::PeerBox::new(P) }
/// ```
/// A misspelled hook is rustc's own error:
/// ```compile_fail,E0407
/// struct P;
/// #[pilotfish_plugin::hooks]
/// impl pilotfish_plugin::PeerPlugin for P { fn on_hvae(&mut self) {} }
/// ```
/// Plugin objects stay on their thread:
/// ```compile_fail,E0277
/// fn ship(plugin: pilotfish_plugin::PeerBox) { std::thread::spawn(move || drop(plugin)); }
/// ```
/// And what does compile: handles and remotes travel freely.
/// ```
/// fn travels<T: Send + Sync + 'static>() {}
/// travels::<pilotfish_plugin::PeerHandle>();
/// travels::<pilotfish_plugin::TorrentHandle>();
/// travels::<pilotfish_plugin::Remote<String>>();
/// ```
#[doc(hidden)]
pub struct CompileTimeGuarantees;

/// What macros and hosts need. Authors never name it.
#[doc(hidden)]
pub mod rt {
    pub use crate::alert::AlertRaw;
    pub use crate::answer::{HookStatus, IntoStatus};
    pub use crate::cipher_plugin::{CipherObject, CipherTable};
    pub use crate::context::Scope;
    pub use crate::entry::{EntryId, EntryRaw};
    pub use crate::host_api::*;
    pub use crate::mailbox::RawWaker;
    pub use crate::module::*;
    pub use crate::panics::{guard, guard_with, install_hook, take_panic};
    pub use crate::peer_plugin::{PeerObject, PeerTable, PeerVtableRef};
    pub use crate::session_plugin::{SessionObject, SessionTable, SessionVtableRef};
    pub use crate::table::{HookTrait, Overrides};
    pub use crate::torrent_plugin::{TorrentObject, TorrentTable, TorrentVtableRef};
    pub use crate::value::Endpoint;
    pub use abi_stable;
}
