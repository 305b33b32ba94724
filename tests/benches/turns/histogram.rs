//! What `--turns` says, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotfish_tests::bench::{row, title};
use serde_json::Value;

/// No turn may take more of the processor's time.
const LIMIT: Duration = Duration::from_millis(5);

/// How many turns took how long.
pub(crate) struct Histogram {
    cpu: Spans,
    wall: Spans,
}

struct Spans {
    longest: Duration,
    /// By the bound that they are below.
    counts: BTreeMap<Duration, u64>,
}

impl Histogram {
    pub(crate) fn read(turns: &Value) -> Self {
        Self { cpu: Spans::read(&turns["cpu"]), wall: Spans::read(&turns["wall"]) }
    }

    pub(crate) fn print(&self, what: &str) {
        title(
            format!("{what}: turns of the network thread"),
            &["by CPU time", "share", "by the clock", "share"],
        );
        let bounds = self.cpu.counts.keys().chain(self.wall.counts.keys());
        for bound in bounds.copied().collect::<std::collections::BTreeSet<_>>() {
            let cells = [&self.cpu, &self.wall].map(|spans| spans.cells(bound)).concat();
            row(format!("less than {bound:?}"), &cells);
        }
        let longest = self.cpu.longest;
        let verdict = if longest > LIMIT { "OVER" } else { "within" };
        println!(
            "  the longest took {longest:?} of CPU, {:.2}x the limit of {LIMIT:?}: {verdict} it; by the clock {:?}",
            longest.as_secs_f64() / LIMIT.as_secs_f64(),
            self.wall.longest
        );
    }
}

impl Spans {
    fn read(spans: &Value) -> Self {
        let micros = |value: &Value| Duration::from_micros(value.as_u64().unwrap());
        let counts = spans["below_us"].as_array().unwrap().iter();
        Self {
            longest: micros(&spans["longest_us"]),
            counts: counts.map(|pair| (micros(&pair[0]), pair[1].as_u64().unwrap())).collect(),
        }
    }

    fn cells(&self, bound: Duration) -> [String; 2] {
        let (count, all) = (self.counts.get(&bound).copied().unwrap_or(0), self.counts.values().sum::<u64>());
        [count.to_string(), format!("{:.3} %", count as f64 * 100.0 / all as f64)]
    }
}
