//! Magnet links: the metadata comes from libtorrent, and goes to it (BEP 9).

use crate::data::{Data, MIB};
use crate::peers::{Seed, download, leech, name_by_links, seed, start};

/// A file, and a folder of so many files that its metadata takes several messages.
fn data() -> Data {
    let mut data = Data::new();
    data.add("file", &[("", 3 * MIB + 5)]);
    let names: Vec<String> =
        (0..900).map(|number| format!("one of very many files, number {number}")).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1_000)).collect();
    data.add("folder", &files);
    data
}

#[test]
fn metadata_and_data_come_from_libtorrent() {
    let mut data = data();
    let libtorrent = Seed::of(&data);
    name_by_links(&mut data);
    let mut pilotfish = start(&mut download(&data, &[&libtorrent.address]), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
}

#[test]
fn libtorrent_gets_metadata_and_data() {
    let mut data = data();
    let (_pilotfish, address) = seed(&data, "127.0.0.1:0");
    name_by_links(&mut data);
    let mut libtorrent = leech(&data, &address, 0);
    for _ in &data.torrents {
        libtorrent.wait_for("a finished torrent", |line| line.event("finished"));
    }
    data.assert_arrived();
}
