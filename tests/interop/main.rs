//! The program as users run it, against the real libtorrent, on loopback.
//!
//! libtorrent is a Python package that the first test to need it installs under the target directory. Where it cannot be
//! installed, the tests fail: an interoperability that was not tested is not there.
//!
//! With the feature `debian`, there are tests with programs that are Debian packages, too; where one is not installed, its tests
//! fail and name it.
//!
//! `PILOTFISH_INTEROP_SIZE` changes how many bytes the plain transfers in both directions, and the one with plugins, are about.
#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod conveniences;
mod data;
mod dht;
mod download;
mod encryption;
#[cfg(feature = "debian")]
mod firewalls;
mod interruption;
mod limits;
#[cfg(feature = "debian")]
mod local_discovery;
mod lossy;
mod magnets;
mod mainline;
#[cfg(feature = "debian")]
mod network;
#[cfg(feature = "debian")]
mod opentracker;
mod peers;
mod pex;
mod plugins;
mod process;
#[cfg(feature = "debian")]
mod qbittorrent;
mod resume;
mod trackers;
#[cfg(feature = "debian")]
mod transmission;
mod upload;
mod utp;
mod web_seeds;

use data::MIB;

/// How many bytes the plain transfers are about.
fn size() -> u64 {
    match std::env::var("PILOTFISH_INTEROP_SIZE") {
        Ok(size) => {
            size.parse().unwrap_or_else(|_| panic!("PILOTFISH_INTEROP_SIZE={size}: not a number of bytes"))
        }
        Err(_) => 32 * MIB,
    }
}
