//! A program that is watched while it runs: every line that it prints, and how it ends.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A line that a program printed.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Out(String),
    Err(String),
}

impl Line {
    /// The text, wherever it was printed.
    pub(crate) fn text(&self) -> &str {
        let (Self::Out(text) | Self::Err(text)) = self;
        text
    }

    /// The object on stdout whose `event` is `name`.
    pub(crate) fn event(&self, name: &str) -> Option<Value> {
        let Self::Out(text) = self else { return None };
        serde_json::from_str(text).ok().filter(|object: &Value| object["event"] == name)
    }

    /// The fields of Pilotfish's alert `name`.
    pub(crate) fn alert(&self, name: &str) -> Option<Value> {
        self.event("alert").filter(|object| object["alert"] == name).map(|mut object| object["fields"].take())
    }
}

/// A running program. It is killed when this is dropped.
pub(crate) struct Process {
    command: String,
    child: Child,
    lines: Receiver<Line>,
    /// What it has printed so far.
    pub(crate) printed: Vec<Line>,
    deadline: Instant,
}

impl Process {
    /// Starts `command`. Whatever is waited for must come within `limit` from now.
    pub(crate) fn start(command: &mut Command, limit: Duration) -> Self {
        // The other end of its standard input stays open for as long as the child is watched.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        pass_on(child.stdout.take().unwrap(), sender.clone(), Line::Out);
        pass_on(child.stderr.take().unwrap(), sender, Line::Err);
        let (command, deadline) = (format!("{command:?}"), Instant::now() + limit);
        Self { command, child, lines, printed: Vec::new(), deadline }
    }

    /// The first line from now on that `wanted` makes something of.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&Line) -> Option<T>) -> T {
        while let Some(line) = self.next(what) {
            let found = wanted(&line);
            self.printed.push(line);
            if let Some(found) = found {
                return found;
            }
        }
        self.fail(&format!("it ended without {what}"))
    }

    /// The first line of all that `wanted` makes something of: it may have been printed already.
    #[track_caller]
    pub(crate) fn find<T>(&mut self, what: &str, wanted: impl Fn(&Line) -> Option<T>) -> T {
        self.printed.iter().find_map(&wanted).unwrap_or_else(|| self.wait_for(what, wanted))
    }

    /// Waits until it has ended by itself, and until nothing is left that could write to where it wrote.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        while let Some(line) = self.next("its end") {
            self.printed.push(line);
        }
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= self.deadline {
                self.fail("it closed its output, but did not end");
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits for its end, which must be with exit code `code`.
    #[track_caller]
    pub(crate) fn wait_for_code(&mut self, code: i32) {
        let status = self.wait();
        if status.code() != Some(code) {
            self.fail(&format!("{status} instead of {code}"));
        }
    }

    /// Ends it at once; it has no say in that. Returns everything that it had printed.
    pub(crate) fn kill(mut self) -> Vec<Line> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while let Some(line) = self.next("the end of its output") {
            self.printed.push(line);
        }
        std::mem::take(&mut self.printed)
    }

    /// Whatever is waited for must come within `limit` from now.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
    }

    /// Its number in the system.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// As if Ctrl-C was pressed in its terminal.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// The last object on stdout whose `event` is `name`.
    #[track_caller]
    pub(crate) fn last_event(&self, name: &str) -> Value {
        let last = self.printed.iter().rev().find_map(|line| line.event(name));
        last.unwrap_or_else(|| self.fail(&format!("it never said {name}")))
    }

    #[track_caller]
    fn next(&mut self, what: &str) -> Option<Line> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.fail(&format!("no sign of {what}")),
        }
    }

    #[track_caller]
    fn fail(&self, why: &str) -> ! {
        let from = self.printed.len().saturating_sub(200);
        let printed: Vec<&str> = self.printed[from..].iter().map(Line::text).collect();
        panic!("{}: {why}; it printed:\n{}", self.command, printed.join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_on(from: impl Read + Send + 'static, to: Sender<Line>, line: fn(String) -> Line) {
    thread::spawn(move || {
        let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
        lines.map(|text| line(String::from_utf8_lossy(&text).into_owned())).try_for_each(|line| to.send(line))
    });
}
