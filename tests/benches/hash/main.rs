//! How fast pieces are hashed: one at a time by the `sha1` crate, and side by side.
//!
//! `cargo bench -p pilotfish-tests --bench hash`
#![allow(missing_docs, reason = "a benchmark has no interface")]

use std::hint::black_box;
use std::time::Instant;

use pilotfish_tests::bench::{Variant, alternate, row, title};
use sha1::Digest as _;
use sha1_lanes::{LANES, Sha1, update_each};

const ROUNDS: usize = 11;
/// Bytes of a piece, which come in blocks of the protocol's size.
const PIECE: usize = 256 << 10;
const BLOCK: usize = 16 << 10;
/// Pieces of a round: what any number of lanes divides.
const PIECES: usize = 240;

fn main() {
    let pieces: Vec<Vec<u8>> = (0..LANES).map(|lane| vec![lane as u8; PIECE]).collect();
    let alone = || -> Variant<'_> {
        let hash = || {
            pieces.iter().cycle().take(PIECES).for_each(|piece| {
                black_box(sha1::Sha1::digest(piece));
            })
        };
        ("one at a time".to_owned(), Box::new(move || gigabytes_per_second(hash)))
    };
    let side_by_side = |lanes: usize| -> Variant<'_> {
        let pieces = &pieces[..lanes];
        let hash = move || {
            (0..PIECES / lanes).for_each(|_| {
                let mut hashes = vec![Sha1::new(); lanes];
                update_each(hashes.iter_mut().zip(pieces.iter().map(|piece| piece.chunks(BLOCK))));
                black_box(hashes);
            })
        };
        (format!("{lanes} at a time"), Box::new(move || gigabytes_per_second(hash)))
    };
    let variants = std::iter::once(alone()).chain((2..=LANES).map(side_by_side)).collect();
    let series = alternate(ROUNDS, variants);
    title("SHA-1 of pieces on one core, GB/s", &["median", "to one at a time"]);
    for one in &series {
        let ratio = format!("{:.2}x", one.median() / series[0].median());
        row(&one.name, &[format!("{:.2}", one.median()), ratio]);
    }
}

fn gigabytes_per_second(hash: impl Fn()) -> f64 {
    let start = Instant::now();
    hash();
    (PIECES * PIECE) as f64 / start.elapsed().as_secs_f64() / 1e9
}
