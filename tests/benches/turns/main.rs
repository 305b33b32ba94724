//! How long our program holds its network thread in one turn, in three hardships: a download at full speed, a check while a
//! peer of another torrent is served, and a download to a disk that stands still for two seconds.
//!
//! `cargo bench -p pilotfish-tests --bench turns`, on Linux, with `strace` installed, which makes the disk stall.
//! `PILOTFISH_BENCH_SIZE` (MiB, 1024) says how much is downloaded or checked.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot run says so by failing")]

mod histogram;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pilotfish_tests::bench::{Measured, Payload, RawSeed, from_environment};
use pilotfish_tests::program;
use serde_json::Value;

use histogram::Histogram;

/// Where the program listens, and the other end comes from.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const STALL: Duration = Duration::from_secs(2);
/// Each thread's write of this number stands still.
const STALLS_AT: u32 = 20;

fn main() {
    let size = from_environment("PILOTFISH_BENCH_SIZE", 1024);
    let payload = Payload::new("payload.bin", size << 20, 1 << 20);
    println!("{size} MiB, files in {}", payload.complete().display());
    download(&payload).print("A download at full speed");
    let other = Payload::new("other.bin", size << 20, 1 << 20);
    check(&other, &payload).print("A check of what is there, and a download beside it");
    stalled(&payload).print("A download to a disk that stands still for two seconds");
}

fn download(payload: &Payload) -> Histogram {
    let output = payload.output();
    let seed = RawSeed::start(payload, THERE);
    let mut command = Command::new(program::pilotfish());
    download_from(command.arg("run"), payload, &output, &seed);
    let turns = turns(&mut Measured::start(&mut command));
    payload.assert_arrived(&output);
    turns
}

/// Peers of a torrent that is being checked are sent away: it is another torrent's peer who would have to wait.
fn check(there: &Payload, coming: &Payload) -> Histogram {
    let seed = RawSeed::start(coming, THERE);
    let mut command = Command::new(program::pilotfish());
    download_from(command.arg("run").arg(there.torrent()), coming, &there.complete(), &seed);
    let turns = turns(&mut Measured::start(&mut command));
    coming.assert_arrived(&there.complete());
    turns
}

/// The delay comes from outside: the program that is measured is the one that people run.
fn stalled(payload: &Payload) -> Histogram {
    let output = payload.output();
    let seed = RawSeed::start(payload, THERE);
    let calls = output.join("calls");
    let stall = STALL.as_micros();
    let mut command = Command::new("strace");
    command
        .args(["--follow-forks", "--seccomp-bpf", "--trace=pwritev,pwritev2,pwrite64", "--output"])
        .arg(&calls);
    for call in ["pwritev", "pwritev2", "pwrite64"] {
        command.arg(format!("--inject={call}:delay_enter={stall}:when={STALLS_AT}"));
    }
    assert!(
        Command::new("strace").arg("--version").output().is_ok(),
        "this benchmark needs strace (Debian: apt-get install strace)"
    );
    command.arg(program::pilotfish()).arg("run");
    download_from(&mut command, payload, &output, &seed);
    let turns = turns(&mut Measured::start(&mut command));
    payload.assert_arrived(&output);
    let calls = fs::read_to_string(calls).unwrap();
    let stalls = calls.lines().filter(|call| call.contains("DELAYED")).count();
    assert!(stalls > 0, "no write was held up");
    println!("\n{stalls} of {} writes were held up", calls.lines().count());
    turns
}

fn download_from(command: &mut Command, payload: &Payload, folder: &Path, seed: &RawSeed) {
    command.env_remove("PILOTFISH_PLUGIN_PATH").env("XDG_DATA_HOME", payload.scratch());
    command.arg(payload.torrent()).arg("--output").arg(folder);
    command.args(["--listen", &SocketAddr::new(HERE, 0).to_string(), "--peer", &seed.address.to_string()]);
    command.args(["--exit-when", "finished", "--turns", "--json", "--no-state"]);
}

fn turns(program: &mut Measured) -> Histogram {
    let (_, turns) = program.wait_for("how long turns took", |line| event(line, "turns"));
    Histogram::read(&turns)
}

/// The object on a line whose `event` is `name`.
fn event(line: &str, name: &str) -> Option<Value> {
    serde_json::from_str(line).ok().filter(|object: &Value| object["event"] == name)
}
