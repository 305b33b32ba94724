//! What a hook may do while it runs.
//!
//! A context borrows the host for the length of one call. It is `!Send`, it cannot be kept, and it is the only thing
//! that opens a handle.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::time::Duration;

use abi_stable::StableAbi;

use crate::answer::HookStatus;
use crate::error::ErrorCode;
use crate::host_api::{HostApiRef, HostPtr, Sink};
use crate::mailbox::{Mailbox, RawWaker, Remote};
use crate::peer::Peer;
use crate::session::Session;
use crate::torrent::Torrent;
use crate::value::{MessageOrigin, PeerHandle, TorrentHandle};

/// The part that every context shares.
#[doc(hidden)]
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Scope {
    pub(crate) host: HostPtr,
    pub(crate) api: HostApiRef,
}

impl Scope {
    /// # Safety
    /// `host` is what the functions of `api` expect, and stays valid as long as the scope is used.
    pub unsafe fn new(host: HostPtr, api: HostApiRef) -> Self {
        Self { host, api }
    }

    /// What the functions are given.
    #[inline]
    pub fn host(self) -> HostPtr {
        self.host
    }

    /// Bytes that a host function hands out; `None` if the object is gone.
    #[inline]
    pub(crate) fn collect(&self, f: impl FnOnce(Sink<'_>) -> HookStatus) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        (f(Sink::to(&mut bytes)) != HookStatus::GONE).then_some(bytes)
    }

    pub(crate) fn text(&self, f: impl FnOnce(Sink<'_>) -> HookStatus) -> Option<String> {
        self.collect(f).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error = 1,
    /// Something is odd.
    Warn = 2,
    /// What a user may want to know.
    Info = 3,
    /// What an author wants to know.
    Debug = 4,
}

macro_rules! context {
    ($(#[$meta:meta])* $Cx:ident { $( $(#[$fmeta:meta])* $field:ident : $Ty:ty ),* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(StableAbi)]
        pub struct $Cx<'cx> {
            scope: Scope,
            $( $(#[$fmeta])* $field: $Ty, )*
            _host: PhantomData<&'cx mut ()>,
        }

        impl $Cx<'_> {
            /// # Safety
            /// `scope` is valid until the context is dropped, and the host uses no Rust reference to its own state
            /// meanwhile.
            #[doc(hidden)]
            #[inline]
            pub unsafe fn new(scope: Scope, $( $field: $Ty ),*) -> Self {
                Self { scope, $( $field, )* _host: PhantomData }
            }

            /// What the host lent for this call.
            #[doc(hidden)]
            #[inline]
            pub fn scope(&self) -> Scope {
                self.scope
            }

            /// Writes a line to the session's log, under the plugin's name.
            pub fn log(&self, level: Level, text: &str) {
                if let Some(f) = self.scope.api.log().log() {
                    // SAFETY: the scope is valid, as `new` was promised.
                    unsafe { f(self.scope.host, level as u8, text.into()) };
                }
            }

            /// Whether anyone would see a line of this level, for lines that are costly to make.
            pub fn log_enabled(&self, level: Level) -> bool {
                // SAFETY: as in `log`.
                self.scope.api.log().enabled().is_some_and(|f| unsafe { f(self.scope.host, level as u8) == HookStatus::HANDLED })
            }

            /// Opens a handle. `None` once the connection is gone.
            #[inline]
            pub fn peer(&self, handle: PeerHandle) -> Option<Peer<'_>> {
                Peer::open(&self.scope, handle)
            }

            /// Opens a handle. `None` once the torrent is gone.
            #[inline]
            pub fn torrent(&self, handle: TorrentHandle) -> Option<Torrent<'_>> {
                Torrent::open(&self.scope, handle)
            }

            /// The session (libtorrent's `session_handle`).
            #[inline]
            pub fn session(&self) -> Session<'_> {
                Session { scope: &self.scope }
            }

            /// The text of an error code, also of codes that are newer than this plugin.
            pub fn describe(&self, error: ErrorCode) -> String {
                let asked = self.scope.api.session().describe().and_then(|f| {
                    // SAFETY: as in `log`; the sink lives through the call.
                    self.scope.text(|sink| unsafe { f(self.scope.host, error, sink) })
                });
                asked.or_else(|| error.text().map(str::to_owned)).unwrap_or_else(|| format!("error {}:{}", error.category, error.value))
            }

            /// The session's clock: time since the session started. In a simulation it is virtual, so a plugin that
            /// measures time by this one can be tested without waiting.
            pub fn now(&self) -> Duration {
                let mut ms = 0;
                if let Some(f) = self.scope.api.session().now() {
                    // SAFETY: as in `log`.
                    unsafe { f(self.scope.host, &mut ms) };
                }
                Duration::from_millis(ms)
            }

            /// A queue from the plugin's own threads to the network thread, for up to `capacity` messages at a time.
            /// Give the [`Mailbox`] to `SessionBox::with_mailbox`, and keep the [`Remote`] wherever messages come from.
            pub fn mailbox<M: Send + 'static>(&self, capacity: usize) -> (Mailbox<M>, Remote<M>) {
                let mut waker = RawWaker::noop();
                if let Some(f) = self.scope.api.session().waker() {
                    // SAFETY: as in `log`.
                    unsafe { f(self.scope.host, &mut waker) };
                }
                crate::mailbox::channel(waker, capacity)
            }
        }
    };
}

context! {
    /// Lent to every hook of a session plugin.
    SessionContext {}
}
context! {
    /// Lent to every hook of a torrent plugin.
    TorrentContext { torrent: TorrentHandle }
}
context! {
    /// Lent to every hook of a peer plugin.
    PeerContext { peer: PeerHandle, torrent: TorrentHandle, origin: MessageOrigin }
}
context! {
    /// Lent to every hook of a cipher plugin.
    CipherContext { peer: PeerHandle }
}

impl TorrentContext<'_> {
    /// The handle of the torrent that the plugin is attached to, to keep.
    #[inline]
    pub fn handle(&self) -> TorrentHandle {
        self.torrent
    }

    /// The torrent that the plugin is attached to.
    #[inline]
    pub fn this(&self) -> Torrent<'_> {
        Torrent { scope: &self.scope, handle: self.torrent }
    }
}

impl PeerContext<'_> {
    /// The handle of the connection that the plugin is attached to, to keep.
    #[inline]
    pub fn handle(&self) -> PeerHandle {
        self.peer
    }

    /// The connection that the plugin is attached to.
    #[inline]
    pub fn this(&self) -> Peer<'_> {
        Peer { scope: &self.scope, handle: self.peer }
    }

    /// The torrent that the connection belongs to, from `new_connection` on.
    #[inline]
    pub fn this_torrent(&self) -> Torrent<'_> {
        Torrent { scope: &self.scope, handle: self.torrent }
    }

    /// Whether the peer sent what this hook is about, or the engine implied it.
    #[inline]
    pub fn origin(&self) -> MessageOrigin {
        self.origin
    }
}

impl CipherContext<'_> {
    /// The handle of the connection that the cipher is on.
    #[inline]
    pub fn handle(&self) -> PeerHandle {
        self.peer
    }
}
