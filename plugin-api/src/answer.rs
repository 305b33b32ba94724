//! What a hook answers, and how the answer crosses the boundary.
//!
//! libtorrent answers everything with `bool`, and `true` means "handled" in one hook and "stay" in the next. Here every
//! question has its own two or three words.

use abi_stable::StableAbi;

/// Answer of a message hook: whether the event goes on to the next plugin and to the engine.
///
/// libtorrent: `false` is [`Continue`](Self::Continue), `true` is [`Handled`](Self::Handled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    /// The next plugin sees the event, and at last the engine's own handler.
    #[default]
    Continue,
    /// The event ends here: neither a later plugin nor the engine handles it.
    Handled,
}

/// Answer of a handshake hook: whether the plugin stays attached to the connection.
///
/// libtorrent: `true` is [`Stay`](Self::Stay), `false` is [`Leave`](Self::Leave).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Keep {
    /// The plugin sees the rest of the connection.
    #[default]
    Stay,
    /// The plugin is dropped from this connection at once, without `on_disconnect`.
    Leave,
}

/// Answer of `can_disconnect`: whether the engine may close the connection.
///
/// libtorrent: `true` is [`Allow`](Self::Allow), `false` is [`Refuse`](Self::Refuse).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Consent {
    /// This plugin has nothing against it.
    #[default]
    Allow,
    /// The connection stays open. The engine asks again while its reason holds.
    Refuse,
}

/// Answer of `write_request`: what became of a request that the engine was about to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Request {
    /// The engine sends it.
    #[default]
    Continue,
    /// The plugin sent it, or something in its place: the engine sends nothing and still expects the block from this
    /// peer, under the usual timeouts. This is libtorrent's `true`.
    Sent,
    /// Nothing was sent, and nothing will come: the engine is free to ask another peer for the block.
    Dropped,
}

/// A cipher could not go on: the connection is closed, as with libtorrent's `produce == -1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherError;

impl std::fmt::Display for CipherError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the cipher cannot go on")
    }
}

impl std::error::Error for CipherError {}

/// What every hook and every host function returns on the wire.
///
/// A byte, never an enum: an enum with an unexpected value would be undefined behaviour, while a byte is merely
/// unexpected. The host takes a status that it does not know for [`CONTINUE`](Self::CONTINUE).
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct HookStatus(pub u8);

impl HookStatus {
    /// Also `Stay`, `Allow`, `Ok`, and "no" of a host function that answers a question.
    pub const CONTINUE: Self = Self(0);
    /// Also `Leave`, `Refuse`, `Sent`, "more", and "yes" of a host function that answers a question.
    pub const HANDLED: Self = Self(1);
    /// `Request::Dropped`, `CipherError`, and "refused" of a host function.
    pub const DROPPED: Self = Self(2);
    /// A host function: the object that a handle named is gone, or the argument names nothing.
    pub const GONE: Self = Self(0xFE);
    /// A hook: the plugin panicked; the report is with `take_panic`.
    pub const PANICKED: Self = Self(0xFF);

    pub(crate) fn yes(yes: bool) -> Self {
        if yes { Self::HANDLED } else { Self::CONTINUE }
    }
}

/// An answer as a byte.
#[doc(hidden)]
pub trait IntoStatus {
    /// The byte.
    fn into_status(self) -> HookStatus;
}

impl IntoStatus for () {
    #[inline(always)]
    fn into_status(self) -> HookStatus {
        HookStatus::CONTINUE
    }
}

impl IntoStatus for Verdict {
    #[inline(always)]
    fn into_status(self) -> HookStatus {
        HookStatus::yes(self == Self::Handled)
    }
}

impl IntoStatus for Keep {
    #[inline(always)]
    fn into_status(self) -> HookStatus {
        HookStatus::yes(self == Self::Leave)
    }
}

impl IntoStatus for Consent {
    #[inline(always)]
    fn into_status(self) -> HookStatus {
        HookStatus::yes(self == Self::Refuse)
    }
}

impl IntoStatus for Request {
    #[inline(always)]
    fn into_status(self) -> HookStatus {
        match self {
            Self::Continue => HookStatus::CONTINUE,
            Self::Sent => HookStatus::HANDLED,
            Self::Dropped => HookStatus::DROPPED,
        }
    }
}

impl IntoStatus for Result<(), CipherError> {
    #[inline(always)]
    fn into_status(self) -> HookStatus {
        if self.is_ok() { HookStatus::CONTINUE } else { HookStatus::DROPPED }
    }
}
