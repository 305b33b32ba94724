//! A million messages from eight threads to one plugin of a real session.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pilotfish::command::PluginSource;
use pilotfish::session::{Session, SessionParams};
use pilotfish_plugin::{
    Mailbox, PostError, Receive, Remote, SessionBox, SessionContext, SessionPlugin, hooks,
};

const SENDERS: usize = 8;
const EACH: u32 = 125_000;
/// Far less than the senders have to say, so that the mailbox is full again and again.
const CAPACITY: usize = 1_000;
/// A machine may be slow, but not that slow.
const LIMIT: Duration = Duration::from_secs(120);

struct Letter {
    sender: usize,
    number: u32,
}

/// What arrived.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// What each sender's next message must be numbered.
    next: [u32; SENDERS],
    /// Messages that came out of order, twice, or after one that never came.
    misplaced: usize,
    /// Messages that were delivered by another thread than the one that every hook runs on.
    astray: usize,
}

/// Counts what arrives, and sends the tally home with the object's end.
struct Counter {
    network: ThreadId,
    tally: Tally,
    all_came: Sender<()>,
    home: Sender<Tally>,
}

#[hooks]
impl SessionPlugin for Counter {
    fn added(&mut self, _: &mut SessionContext<'_>) {
        assert_eq!(self.network, thread::current().id());
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        cx.session().done();
    }
}

impl Receive<Letter> for Counter {
    fn on_message(&mut self, _: &mut SessionContext<'_>, letter: Letter) {
        let next = &mut self.tally.next[letter.sender];
        self.tally.misplaced += usize::from(letter.number != *next);
        *next += 1;
        self.tally.astray += usize::from(thread::current().id() != self.network);
        if self.tally.next.iter().sum::<u32>() == EACH * SENDERS as u32 {
            // The test may have given up.
            let _ = self.all_came.send(());
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.home.send(std::mem::take(&mut self.tally));
    }
}

/// Posts every message of one sender, and counts how often there was no room.
fn send(remote: &Remote<Letter>, sender: usize) -> u64 {
    let mut refused = 0;
    for number in 0..EACH {
        let mut letter = Letter { sender, number };
        while let Err(error) = remote.post(letter) {
            match error {
                PostError::Full(back) => letter = back,
                PostError::Closed(_) => panic!("the plugin is gone before its time"),
            }
            refused += 1;
            thread::yield_now();
        }
    }
    refused
}

#[test]
fn a_million_posts_from_eight_threads_arrive_once_each_in_order_and_on_the_network_thread() {
    let mut params = SessionParams::default();
    params.settings.set("listen_interfaces", "127.0.0.1:0").unwrap();
    let (session, _alerts) = Session::start(params).unwrap();
    let ((all_came, came), (home, tally), (ends, remote)) = (channel(), channel(), channel());
    let open = move |cx: &mut SessionContext<'_>| {
        let (mailbox, remote): (Mailbox<Letter>, _) = cx.mailbox(CAPACITY);
        ends.send(remote).unwrap();
        let counter = Counter { network: thread::current().id(), tally: Tally::default(), all_came, home };
        Ok(SessionBox::with_mailbox(counter, mailbox))
    };
    session.add_extension(PluginSource::linked("counter", open)).unwrap();
    let remote = remote.recv().unwrap();

    let refused: u64 = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let remote = remote.clone();
                scope.spawn(move || send(&remote, sender))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    let all_came = came.recv_timeout(LIMIT);
    session.shutdown();

    // Before the tally, or a lost message would only be known as one that did not come in time.
    let tally = tally.recv().unwrap();
    assert_eq!(tally, Tally { next: [EACH; SENDERS], misplaced: 0, astray: 0 });
    assert_eq!(all_came, Ok(()));
    assert!(refused > 0, "the mailbox was never full");
    assert!(matches!(remote.post(Letter { sender: 0, number: EACH }), Err(PostError::Closed(_))));
}
