//! A BitTorrent engine that strangers extend without rebuilding it.

pub mod alert;
pub mod command;
pub mod disk;
pub mod engine;
pub mod hooks;
pub mod job;
pub mod metainfo;
pub mod peer;
pub mod plugins;
pub mod settings;
pub mod torrent;
pub mod wire;
