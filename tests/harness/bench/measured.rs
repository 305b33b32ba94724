//! A program that is measured while it runs: when it prints what, and what it uses until its end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::Usage;

/// How often it is looked how much memory it has: the system forgets that when a program ends.
const SAMPLE: Duration = Duration::from_millis(10);
/// Nothing takes so long.
const LIMIT: Duration = Duration::from_secs(300);
/// Lines that are shown of a program that failed.
const SHOWN: usize = 30;

/// A running program. It is killed when this is dropped.
pub struct Measured {
    command: String,
    child: Child,
    lines: Receiver<(Instant, String)>,
    printed: Vec<String>,
    usage: Usage,
    deadline: Instant,
}

/// How a program ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// With what.
    pub status: ExitStatus,
    /// When.
    pub at: Instant,
    /// What it used in its whole life.
    pub usage: Usage,
}

impl Measured {
    /// Starts `command`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        pass_on(child.stdout.take().unwrap(), sender.clone());
        pass_on(child.stderr.take().unwrap(), sender);
        Self {
            command: format!("{command:?}"),
            child,
            lines,
            printed: Vec::new(),
            usage: Usage::default(),
            deadline: Instant::now() + LIMIT,
        }
    }

    /// Writes a line to it.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{line}").unwrap();
    }

    /// The first line from now on that `wanted` makes something of, and when it was printed.
    ///
    /// # Panics
    /// It ended without one, or takes for ever.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> (Instant, T) {
        while let Some((at, line)) = self.next(what) {
            let found = wanted(&line);
            self.printed.push(line);
            if let Some(found) = found {
                return (at, found);
            }
        }
        self.fail(&format!("it ended without {what}"))
    }

    /// What it has used until now.
    pub fn usage(&mut self) -> Usage {
        self.sample();
        self.usage
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// It takes for ever.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        while let Some((_, line)) = self.next("its end") {
            self.printed.push(line);
        }
        // It is not waited for before it was read what it used: the system forgets that too.
        while !self.is_over() {
            if Instant::now() >= self.deadline {
                self.fail("it closed its output, but did not end");
            }
            thread::sleep(Duration::from_millis(1));
        }
        let at = Instant::now();
        self.sample();
        let status = self.child.wait().unwrap();
        Ended { status, at, usage: self.usage }
    }

    /// [`end`](Self::end), which must be a success.
    ///
    /// # Panics
    /// It failed, or takes for ever.
    #[track_caller]
    pub fn succeed(self) -> Ended {
        let command = self.command.clone();
        let ended = self.end();
        assert!(ended.status.success(), "{command}: {}", ended.status);
        ended
    }

    fn is_over(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with(['Z', 'X']))
    }

    fn sample(&mut self) {
        if let Some(now) = Usage::of(self.child.id()) {
            self.usage = Usage { peak: now.peak.max(self.usage.peak), ..now };
        }
    }

    #[track_caller]
    fn next(&mut self, what: &str) -> Option<(Instant, String)> {
        loop {
            self.sample();
            match self.lines.recv_timeout(SAMPLE) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if Instant::now() < self.deadline => {}
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("no sign of {what}")),
            }
        }
    }

    #[track_caller]
    fn fail(&self, why: &str) -> ! {
        let shown = &self.printed[self.printed.len().saturating_sub(SHOWN)..];
        panic!("{}: {why}; it printed:\n{}", self.command, shown.join("\n"));
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_on(from: impl Read + Send + 'static, to: Sender<(Instant, String)>) {
    thread::spawn(move || {
        let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
        lines
            .map(|line| (Instant::now(), String::from_utf8_lossy(&line).into_owned()))
            .try_for_each(|line| to.send(line))
    });
}
