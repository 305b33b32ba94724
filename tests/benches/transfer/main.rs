//! How fast whole clients are, in one run, in turns: ours, libtorrent in two versions, and rqbit.
//!
//! `cargo bench -p pilotfish-tests --bench transfer -- [download] [upload] [swarm] [check]`, without names all four. Each client
//! downloads from and uploads to a peer that costs next to nothing itself, so that the client is at its limit. The sizes and the
//! number of rounds are set in the environment: `PILOTFISH_BENCH_SIZE` (MiB, 1024), `PILOTFISH_BENCH_PIECE` (KiB, 1024),
//! `PILOTFISH_BENCH_ROUNDS` (5).
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot run says so by failing")]

mod clients;
mod figures;
mod rqbit;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use pilotfish_tests::bench::{
    Payload, RawSeed, Usage, Variant, alternate, arguments, chosen, drain, from_environment, wait_for_seed,
};
use sha1::{Digest as _, Sha1};

use clients::{Client, Done};
use figures::{Figures, Meter};

/// Who takes everything at once from one seed.
const SWARM: u8 = 20;
/// Where the client that is measured listens, where our own seed does, and where it is asked from whether it is ready.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const SEED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const PROBE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));

fn main() {
    let parts = chosen(&PARTS, &arguments());
    let size = from_environment("PILOTFISH_BENCH_SIZE", 1024);
    let piece = from_environment("PILOTFISH_BENCH_PIECE", 1024);
    let rounds = from_environment("PILOTFISH_BENCH_ROUNDS", 5);
    let clients = Client::all();
    let payload = Payload::new("payload.bin", size << 20, (piece << 10) as u32);
    println!(
        "{size} MiB in pieces of {piece} KiB, {rounds} rounds, files in {}",
        payload.complete().display()
    );
    for part in parts {
        part(&payload, &clients, rounds);
    }
}

type Part = fn(&Payload, &[Client], usize);

const PARTS: [(&str, Part); 4] =
    [("download", downloads), ("upload", uploads), ("swarm", swarms), ("check", checks)];

fn downloads(payload: &Payload, clients: &[Client], rounds: usize) {
    let variant = |client| variant(client, move |client| Some(download(payload, client)));
    let series = alternate(rounds, clients.iter().map(variant).collect());
    figures::print("Download", &series);
}

fn download(payload: &Payload, client: &Client) -> Figures {
    let output = payload.output();
    let seed = RawSeed::start(payload, SEED);
    let meter = Meter::start();
    let done = client.download(payload, &output, free_port(), seed.address);
    let first = seed.first_sent().unwrap_or(done.began);
    let figures = meter.stop(payload.mebibytes(), done.ended - first, done.usage);
    payload.assert_arrived(&output);
    figures
}

fn uploads(payload: &Payload, clients: &[Client], rounds: usize) {
    let variant = |client| variant(client, move |client| Some(upload(payload, client, 1)));
    figures::print("Upload to one", &alternate(rounds, clients.iter().map(variant).collect()));
}

fn swarms(payload: &Payload, clients: &[Client], rounds: usize) {
    let variant = |client| variant(client, move |client| Some(upload(payload, client, SWARM)));
    figures::print(
        &format!("Upload to {SWARM} at once"),
        &alternate(rounds, clients.iter().map(variant).collect()),
    );
}

/// So many leeches have everything from the client.
fn upload(payload: &Payload, client: &Client, leeches: u8) -> Figures {
    let address = free_port();
    let mut seed = client.seed(payload, address);
    wait_for_seed(payload, PROBE, address);
    // It forgets who asked.
    thread::sleep(Duration::from_millis(200));
    let (before, meter) = (seed.usage(), Meter::start());
    let drained = thread::scope(|scope| {
        let leech = |number| {
            let here = IpAddr::from([127, 0, 1, number]);
            scope.spawn(move || drain(payload, here, address).unwrap())
        };
        let leeches: Vec<_> = (1..=leeches).map(leech).collect();
        leeches.into_iter().map(|leech| leech.join().unwrap()).collect::<Vec<_>>()
    });
    let after = seed.usage();
    let first = drained.iter().map(|one| one.first).min().unwrap();
    let last = drained.iter().map(|one| one.last).max().unwrap();
    let used = Usage { cpu: after.cpu - before.cpu, ..after };
    meter.stop(payload.mebibytes() * f64::from(leeches), last - first, used)
}

fn checks(payload: &Payload, clients: &[Client], rounds: usize) {
    let mut variants: Vec<Variant<'_, Option<Figures>>> = clients
        .iter()
        .map(|client| {
            variant(client, move |client| {
                let meter = Meter::start();
                let Done { began, ended, usage } = client.check(payload, free_port())?;
                Some(meter.stop(payload.mebibytes(), ended - began, usage))
            })
        })
        .collect();
    variants.push(("SHA-1 on all cores, from memory".to_owned(), Box::new(|| Some(hash(payload)))));
    figures::print("Check of what is there", &alternate(rounds, variants));
}

/// What every check has to do at least.
fn hash(payload: &Payload) -> Figures {
    let geometry = payload.metainfo().layout().geometry();
    let cores = thread::available_parallelism().unwrap().get();
    let of_this = || Usage::of(std::process::id()).unwrap_or_default();
    let (before, meter, began) = (of_this(), Meter::start(), Instant::now());
    thread::scope(|scope| {
        for core in 0..cores {
            let pieces = payload.bytes().chunks(geometry.piece_length() as usize).skip(core).step_by(cores);
            scope.spawn(|| pieces.map(Sha1::digest).for_each(|hash| _ = black_box(hash)));
        }
    });
    let took = began.elapsed();
    meter.stop_own(payload.mebibytes(), took, of_this().cpu - before.cpu)
}

fn variant<'a, T>(client: &'a Client, mut round: impl FnMut(&'a Client) -> T + 'a) -> Variant<'a, T> {
    (client.name(), Box::new(move || round(client)))
}

/// Where the next client listens.
fn free_port() -> SocketAddr {
    TcpListener::bind((CLIENT, 0)).unwrap().local_addr().unwrap()
}
