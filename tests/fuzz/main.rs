//! Random peers, a random disk, random commands and three plugins that do anything they may at any time, against one engine.
//!
//! `cargo run -p pilotfish-tests --bin fuzz -- [--seconds N] [--seed N] [--runs N]`
//!
//! One run follows another, on virtual time, each with a seed of its own that is one more than the one before. A run that
//! fails says how it is repeated. In each run there is chaos for a while; then plugins and disk calm down, honest seeds
//! come, and every torrent must become complete; then the session ends, and nothing may be left of it.
#![allow(clippy::unwrap_used, missing_docs, reason = "this is test code")]

mod chatty;
mod cipher;
mod mischief;
mod remote;
mod world;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use world::World;

/// What the command line asks for.
struct Args {
    seed: u64,
    time: Duration,
    runs: u64,
}

fn args() -> Args {
    let random = RandomState::new().build_hasher().finish() >> 16;
    let mut args = Args { seed: random, time: Duration::from_secs(10), runs: u64::MAX };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next().and_then(|text| text.parse().ok());
        match (word.as_str(), number) {
            ("--seed", Some(seed)) => args.seed = seed,
            ("--seconds", Some(seconds)) => args.time = Duration::from_secs(seconds),
            ("--runs", Some(runs)) => args.runs = runs,
            _ => {
                eprintln!("usage: fuzz [--seconds N] [--seed N] [--runs N]");
                std::process::exit(2);
            }
        }
    }
    args
}

/// Says how to repeat a run that ends in a panic.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fuzz: this was `fuzz --runs 1 --seed {}`", self.0);
        }
    }
}

fn main() {
    let Args { seed, time, runs } = args();
    println!("fuzz: seed {seed}");
    chatty::hush();
    let (start, mut done, mut hooks, mut steps) = (Instant::now(), 0, 0, 0);
    while done < runs && (runs != u64::MAX || start.elapsed() < time) {
        let replay = Replay(seed + done);
        let told = World::run(seed + done);
        drop(replay);
        done += 1;
        hooks += told.hooks;
        steps += told.steps;
    }
    println!("fuzz: {done} runs, {steps} steps, {hooks} hooks, {} s", start.elapsed().as_secs());
}
