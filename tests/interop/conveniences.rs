//! What `download` can do besides downloading everything: some of the files, and uploading for a while.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pilotfish_tests::program;

use crate::data::{Data, MIB, PIECE};
use crate::peers::{self, LISTEN, download, libtorrent, name_by_links, start};
use crate::process::Process;

/// Four files, none of which ends where a piece does.
fn files() -> Data {
    let mut data = Data::new();
    let size = 9 * PIECE + 1_000;
    data.add("folder", &[("1st", size), ("2nd", size), ("3rd", size), ("4th", size)]);
    data
}

fn arrived(data: &Data, name: &str) -> bool {
    let read = |folder: &Path| fs::read(folder.join("folder").join(name)).ok();
    read(&data.arrived()) == read(&data.complete())
}

/// Downloads with these options from a seed; what was fetched, in bytes.
fn fetch(command: &mut Command) -> u64 {
    let mut process = start(command, 0);
    process.wait_for_code(0);
    process.last_event("finished")["downloaded_bytes"].as_u64().unwrap()
}

#[test]
fn files_that_are_selected_come_and_later_the_others() {
    let data = files();
    let (_seed, address) = peers::seed(&data, "127.0.0.1:0");
    let state = data.path("state");
    let program = |options: &[&str]| {
        let mut command = Command::new(program::pilotfish());
        command.arg("download").args(&data.torrents).arg("--output").arg(data.arrived()).arg("--json");
        command.arg("--state-dir").arg(&state).args(["--no-plugins", "--listen", "127.0.0.1:0"]);
        command.args(["--peer", &address]).args(options);
        command
    };
    let some = fetch(&mut program(&["--select", "2,4"]));
    assert_eq!(["1st", "2nd", "3rd", "4th"].map(|name| arrived(&data, name)), [false, true, false, true]);
    // The pieces at both ends of `2nd`, and at the start of `4th`, are shared with the others.
    assert!((18 * PIECE..22 * PIECE).contains(&some), "{some}");
    assert_eq!(fetch(&mut program(&["--select", "2,4"])), 0);
    let rest = fetch(&mut program(&[]));
    data.assert_arrived();
    assert_eq!(some + rest, 4 * (9 * PIECE + 1_000));
}

#[test]
fn files_of_a_link_are_selected_once_they_are_known() {
    let mut data = files();
    let (_seed, address) = peers::seed(&data, "127.0.0.1:0");
    name_by_links(&mut data);
    fetch(download(&data, &[&address]).args(["--select", "1"]));
    assert_eq!(["1st", "2nd", "3rd", "4th"].map(|name| arrived(&data, name)), [true, false, false, false]);

    let mut process = start(download(&data, &[&address]).args(["--select", "2-5"]), 0);
    process.wait_for_code(2);
    let said = process.printed.iter().any(|line| line.text().contains("folder has 4 files, and no file 5"));
    assert!(said, "{:?}", process.printed);
}

/// A download that goes on uploading, once everything is there, and its address.
fn uploading(data: &Data, options: &[&str]) -> (Process, String) {
    let (_seed, from) = peers::seed(data, "127.0.0.1:0");
    let mut process = start(download(data, &[&from]).args(options), 0);
    let address = peers::address(&mut process);
    process.wait_for("the end of the download", |line| line.event("finished"));
    data.assert_arrived();
    (process, address)
}

#[test]
fn a_download_is_uploaded_until_the_ratio_is_reached() {
    let data = Data::single(4 * MIB);
    let (mut process, address) = uploading(&data, &["--seed-ratio", "1"]);
    let other = data.path("other");
    let mut command = peers::pilotfish("download");
    command.args(&data.torrents).arg("--output").arg(&other);
    fetch(command.args(["--peer", &address, "--listen", "127.0.0.1:0"]));
    process.wait_for_code(0);
    let [one, two] = [other, data.complete()].map(|folder| fs::read(folder.join("payload.bin")).unwrap());
    assert!(one == two);
}

#[test]
fn a_download_is_uploaded_for_the_time_that_was_asked_for() {
    let data = Data::single(MIB);
    let (mut process, _) = uploading(&data, &["--seed-ratio", "1", "--seed-time", "1500ms"]);
    let finished = Instant::now();
    process.wait_for_code(0);
    assert!(finished.elapsed() > Duration::from_secs(1), "{:?}", finished.elapsed());
}

/// Pilotfish, which has downloaded these files and uploads them (BEP 21), and its address.
fn partial_seed(data: &Data, from: &str, select: &str) -> (Process, String) {
    let mut command = peers::pilotfish("download");
    command.args(&data.torrents).arg("--output").arg(data.path(select)).args(["--listen", LISTEN]);
    command.args(["--peer", from, "--select", select, "--seed-time", "5m"]);
    let mut process = start(&mut command, 0);
    let address = peers::address(&mut process);
    process.wait_for("the end of the download", |line| line.event("finished"));
    (process, address)
}

#[test]
fn libtorrent_gets_everything_from_two_that_selected_half_of_it_each() {
    let data = files();
    let (seed, from) = peers::seed(&data, LISTEN);
    let (_one, first) = partial_seed(&data, &from, "1-2");
    let (_other, second) = partial_seed(&data, &from, "3-4");
    seed.kill();
    let mut command = libtorrent("leech", &data, &data.arrived(), LISTEN);
    let mut leech = start(command.args(["--peer", &first, "--peer", &second]), 0);
    leech.wait_for("a finished torrent", |line| line.event("finished"));
    data.assert_arrived();
}
