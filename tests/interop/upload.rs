//! Pilotfish has the data, libtorrent downloads.

use crate::data::{Data, MIB};
use crate::peers::{leech, seed};
use crate::size;

/// libtorrent gets everything from a seed that listens on `listen`.
#[track_caller]
fn uploads(data: &Data, listen: &str, size: u64) {
    let (_pilotfish, address) = seed(data, listen);
    let mut libtorrent = leech(data, &address, size);
    for _ in &data.torrents {
        libtorrent.wait_for("a finished torrent", |line| line.event("finished"));
    }
    data.assert_arrived();
}

#[test]
fn libtorrent_gets_a_file() {
    uploads(&Data::single(size()), "127.0.0.1:0", size());
}

#[test]
fn libtorrent_gets_several_torrents_over_ipv6() {
    let mut data = Data::new();
    data.add("file", &[("", 8 * MIB + 99)]);
    data.add("folder", &[("a/b.bin", 5 * MIB + 3), ("a/ü", 70_000), ("empty", 0)]);
    uploads(&data, "[::1]:0", 0);
}
