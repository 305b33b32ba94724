//! Bad input for everything that reads what strangers send.
//!
//! `cargo run -p pilotfish-tests --bin fuzz -- [--target NAME] [--seconds N] [--seed N] [--runs N]`
//!
//! One run follows another, each with a seed of its own that is one more than the one before. A run that fails says how it
//! is repeated. [`TARGETS`] lists what can be fuzzed; without `--target`, it is the first.
#![allow(clippy::unwrap_used, missing_docs, reason = "this is test code")]

mod chatty;
mod cipher;
mod extensions;
mod krpc;
mod mischief;
mod mse;
mod remote;
mod resume;
mod tracker;
mod udp;
mod web_seed;
mod world;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use world::World;

/// A run, as a function of its seed.
type Run = fn(u64) -> Told;

/// What can be fuzzed, by name.
const TARGETS: &[(&str, Run)] = &[
    ("session", World::run),
    ("tracker", tracker::run),
    ("krpc", krpc::run),
    ("resume", resume::run),
    ("mse", mse::run),
    ("ut_metadata", extensions::metadata),
    ("ut_pex", extensions::pex),
    ("web_seed", web_seed::run),
    ("udp", udp::run),
];

/// What a run was.
struct Told {
    steps: u64,
    hooks: u64,
}

/// What the command line asks for.
struct Args {
    target: usize,
    seed: u64,
    time: Duration,
    runs: u64,
}

fn args() -> Args {
    let random = RandomState::new().build_hasher().finish() >> 16;
    let mut args = Args { target: 0, seed: random, time: Duration::from_secs(10), runs: u64::MAX };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        if let ("--target", Some(target)) = (&*word, TARGETS.iter().position(|(name, _)| *name == value)) {
            args.target = target;
            continue;
        }
        match (word.as_str(), value.parse().ok()) {
            ("--seed", Some(seed)) => args.seed = seed,
            ("--seconds", Some(seconds)) => args.time = Duration::from_secs(seconds),
            ("--runs", Some(runs)) => args.runs = runs,
            _ => {
                let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
                eprintln!("usage: fuzz [--target {}] [--seconds N] [--seed N] [--runs N]", names.join("|"));
                std::process::exit(2);
            }
        }
    }
    args
}

/// Says how to repeat a run that ends in a panic.
struct Replay(&'static str, u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fuzz: this was `fuzz --target {} --runs 1 --seed {}`", self.0, self.1);
        }
    }
}

fn main() {
    let Args { target, seed, time, runs } = args();
    let (name, run) = TARGETS[target];
    println!("fuzz: {name}: from seed {seed}");
    chatty::hush();
    let (start, mut done, mut hooks, mut steps) = (Instant::now(), 0, 0, 0);
    while done < runs && (runs != u64::MAX || start.elapsed() < time) {
        let replay = Replay(name, seed + done);
        let told = run(seed + done);
        drop(replay);
        done += 1;
        hooks += told.hooks;
        steps += told.steps;
    }
    println!("fuzz: {name}: {done} runs, {steps} steps, {hooks} hooks, {} s", start.elapsed().as_secs());
}
