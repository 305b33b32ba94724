//! torrent

pub mod availability;
pub mod blocks;
pub mod candidates;
pub mod choker;
pub mod picker;
