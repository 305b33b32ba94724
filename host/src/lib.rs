//! A BitTorrent engine that strangers extend without rebuilding it.

pub mod alert;
pub mod cli;
pub mod command;
pub mod disk;
pub mod engine;
pub mod hooks;
pub mod job;
pub mod metainfo;
pub mod net;
pub mod peer;
pub mod plugins;
pub mod session;
pub mod settings;
pub mod torrent;
pub mod wire;
