//! What the operating system counts for a process and its threads, from `/proc`.

use std::fs;
use std::path::Path;

/// A process' use of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of CPU, in user mode and in the kernel, its own and those of the children that it has waited for.
    pub cpu: f64,
    /// The most memory that was resident, in bytes.
    pub peak: u64,
    /// Memory of its own that is resident now, in bytes: not its code, of which it gets more the more of it has run.
    pub anonymous: u64,
}

impl Usage {
    /// Of a process that runs, or that nobody has waited for yet: such a one has no memory any more. Else `None`.
    pub fn of(process: u32) -> Option<Self> {
        let folder = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            cpu: seconds(Path::new(&folder), 4)?,
            peak: kibibytes("VmHWM:").unwrap_or(0) << 10,
            anonymous: kibibytes("RssAnon:").unwrap_or(0) << 10,
        })
    }
}

/// Memory of this process' own that is resident now, in bytes.
pub fn anonymous_bytes() -> u64 {
    Usage::of(std::process::id()).map_or(0, |usage| usage.anonymous)
}

/// Seconds of CPU that the threads of this process with this name have used.
pub fn thread_seconds(name: &str) -> f64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = threads.filter(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    named.filter_map(|thread| seconds(&thread.path(), 2)).sum()
}

/// Seconds of CPU that the whole machine has spent on programs and on itself.
pub fn machine_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let fields: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
    // User, nice, system; then idle and waiting for disks, which is idle too; interrupts of two sorts.
    let busy = fields.iter().enumerate().filter(|(at, _)| !matches!(at, 3..=4 | 7..));
    busy.map(|(_, ticks)| ticks / TICKS).sum()
}

/// Linux counts in hundredths of a second for programs, whatever it does for itself (`USER_HZ`).
const TICKS: f64 = 100.0;

/// The sum of the first of `utime`, `stime`, `cutime`, `cstime` of a `stat` file, in seconds.
fn seconds(folder: &Path, times: usize) -> Option<f64> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_whitespace().skip(11).take(times);
    fields.map(|field| Some(field.parse::<f64>().ok()? / TICKS)).sum()
}
