//! Rate limits, super-seeding, and torrents with padding, with libtorrent at the other end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pilotfish_tests::venv;

use crate::data::{Data, MIB};
use crate::peers::{LISTEN, Seed, download, leech, seed, seed_with, start};

/// How much is sent; at the limit of a MiB per second it takes so many seconds.
const SECONDS: u64 = 3;
const SIZE: u64 = SECONDS * MIB;

/// Whatever was begun, it took as long as the limit says, but for what passes before the limit is first reached. It may have
/// taken longer: machines may be busy.
#[track_caller]
fn assert_limited(since: Instant) {
    let (took, least) = (since.elapsed(), Duration::from_secs(SECONDS) * 4 / 5);
    assert!(took >= least, "{SIZE} bytes in {took:?}");
}

#[test]
fn a_download_from_libtorrent_keeps_to_its_limit() {
    let data = Data::single(SIZE);
    let seed = Seed::of(&data);
    let mut command = download(&data, &[&seed.address]);
    let begin = Instant::now();
    start(command.args(["--download-limit", "1M"]), SIZE).wait_for_code(0);
    assert_limited(begin);
    data.assert_arrived();
}

#[test]
fn an_upload_to_libtorrent_keeps_to_its_limit() {
    let data = Data::single(SIZE);
    let (_pilotfish, address) = seed_with(&data, LISTEN, |seed| seed.args(["--upload-limit", "1M"]));
    let begin = Instant::now();
    leech(&data, &address, SIZE).wait_for("the end", |line| line.event("finished"));
    assert_limited(begin);
    data.assert_arrived();
}

#[test]
fn libtorrent_gets_everything_from_who_super_seeds() {
    let data = Data::single(8 * MIB);
    let (_pilotfish, address) = seed_with(&data, LISTEN, |seed| seed.arg("--super"));
    leech(&data, &address, 0).wait_for("the end", |line| line.event("finished"));
    data.assert_arrived();
}

/// Files of which none ends where a piece does, in a hybrid torrent made by libtorrent: padding lies between them.
fn padded() -> Data {
    let mut data = Data::new();
    let files = [("a", 700_000), ("b/c", 5), ("b/d", 300_001), ("e", 262_144), ("f", 40_000)];
    data.add("padded", &files);
    let torrent = data.path("padded.torrent");
    let script = "import sys, os, libtorrent as lt\n\
                  root, out = sys.argv[1:]\n\
                  fs = lt.file_storage()\n\
                  lt.add_files(fs, root)\n\
                  made = lt.create_torrent(fs, piece_size=262144)\n\
                  lt.set_piece_hashes(made, os.path.dirname(root))\n\
                  open(out, 'wb').write(lt.bencode(made.generate()))";
    let mut python = Command::new(venv::python());
    python.args(["-c", script]).arg(data.complete().join("padded")).arg(&torrent).stdin(Stdio::null());
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&torrent).unwrap();
    assert!(bytes.windows(12).any(|bytes| bytes == b"4:attr1:p6:l"), "there is no padding in it");
    data.torrents = vec![torrent];
    data
}

#[test]
fn a_torrent_with_padding_comes_from_libtorrent() {
    let data = padded();
    let seed = Seed::of(&data);
    start(&mut download(&data, &[&seed.address]), 0).wait_for_code(0);
    data.assert_arrived();
}

#[test]
fn libtorrent_gets_a_torrent_with_padding() {
    let data = padded();
    let (_pilotfish, address) = seed(&data, LISTEN);
    leech(&data, &address, 0).wait_for("the end", |line| line.event("finished"));
    data.assert_arrived();
}
