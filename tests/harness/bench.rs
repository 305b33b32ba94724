//! What the benchmarks share: rounds that alternate, medians, ratios, and what the operating system counts.

mod lone;
mod measured;
mod payload;
mod process;
mod raw_peer;

use std::fmt::Display;
use std::time::Instant;

pub use lone::Lone;
pub use measured::{Ended, Measured};
pub use payload::Payload;
pub use process::{Usage, anonymous_bytes, machine_seconds, thread_seconds};
pub use raw_peer::{Drained, RawSeed, drain, wait_for_seed};

/// What one variant of a measured thing cost, round by round.
pub struct Series<T = f64> {
    /// What it is.
    pub name: String,
    /// One figure, or several that belong together, for each round.
    pub figures: Vec<T>,
}

impl Series {
    /// The middle figure: half of the rounds were better.
    pub fn median(&self) -> f64 {
        median(&self.figures)
    }

    /// The lowest figure: the round in which the machine disturbed least.
    pub fn least(&self) -> f64 {
        self.figures.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// The middle of some figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// One variant: its name, and one round of it, which answers with its figure.
pub type Variant<'a, T = f64> = (String, Box<dyn FnMut() -> T + 'a>);

/// Runs the variants in turns, so that whatever else the machine does disturbs all of them alike. The order is turned round
/// every other time.
pub fn alternate<T>(rounds: usize, mut variants: Vec<Variant<'_, T>>) -> Vec<Series<T>> {
    let mut series: Vec<_> =
        variants.iter().map(|(name, _)| Series { name: name.clone(), figures: Vec::new() }).collect();
    for round in 0..rounds {
        let count = variants.len();
        for step in 0..count {
            let at = if round % 2 == 0 { step } else { count - 1 - step };
            series[at].figures.push((variants[at].1)());
        }
    }
    series
}

/// A number that the user may set in the environment.
pub fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

/// What the command line of a benchmark names, such as the parts that are to run; cargo's own options apart.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect()
}

/// The parts of a benchmark that its command line names; all, if it names none. Ends the program if it names one that there is not.
pub fn chosen<T: Copy>(parts: &[(&'static str, T)], named: &[String]) -> Vec<T> {
    let known = |name: &String| parts.iter().any(|(part, _)| part == name);
    if let Some(unknown) = named.iter().find(|name| !known(name)) {
        let names: Vec<_> = parts.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no part {unknown:?}: name any of {}", names.join(", "));
        std::process::exit(2);
    }
    let wanted = |name: &str| named.is_empty() || named.iter().any(|named| named == name);
    parts.iter().filter(|(name, _)| wanted(name)).map(|(_, part)| *part).collect()
}

/// Nanoseconds for each of `times` calls.
pub fn nanoseconds(times: u32, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        call();
    }
    start.elapsed().as_nanos() as f64 / f64::from(times)
}

/// Prints a table's title, and the names of its columns.
pub fn title(text: impl Display, columns: &[&str]) {
    println!("\n{text}");
    print!("  {:<44}", "");
    columns.iter().for_each(|column| print!(" {column:>12}"));
    println!();
}

/// Prints a row of a table.
pub fn row(name: impl Display, cells: &[String]) {
    print!("  {name:<44}");
    cells.iter().for_each(|cell| print!(" {cell:>12}"));
    println!();
}
