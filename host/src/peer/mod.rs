//! One connection to a peer, without its socket: what was said, what is on its way, how fast it goes.
//!
//! Nothing here knows a torrent beyond its numbers, or calls a plugin. [`Connection`] is the state; the other modules are
//! its parts.

mod bandwidth;
mod bitfield;
mod connection;
mod extended;
mod fast;
mod introductions;
pub mod mse;
mod outbox;
mod pipe;
mod priority;
mod rates;
mod requests;
mod send_ahead;
mod transport;
pub mod web;

pub use bandwidth::{Allowance, Budget, Direction, LEAST_GRANT, ip_overhead};
pub use bitfield::Bitfield;
pub(crate) use bitfield::ones;
pub use connection::{
    Arriving, Closing, Connection, Encryption, Phase, as_peer_request, as_piece, as_raw, as_request,
};
pub use extended::{
    ENGINE_EXTENSIONS, Extensions, LT_DONTHAVE, RegisterError, SHARE_MODE, UPLOAD_ONLY, UT_HOLEPUNCH,
};
pub use fast::allowed_fast;
pub use introductions::Introductions;
pub use outbox::{Outbox, Segment};
pub use priority::peer_priority;
pub use rates::Meter;
pub use requests::{RequestLimits, RequestQueue};
pub use send_ahead::SendAhead;
pub use transport::Transport;
