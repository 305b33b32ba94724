//! Where lines come from: a thread of the plugin's own, which may wait, as hooks may not.

use std::convert::Infallible;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use pilotfish_plugin::{PostError, Remote};

use crate::{LONGEST_LINE, Told};

/// How long to wait at the end of the file, or for room in the mailbox.
const PAUSE: Duration = Duration::from_millis(50);

/// The running thread. It ends when this is dropped; while it waits for a FIFO's first writer, with the process.
pub(crate) struct Source {
    /// Nothing is ever sent: the thread notices that the sender is gone, even while it waits.
    _alive: Sender<Infallible>,
}

impl Source {
    /// Posts `say`, and then each line of `file`.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub(crate) fn start(
        say: Option<&str>,
        file: Option<PathBuf>,
        remote: Remote<Told>,
    ) -> Result<Self, String> {
        let (alive, dropped) = mpsc::channel();
        let mut lines = Lines::default();
        let said = say.map_or_else(Vec::new, |say| lines.push(format!("{say}\n").as_bytes()));
        if said.is_empty() && file.is_none() {
            return Ok(Self { _alive: alive });
        }
        let thread = Thread { dropped, remote };
        thread::Builder::new()
            .name("chat-source".into())
            .spawn(move || thread.run(said, file.as_deref()))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { _alive: alive })
    }
}

/// The plugin is gone.
struct Gone;

struct Thread {
    dropped: Receiver<Infallible>,
    remote: Remote<Told>,
}

impl Thread {
    fn run(&self, said: Vec<String>, file: Option<&Path>) {
        // Whoever is gone need not be told so.
        let _ = said.into_iter().try_for_each(|line| self.post(Told::Line(line))).and_then(|()| match file {
            Some(file) => self.follow(file),
            None => Ok(()),
        });
    }

    /// Posts each line of a file, and waits for more at its end, for ever.
    fn follow(&self, path: &Path) -> Result<(), Gone> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) => return self.post(Told::Failed(format!("cannot read {}: {error}", path.display()))),
        };
        let (mut lines, mut buffer) = (Lines::default(), [0; 4096]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => self.pause()?,
                Ok(n) => {
                    lines.push(&buffer[..n]).into_iter().try_for_each(|line| self.post(Told::Line(line)))?
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return self.post(Told::Failed(format!("cannot read {}: {error}", path.display())));
                }
            }
        }
    }

    /// Posts in order: while the mailbox is full, nothing else is posted.
    fn post(&self, mut message: Told) -> Result<(), Gone> {
        loop {
            message = match self.remote.post(message) {
                Ok(()) => return Ok(()),
                Err(PostError::Closed(_)) => return Err(Gone),
                Err(PostError::Full(message)) => message,
            };
            self.pause()?;
        }
    }

    fn pause(&self) -> Result<(), Gone> {
        match self.dropped.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Gone),
        }
    }
}

/// Cuts bytes into lines, however they come.
#[derive(Default)]
struct Lines {
    /// The line that has no end yet.
    rest: Vec<u8>,
}

impl Lines {
    /// The lines that are complete now. Empty ones are left out, and long ones are cut.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => lines.extend(line(&std::mem::take(&mut self.rest))),
                // What does not fit is left out, up to the line's end.
                byte if self.rest.len() < LONGEST_LINE => self.rest.push(*byte),
                _ => {}
            }
        }
        lines
    }
}

/// A line as text of at most the length that may be sent.
fn line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    // Bytes that are no text have become longer ones.
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= LONGEST_LINE;
    let text: String = text.char_indices().take_while(fits).map(|(_, c)| c).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_wherever_the_bytes_are_split() {
        let bytes = "first\r\n\n  second ö\nnot yet".as_bytes();
        for at in 0..=bytes.len() {
            let mut lines = Lines::default();
            let mut found = lines.push(&bytes[..at]);
            found.extend(lines.push(&bytes[at..]));
            assert_eq!(found, ["first", "  second ö"], "split at {at}");
            assert_eq!(lines.push(b"\n"), ["not yet"]);
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = format!("{}\nnext\n", "ö".repeat(LONGEST_LINE));
        let lines = Lines::default().push(text.as_bytes());
        assert_eq!(lines, ["ö".repeat(LONGEST_LINE / 2), "next".to_owned()]);
        let lines = Lines::default().push(&[[0xff; LONGEST_LINE].as_slice(), b"\n"].concat());
        assert!(lines[0].len() <= LONGEST_LINE && lines[0].starts_with('\u{fffd}'));
    }
}
