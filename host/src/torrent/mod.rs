//! One torrent and its swarm, without sockets and files: which blocks to ask for, whom to serve, whom to connect to.
//!
//! [`Torrent`] is the state. The algorithms beside it know no session, and can be tested alone.

mod announce;
mod availability;
mod bans;
mod blocks;
mod candidates;
mod choker;
mod picker;
mod record;
pub mod selection;
mod swarm;
mod web_seeds;

pub use announce::{AnnouncePolicy, Due, Tracker, TrackerId, Trackers};
pub use bans::{BanReason, Bans};
pub use candidates::{Added, CandidateLimits, Candidates, Known, Refusal};
pub use choker::{Candidate, Choker, ChokerLimits, Decision};
pub use picker::{Begun, Block, PickOptions, Picked, Picker, Priority};
pub use record::{Looking, Record};
pub use swarm::{Company, Torrent};
pub use web_seeds::{Has, WebSeed, WebSeeds, pieces_of};
