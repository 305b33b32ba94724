//! A BitTorrent engine that strangers extend without rebuilding it.
//!
//! The command line, `pilotfish`, is a thin layer over this library. A program that embeds the engine starts a
//! [`Session`](session::Session), gives it torrents, and hears of everything as [`Alert`](alert::Alert)s. Plugins come from
//! shared libraries ([`plugins::load`]), or are linked in, as here:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use pilotfish::alert::AlertKind;
//! use pilotfish::command::{AddTorrent, PluginSource};
//! use pilotfish::metainfo::Metainfo;
//! use pilotfish::session::{Session, SessionParams};
//! use pilotfish_plugin::{AlertCategory, Level, SessionBox, SessionContext, SessionPlugin, TorrentHandle, hooks};
//!
//! struct Goodbye;
//!
//! #[hooks]
//! impl SessionPlugin for Goodbye {
//!     fn torrent_removed(&mut self, cx: &mut SessionContext<'_>, torrent: TorrentHandle) {
//!         let name = cx.torrent(torrent).map(|torrent| torrent.name()).unwrap_or_default();
//!         cx.log(Level::Info, &format!("goodbye, {name}"));
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut params = SessionParams::default();
//! params.settings.alert_mask = AlertCategory::ALL;
//! let (session, alerts) = Session::start(params)?;
//! session.add_extension(PluginSource::linked("goodbye", |_| Ok(SessionBox::new(Goodbye))))?;
//!
//! let metainfo = Metainfo::parse(&std::fs::read("debian.torrent")?)?;
//! let torrent = session.add_torrent(AddTorrent { save_path: Some("downloads".into()), ..AddTorrent::new(metainfo) })?;
//! session.connect_peer(torrent, "192.0.2.7:6881".parse()?, pilotfish_plugin::PeerSource::NONE);
//! while let Some(alert) = alerts.recv_timeout(Duration::from_secs(60)) {
//!     println!("{}", alert.kind.message());
//!     if let AlertKind::TorrentFinished { .. } = alert.kind {
//!         break;
//!     }
//! }
//! session.shutdown();
//! # Ok(())
//! # }
//! ```
//!
//! Below the session, the engine is one value without sockets, files, threads or clocks ([`engine::Engine`]): a whole swarm
//! with real plugins runs inside a test. A module imports only from the rows above it:
//!
//! | layer | modules |
//! |---|---|
//! | 0 | `pilotfish-plugin`, the interface of plugins |
//! | 1 | [`wire`], [`metainfo`]: bytes and values |
//! | 2 | [`settings`], [`alert`], [`command`], [`job`], [`ip_filter`]; [`hooks`]: calling plugins; [`peer`]: one connection; [`dht`]: one node |
//! | 3 | [`torrent`]: one swarm; [`plugins`]: loading libraries |
//! | 4 | [`engine`]: the session without I/O, and the functions that plugins call |
//! | 5 | [`disk`], [`net`], [`session`]: threads, files, sockets |
//! | 6 | [`cli`]: the command line |

pub mod alert;
pub mod cli;
pub mod command;
pub mod dht;
pub mod disk;
pub mod engine;
pub mod hooks;
pub mod ip_filter;
pub mod job;
pub mod metainfo;
pub mod net;
pub mod peer;
pub mod plugins;
pub mod session;
pub mod settings;
pub mod torrent;
pub mod wire;
