//! Downloads that are ended before their time.

use crate::data::{Data, MIB, PIECE};
use crate::peers::{Seed, download, start};
use crate::process::Process;

/// Bytes per second at which a download takes long enough to be interrupted.
const SLOW: u64 = 8 * MIB;

/// Whole pieces, so that bytes can be told from pieces.
fn payload() -> Data {
    let mut data = Data::new();
    data.add("payload.bin", &[("", 128 * PIECE)]);
    data
}

/// A seed that is slow, and a download from it that has finished `pieces` of its pieces.
fn slow_download(data: &Data, pieces: u64) -> (Seed, Process) {
    let seed = Seed::start(data, &data.complete(), "127.0.0.1:0", Some(SLOW));
    let mut pilotfish = start(&mut download(data, &[&seed.address]), 0);
    for _ in 0..pieces {
        pilotfish.wait_for("a finished piece", |line| line.alert("piece_finished"));
    }
    (seed, pilotfish)
}

#[test]
fn a_download_that_was_killed_goes_on_where_it_was() {
    let data = payload();
    let finished = 40;
    let (seed, pilotfish) = slow_download(&data, finished);
    let pieces = seed.pieces[0];
    pilotfish.kill();
    drop(seed);

    let seed = Seed::of(&data);
    let mut pilotfish = start(&mut download(&data, &[&seed.address]), 0);
    let found = pilotfish.wait_for("the check", |line| line.alert("torrent_checked")?["pieces"].as_u64());
    pilotfish.wait_for_code(0);
    data.assert_arrived();

    assert!((finished..pieces).contains(&found), "{found} of {pieces} pieces were found");
    let fetched = pilotfish.last_event("finished")["downloaded_bytes"].as_u64().unwrap();
    assert_eq!(fetched, (pieces - found) * PIECE, "of {pieces} pieces {found} were found");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_download_within_seconds_and_leaves_nothing_running() {
    let data = payload();
    let (_seed, mut pilotfish) = slow_download(&data, 10);
    let address = listening(&pilotfish);
    assert!(std::net::TcpStream::connect(&address).is_ok(), "nobody listens on {address}");

    pilotfish.set_limit(std::time::Duration::from_secs(10));
    pilotfish.interrupt();
    pilotfish.wait_for_code(130);
    assert!(std::net::TcpStream::connect(&address).is_err(), "somebody still listens on {address}");
    // What is there of the data can be gone on with.
    assert!(data.arrived().join("payload.bin").is_file());
}

#[cfg(unix)]
fn listening(pilotfish: &Process) -> String {
    let address = pilotfish.printed.iter().find_map(|line| line.alert("listen_succeeded"));
    address.unwrap()["address"].as_str().unwrap().to_owned()
}
