//! What the operating system counts for a process and its threads, from `/proc`.

use std::fs;
use std::path::Path;

/// A process' use of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of CPU, in user mode and in the kernel.
    pub cpu: f64,
    /// The most memory that was resident, in bytes.
    pub peak: u64,
    /// Memory that is resident now, in bytes.
    pub resident: u64,
}

impl Usage {
    /// Of a running process; of one that has ended, `None`.
    pub fn of(process: u32) -> Option<Self> {
        let folder = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            cpu: seconds(Path::new(&folder))?,
            peak: kibibytes("VmHWM:").unwrap_or(0) << 10,
            resident: kibibytes("VmRSS:").unwrap_or(0) << 10,
        })
    }
}

/// Memory of this process that is resident now, in bytes.
pub fn resident_bytes() -> u64 {
    Usage::of(std::process::id()).map_or(0, |usage| usage.resident)
}

/// Seconds of CPU that the threads of this process with this name have used.
pub fn thread_seconds(name: &str) -> f64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = threads.filter(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    named.filter_map(|thread| seconds(&thread.path())).sum()
}

/// The `utime` and `stime` of a `stat` file, in seconds.
fn seconds(folder: &Path) -> Option<f64> {
    // Linux counts in hundredths of a second for programs, whatever it does for itself (`USER_HZ`).
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / TICKS)
}
