//! Pilotfish downloads, libtorrent has the data.

use crate::data::{Data, MIB};
use crate::peers::{Seed, download, start};
use crate::size;

/// Downloads everything from `seeds`, and compares.
#[track_caller]
fn downloads(data: &Data, seeds: &[&Seed], settings: &[&str], size: u64) {
    let addresses: Vec<&str> = seeds.iter().map(|seed| seed.address.as_str()).collect();
    let mut command = download(data, &addresses);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut pilotfish = start(&mut command, size);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
}

#[test]
fn a_file_comes_from_libtorrent() {
    let data = Data::single(size());
    downloads(&data, &[&Seed::of(&data)], &[], size());
}

#[test]
fn folders_empty_files_and_foreign_names_come_from_libtorrent() {
    let mut data = Data::new();
    let files = [
        ("first.bin", 5 * MIB + 1),
        ("empty", 0),
        ("a/b/c/deep.bin", 9 * MIB + 7),
        ("a/b/tiny", 1),
        ("a/日本語 – größer/ελληνικά 🐟.dat", 2 * MIB + 300),
        ("Ünïcödé.txt", 40_000),
        ("z/empty at the end", 0),
    ];
    data.add("Папка with spaces", &files);
    downloads(&data, &[&Seed::of(&data)], &[], 0);
}

#[test]
fn a_file_comes_over_ipv6() {
    let data = Data::single(16 * MIB);
    let seed = Seed::start(&data, &data.complete(), "[::1]:0", None);
    assert!(seed.address.starts_with("[::1]:"), "{}", seed.address);
    downloads(&data, &[&seed], &[], 0);
}

#[test]
fn two_seeds_that_have_half_of_the_pieces_each_make_a_whole() {
    let data = Data::single(32 * MIB);
    let half = |name: &str, parity| {
        let folder = data.copy_in_part(name, |piece| piece % 2 == parity);
        Seed::start(&data, &folder, "127.0.0.1:0", None)
    };
    let (even, odd) = (half("even", 0), half("odd", 1));
    assert_eq!((even.pieces[0], odd.pieces[0]), (65, 64));
    // Both have the address of this machine.
    downloads(&data, &[&even, &odd], &["allow_multiple_connections_per_ip=true"], 0);
}

#[test]
fn several_torrents_come_at_the_same_time() {
    let mut data = Data::new();
    for (name, size) in [("one", 12 * MIB), ("two", 7 * MIB + 5), ("three", 1), ("four", 3 * MIB)] {
        data.add(name, &[("", size)]);
    }
    data.add("folder", &[("one", 2 * MIB), ("two", 40_000)]);
    downloads(&data, &[&Seed::of(&data)], &[], 0);
}
