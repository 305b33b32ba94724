//! How the host calls hooks: flat chains of plugin objects, walked with six verbs.
//!
//! This layer knows no torrent and no connection. The host behind it is an opaque value that hands out a [`Scope`] for each
//! call ([`Host`]); while the call lasts, nothing here or above uses a Rust reference into that value.
#![allow(unsafe_code)]

mod chain;
mod kind;

pub use chain::{Chain, Sprouted};
pub use kind::{Kind, PeerSubject, Peers, Sessions, Torrents};

use pilotfish_plugin::rt::{CipherObject, HookStatus, Scope, Sink};
use pilotfish_plugin::{CipherContext, PeerHandle, PluginId, SessionContext};

/// The value behind the functions that plugins call.
///
/// # Safety
/// The scope that [`scope`](Self::scope) returns must be valid for hook calls for as long as `self` is not used in any other way
/// but [`hand_to`](Self::hand_to).
pub unsafe trait Host {
    /// What a plugin is given to call back with.
    fn scope(&mut self, caller: PluginId) -> Scope;

    /// The next call is given a scope that there is already, and is another plugin's.
    ///
    /// # Safety
    /// The scope is valid, and the newest of its host's; no call is under way.
    unsafe fn hand_to(scope: Scope, caller: PluginId);

    /// A hook panicked; its object is retired already. `place` is what it was attached to.
    fn fault(&mut self, plugin: PluginId, hook: &'static str, place: Place);
}

/// Calls something that needs a session context, outside any chain: a plugin's constructor.
pub fn with_session_context<H: Host, R>(
    host: &mut H,
    caller: PluginId,
    call: impl FnOnce(&mut SessionContext<'_>) -> R,
) -> R {
    // SAFETY: the scope is fresh, and `host` is not touched until the context is gone.
    let mut cx = unsafe { SessionContext::new(host.scope(caller)) };
    call(&mut cx)
}

/// Calls one hook of a cipher. A panic is recorded as a fault of its connection.
pub fn call_cipher<H: Host>(
    host: &mut H,
    owner: PluginId,
    peer: PeerHandle,
    hook: &'static str,
    cipher: &mut CipherObject,
    call: impl FnOnce(&mut CipherObject, &mut CipherContext<'_>) -> Option<HookStatus>,
) -> HookStatus {
    // SAFETY: the scope is fresh, and `host` is not touched until the context is gone.
    let mut cx = unsafe { CipherContext::new(host.scope(owner), peer) };
    let status = call(cipher, &mut cx).unwrap_or(HookStatus::CONTINUE);
    if status == HookStatus::PANICKED {
        host.fault(owner, hook, Place::Peer(peer));
    }
    status
}

/// Hands out the report of a plugin's last panic on this thread.
pub fn take_panic(report: unsafe extern "C" fn(Sink<'_>) -> HookStatus, sink: Sink<'_>) -> HookStatus {
    // SAFETY: the function is that of a plugin's module, or of the plugins linked in; the sink lives through the call.
    unsafe { report(sink) }
}

/// What a plugin object is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The session.
    Session,
    /// A torrent.
    Torrent(pilotfish_plugin::TorrentHandle),
    /// A connection.
    Peer(PeerHandle),
}
