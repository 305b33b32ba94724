//! What the plugin does by the clock: a thread of its own, which waits and then posts to the network thread.
//!
//! The thread measures real time, since it exists only where there are threads. A plugin whose timing a simulation is to
//! control compares `cx.now()` in `on_tick` instead.

use std::convert::Infallible;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What is done to all torrents of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Pause them.
    Pause,
    /// Resume them.
    Resume,
    /// Attach the torrent plugin to them.
    Attach,
}

/// The running thread. It ends with its last command, or as soon as this is dropped.
pub(crate) struct Schedule {
    /// Nothing is ever sent: the thread notices that the sender is gone, even while it waits.
    _alive: mpsc::Sender<Infallible>,
}

impl Schedule {
    /// Posts each command at its time after now, in the order given, until `post` says that nobody listens any more.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub(crate) fn start(
        commands: Vec<(Duration, Command)>,
        post: impl Fn(Command) -> bool + Send + 'static,
    ) -> Result<Self, String> {
        let (alive, dropped) = mpsc::channel();
        if !commands.is_empty() {
            thread::Builder::new()
                .name("trace-schedule".into())
                .spawn(move || run(&commands, &dropped, post))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
        }
        Ok(Self { _alive: alive })
    }
}

fn run(
    commands: &[(Duration, Command)],
    dropped: &mpsc::Receiver<Infallible>,
    post: impl Fn(Command) -> bool,
) {
    let start = Instant::now();
    for (at, command) in commands {
        match dropped.recv_timeout(at.saturating_sub(start.elapsed())) {
            Err(RecvTimeoutError::Timeout) if post(*command) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn started(commands: Vec<(Duration, Command)>) -> (Schedule, mpsc::Receiver<Command>) {
        let (sender, posted) = mpsc::channel();
        (Schedule::start(commands, move |command| sender.send(command).is_ok()).unwrap(), posted)
    }

    #[test]
    fn commands_are_posted_in_order() {
        let commands = [Command::Attach, Command::Pause, Command::Resume];
        let (_schedule, posted) = started(commands.map(|command| (Duration::ZERO, command)).to_vec());
        assert_eq!(posted.iter().collect::<Vec<_>>(), commands);
    }

    #[test]
    fn a_dropped_schedule_posts_nothing_more() {
        let (schedule, posted) = started(vec![(Duration::from_secs(3600), Command::Pause)]);
        drop(schedule);
        assert_eq!(
            posted.recv(),
            Err(mpsc::RecvError),
            "the thread ended, and let its end of the channel go"
        );
    }
}
