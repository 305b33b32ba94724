//! torrent

pub mod availability;
pub mod blocks;
pub mod picker;
