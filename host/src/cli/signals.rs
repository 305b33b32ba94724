//! Signals: the first asks for a clean stop, the second ends the program at once.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use tokio::runtime::Builder;

use super::exit::ExitCode;

/// Which signal has come. Clones tell of the same signals.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals(Arc<AtomicU8>);

impl Signals {
    /// Takes over SIGINT and SIGTERM (on Windows, Ctrl-C). A thread waits for them until the process ends.
    ///
    /// # Errors
    /// The operating system does not hand them over, or starts no thread.
    pub(super) fn listen() -> io::Result<Self> {
        let signals = Self::default();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut source = {
            let _runtime = runtime.enter();
            Source::new()?
        };
        let heard = signals.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                while let Some(code) = source.next().await {
                    heard.take(code);
                }
            });
        })?;
        Ok(signals)
    }

    /// The code to exit with, if a signal has come.
    pub(super) fn received(&self) -> Option<ExitCode> {
        [ExitCode::Interrupted, ExitCode::Terminated]
            .into_iter()
            .find(|code| code.number() == self.0.load(Ordering::Relaxed))
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub(super) fn with(code: ExitCode) -> Self {
        let signals = Self::default();
        signals.take(code);
        signals
    }

    fn take(&self, code: ExitCode) {
        if self.0.swap(code.number(), Ordering::Relaxed) != 0 {
            process::exit(code.number().into());
        }
    }
}

#[cfg(unix)]
struct Source {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Option<ExitCode> {
        tokio::select! {
            came = self.interrupt.recv() => came.map(|()| ExitCode::Interrupted),
            came = self.terminate.recv() => came.map(|()| ExitCode::Terminated),
        }
    }
}

#[cfg(windows)]
struct Source(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Source {
    fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) -> Option<ExitCode> {
        self.0.recv().await.map(|()| ExitCode::Interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_is_remembered_for_whoever_looks() {
        let signals = Signals::default();
        assert_eq!(signals.received(), None);
        signals.clone().take(ExitCode::Terminated);
        assert_eq!(signals.received(), Some(ExitCode::Terminated));
    }
}
