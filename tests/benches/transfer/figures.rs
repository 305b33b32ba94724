//! What is measured of a client in a round, and how that of all clients is printed.

use std::time::Duration;

use pilotfish_tests::bench::{Series, Usage, machine_seconds, median, row, title};

/// One round of one client.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// MiB a second.
    pub(crate) rate: f64,
    /// CPU seconds for each GiB.
    pub(crate) cpu: f64,
    /// The most resident memory, in MiB.
    pub(crate) peak: f64,
    /// Cores that were busy with what is no part of this: the noise.
    pub(crate) strangers: f64,
}

/// Measures what the rest of the machine does meanwhile.
pub(crate) struct Meter {
    machine: f64,
    own: f64,
    began: std::time::Instant,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { machine: machine_seconds(), own: own_seconds(), began: std::time::Instant::now() }
    }

    /// The client moved so much in `took`, and used that.
    pub(crate) fn stop(self, mebibytes: f64, took: Duration, usage: Usage) -> Figures {
        let own = own_seconds() - self.own;
        self.figures(mebibytes, took, usage, own)
    }

    /// As [`stop`](Self::stop), if the work was done here.
    pub(crate) fn stop_own(self, mebibytes: f64, took: Duration, cpu: f64) -> Figures {
        self.figures(mebibytes, took, Usage { cpu, ..Usage::default() }, 0.0)
    }

    fn figures(self, mebibytes: f64, took: Duration, usage: Usage, own: f64) -> Figures {
        let (span, busy) = (self.began.elapsed().as_secs_f64(), machine_seconds() - self.machine);
        Figures {
            rate: mebibytes / took.as_secs_f64(),
            cpu: usage.cpu / (mebibytes / 1024.0),
            peak: usage.peak as f64 / f64::from(1 << 20),
            strangers: ((busy - usage.cpu - own) / span).max(0.0),
        }
    }
}

fn own_seconds() -> f64 {
    Usage::of(std::process::id()).map_or(0.0, |usage| usage.cpu)
}

/// A table of medians and ranges, and what ours are to those of each of the others. Who cannot do it is left out.
pub(crate) fn print(what: &str, all: &[Series<Option<Figures>>]) {
    let all: Vec<(&str, Vec<Figures>)> = all
        .iter()
        .map(|series| (&*series.name, series.figures.iter().flatten().copied().collect()))
        .collect();
    let able: Vec<_> = all.iter().filter(|(_, figures)| !figures.is_empty()).collect();
    let Some(((ours, of_ours), others)) = able.split_first() else { return };
    let columns = ["MiB/s", "range", "CPU s/GiB", "range", "peak MiB", "strangers"];
    title(format!("{what}: medians, and what strangers took of the machine, in cores"), &columns);
    able.iter().for_each(|(name, figures)| row(name, &cells(figures)));
    title(format!("{what}: {ours} to each of the others"), &["MiB/s", "CPU s/GiB", "peak"]);
    for (name, theirs) in others {
        let ratio = |of: fn(&Figures) -> f64| {
            let ratio = middle(of_ours, of) / middle(theirs, of);
            if ratio.is_finite() { format!("{ratio:.2}x") } else { "-".to_owned() }
        };
        row(name, &[ratio(|one| one.rate), ratio(|one| one.cpu), ratio(|one| one.peak)]);
    }
}

fn cells(figures: &[Figures]) -> [String; 6] {
    let range = |of: fn(&Figures) -> f64, digits: usize| {
        let values = figures.iter().map(of);
        let (least, most) = values.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| {
            (least.min(value), most.max(value))
        });
        format!("{least:.digits$}-{most:.digits$}")
    };
    [
        format!("{:.0}", middle(figures, |one| one.rate)),
        range(|one| one.rate, 0),
        format!("{:.2}", middle(figures, |one| one.cpu)),
        range(|one| one.cpu, 2),
        format!("{:.1}", middle(figures, |one| one.peak)),
        format!("{:.2}", middle(figures, |one| one.strangers)),
    ]
}

fn middle(figures: &[Figures], of: fn(&Figures) -> f64) -> f64 {
    median(&figures.iter().map(of).collect::<Vec<_>>())
}
