//! What other threads have for the network thread.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::command::{Answer, Command, Ticket};
use crate::job::DiskDone;

/// A command, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    /// Its ticket, if it has one. The sender has room for one answer; dropped unused, the session has ended.
    pub(crate) answer: Option<(Ticket, SyncSender<Answer>)>,
}

/// The letter box of the network thread. Posting never waits for it.
///
/// However much is posted while the network thread is busy, it is woken once.
#[derive(Debug, Default)]
pub(crate) struct Post {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    disk: Vec<DiskDone>,
    wake: bool,
    closed: bool,
}

/// What the network thread takes out at once. Kept from one time to the next, for its memory.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Commands, oldest first: at most as many as were asked for.
    pub(super) requests: Vec<Request>,
    /// Every answer of the disk.
    pub(super) disk: Vec<DiskDone>,
    /// Whether a plugin's thread posted something.
    pub(super) wake: bool,
}

impl Post {
    /// Posts a command. `false`: the network thread is gone, and the command is dropped.
    pub(crate) fn command(&self, request: Request) -> bool {
        self.put(|waiting| waiting.requests.push_back(request))
    }

    /// Posts what the disk answered.
    pub(super) fn disk(&self, mut answers: Vec<DiskDone>) {
        self.put(|waiting| {
            if waiting.disk.is_empty() {
                waiting.disk = answers;
            } else {
                waiting.disk.append(&mut answers);
            }
        });
    }

    /// A plugin's thread posted something.
    pub(super) fn wake(&self) {
        self.put(|waiting| waiting.wake = true);
    }

    /// The network thread is gone: whoever waits for an answer stops waiting, and nobody may post any more.
    pub(super) fn close(&self) {
        let closed = Waiting { closed: true, ..Waiting::default() };
        let left = std::mem::replace(&mut *self.waiting.lock(), closed);
        // Not under the lock: what is dropped here wakes its callers.
        drop(left);
    }

    /// Waits until something has been posted since the last time.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes at most `commands` commands, and everything else. If commands are left, [`arrived`](Self::arrived) says so.
    pub(super) fn take(&self, commands: usize, mail: &mut Mail) {
        let mut waiting = self.waiting.lock();
        let count = waiting.requests.len().min(commands);
        mail.requests.extend(waiting.requests.drain(..count));
        std::mem::swap(&mut mail.disk, &mut waiting.disk);
        mail.wake = std::mem::take(&mut waiting.wake);
        if !waiting.requests.is_empty() {
            self.arrived.notify_one();
        }
    }

    fn put(&self, put: impl FnOnce(&mut Waiting)) -> bool {
        {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return false;
            }
            put(&mut waiting);
        }
        self.arrived.notify_one();
        true
    }
}
