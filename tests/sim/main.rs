//! Whole swarms of engines on one virtual clock. What they are made of is in `harness/sim`.
#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod alone;
mod chaos;
mod choking;
mod ciphers;
mod disk;
mod effects;
mod encryption;
mod endings;
mod entries;
mod extended;
mod greetings;
mod handles;
mod handshakes;
mod inbound;
mod ip_filters;
mod liars;
mod magnets;
mod outbound;
mod pauses;
mod plugins;
mod rate_limits;
mod reads;
mod registration;
mod resume;
mod session;
mod speed;
mod stranger;
mod swarm;
mod torrent_handles;
mod torrent_hooks;
mod trackers;
mod trackers_udp;
mod transfer;
mod unknown_torrents;
mod web_seeds;
