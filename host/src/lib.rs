//! A BitTorrent engine that strangers extend without rebuilding it.

pub mod disk;
pub mod job;
pub mod metainfo;
pub mod peer;
pub mod settings;
pub mod torrent;
pub mod wire;
