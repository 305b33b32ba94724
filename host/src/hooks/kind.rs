//! The three sorts of chain: on the session, on a torrent, on a connection.

use pilotfish_plugin::rt::{PeerObject, Scope, SessionObject, TorrentObject};
use pilotfish_plugin::{
    MessageOrigin, PeerContext, PeerHandle, PeerHooks, SessionContext, SessionHooks, TorrentContext,
    TorrentHandle, TorrentHooks,
};

use super::Place;

/// One sort of chain: its objects, its set of hooks, and the context that a call is given.
pub trait Kind {
    /// A plugin object with its flat table.
    type Object;
    /// A set of hooks.
    type Set: Copy;
    /// What a call is about.
    type Subject: Copy;
    /// What a call is given.
    type Cx<'a>;

    /// The hooks that an object overrides.
    fn set(object: &Self::Object) -> u64;
    /// A set as bits, in the order of [`name`](Self::name).
    fn bits(set: Self::Set) -> u64;
    /// The name of the lowest hook in the set.
    fn name(set: Self::Set) -> &'static str;
    /// What an object of this sort is attached to.
    fn place(subject: Self::Subject) -> Place;
    /// The context of one call.
    ///
    /// # Safety
    /// As for `pilotfish_plugin`'s contexts: the scope is valid, and its host is not used otherwise, until the context is
    /// dropped.
    unsafe fn context<'a>(scope: Scope, subject: Self::Subject) -> Self::Cx<'a>;
}

/// Chains on the session.
pub enum Sessions {}

/// Chains on torrents.
pub enum Torrents {}

/// Chains on connections.
pub enum Peers {}

/// What a call to a peer plugin is about.
#[derive(Clone, Copy, Debug)]
pub struct PeerSubject {
    /// The connection.
    pub peer: PeerHandle,
    /// Its torrent.
    pub torrent: TorrentHandle,
    /// Whether the peer sent it.
    pub origin: MessageOrigin,
}

fn name_of(bits: u64, names: &[&'static str]) -> &'static str {
    names.get(bits.trailing_zeros() as usize).copied().unwrap_or("?")
}

impl Kind for Sessions {
    type Object = SessionObject;
    type Set = SessionHooks;
    type Subject = ();
    type Cx<'a> = SessionContext<'a>;

    fn set(object: &SessionObject) -> u64 {
        object.set().bits()
    }
    fn bits(set: SessionHooks) -> u64 {
        set.bits()
    }
    fn name(set: SessionHooks) -> &'static str {
        name_of(set.bits(), SessionHooks::NAMES)
    }
    fn place((): ()) -> Place {
        Place::Session
    }
    unsafe fn context<'a>(scope: Scope, (): ()) -> SessionContext<'a> {
        // SAFETY: the caller's promise.
        unsafe { SessionContext::new(scope) }
    }
}

impl Kind for Torrents {
    type Object = TorrentObject;
    type Set = TorrentHooks;
    type Subject = TorrentHandle;
    type Cx<'a> = TorrentContext<'a>;

    fn set(object: &TorrentObject) -> u64 {
        object.set().bits()
    }
    fn bits(set: TorrentHooks) -> u64 {
        set.bits()
    }
    fn name(set: TorrentHooks) -> &'static str {
        name_of(set.bits(), TorrentHooks::NAMES)
    }
    fn place(torrent: TorrentHandle) -> Place {
        Place::Torrent(torrent)
    }
    unsafe fn context<'a>(scope: Scope, torrent: TorrentHandle) -> TorrentContext<'a> {
        // SAFETY: the caller's promise.
        unsafe { TorrentContext::new(scope, torrent) }
    }
}

impl Kind for Peers {
    type Object = PeerObject;
    type Set = PeerHooks;
    type Subject = PeerSubject;
    type Cx<'a> = PeerContext<'a>;

    fn set(object: &PeerObject) -> u64 {
        object.set().bits()
    }
    fn bits(set: PeerHooks) -> u64 {
        set.bits()
    }
    fn name(set: PeerHooks) -> &'static str {
        name_of(set.bits(), PeerHooks::NAMES)
    }
    fn place(subject: PeerSubject) -> Place {
        Place::Peer(subject.peer)
    }
    unsafe fn context<'a>(scope: Scope, subject: PeerSubject) -> PeerContext<'a> {
        // SAFETY: the caller's promise.
        unsafe { PeerContext::new(scope, subject.peer, subject.torrent, subject.origin) }
    }
}
