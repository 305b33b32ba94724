//! Alerts on their way from the network thread to whoever subscribed in the embedding program.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pilotfish_plugin::AlertCategory;

use super::post::{Post, Request};
use crate::alert::{Alert, AlertQueue};
use crate::command::Command;

/// Everybody who subscribed. The network thread hands each of them its copies, and waits for none.
#[derive(Debug)]
pub(crate) struct Subscribers {
    boxes: Mutex<Boxes>,
    post: Weak<Post>,
}

#[derive(Debug, Default)]
struct Boxes {
    open: Vec<Arc<AlertBox>>,
    /// No more alerts will come.
    closed: bool,
}

/// The alerts of one subscriber: a bounded queue, which counts what does not fit.
#[derive(Debug)]
pub(crate) struct AlertBox {
    /// What it is for; `None` is what the setting `alert_mask` says.
    mask: Option<AlertCategory>,
    shared: Mutex<Shared>,
    came: Condvar,
}

#[derive(Debug)]
struct Shared {
    alerts: AlertQueue,
    /// When the newest alert came to pass, on the session's clock.
    newest: Duration,
    closed: bool,
}

impl Subscribers {
    /// Nobody yet. `post` is how the engine hears which categories are wanted.
    pub(super) fn new(post: &Arc<Post>) -> Arc<Self> {
        Arc::new(Self { boxes: Mutex::default(), post: Arc::downgrade(post) })
    }

    /// One more, with room for `limit` alerts.
    pub(crate) fn subscribe(&self, mask: Option<AlertCategory>, limit: usize) -> Arc<AlertBox> {
        let mut boxes = self.boxes.lock();
        let shared = Shared { alerts: AlertQueue::new(limit), newest: Duration::ZERO, closed: boxes.closed };
        let subscriber = Arc::new(AlertBox { mask, shared: Mutex::new(shared), came: Condvar::new() });
        if !boxes.closed {
            boxes.open.push(subscriber.clone());
            self.want(&boxes);
        }
        subscriber
    }

    /// One less.
    pub(crate) fn unsubscribe(&self, subscriber: &Arc<AlertBox>) {
        let mut boxes = self.boxes.lock();
        boxes.open.retain(|open| !Arc::ptr_eq(open, subscriber));
        self.want(&boxes);
    }

    /// Tells the engine what is wanted. Under the lock, so that the last word is the right one.
    fn want(&self, boxes: &Boxes) {
        let union =
            |union: AlertCategory, open: &Arc<AlertBox>| union | open.mask.unwrap_or(AlertCategory::NONE);
        let mask = boxes.open.iter().fold(AlertCategory::NONE, union);
        if let Some(post) = self.post.upgrade() {
            post.command(Request { command: Command::Subscribed(mask), answer: None });
        }
    }

    /// Hands out what came to pass. `mask` is the setting.
    pub(super) fn deliver(&self, mask: AlertCategory, mut next: impl FnMut() -> Option<Alert>) {
        let Some(mut alert) = next() else { return };
        let boxes = self.boxes.lock();
        loop {
            for open in boxes.open.iter().filter(|open| alert.kind.is_for(open.mask.unwrap_or(mask))) {
                open.push(alert.clone());
            }
            match next() {
                Some(another) => alert = another,
                None => break,
            }
        }
        for open in &boxes.open {
            open.came.notify_all();
        }
    }

    /// No more alerts will come. Those that are there can still be taken.
    pub(super) fn close(&self) {
        let mut boxes = self.boxes.lock();
        boxes.closed = true;
        boxes.open.drain(..).for_each(|open| open.close());
    }
}

impl AlertBox {
    fn push(&self, alert: Alert) {
        let mut shared = self.shared.lock();
        shared.newest = alert.timestamp;
        shared.alerts.push(alert);
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.came.notify_all();
    }

    /// The oldest alert; waits for one until `deadline`, or until there will be none.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Option<Alert> {
        let mut shared = self.shared.lock();
        loop {
            if let Some(alert) = shared.pop() {
                return Some(alert);
            }
            if shared.closed {
                return None;
            }
            match deadline {
                Some(deadline) if self.came.wait_until(&mut shared, deadline).timed_out() => {
                    return shared.pop();
                }
                Some(_) => {}
                None => self.came.wait(&mut shared),
            }
        }
    }

    /// Whether no alert is here, and none will come.
    pub(crate) fn is_over(&self) -> bool {
        let shared = self.shared.lock();
        shared.closed && shared.alerts.is_empty()
    }
}

impl Shared {
    fn pop(&mut self) -> Option<Alert> {
        self.alerts.pop(self.newest)
    }
}

/// The moment that is `wait` from now; `None` if that is further away than time can tell.
pub(crate) fn deadline(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pilotfish_plugin::TorrentHandle;

    use super::*;
    use crate::alert::AlertKind;

    fn alert(n: u32) -> Alert {
        Alert { timestamp: Duration::ZERO, kind: AlertKind::SessionError { error: n.to_string() } }
    }

    fn paused(n: u32) -> Alert {
        let kind = AlertKind::TorrentPaused { torrent: TorrentHandle::INVALID, name: n.to_string() };
        Alert { timestamp: Duration::ZERO, kind }
    }

    fn subscribers() -> (Arc<Post>, Arc<Subscribers>) {
        let post: Arc<Post> = Arc::default();
        (post.clone(), Subscribers::new(&post))
    }

    fn all_taken(subscriber: &AlertBox) -> Vec<String> {
        let next = || subscriber.take(deadline(Duration::ZERO)).map(|alert| alert.kind.message());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn each_has_a_limit_of_its_own_and_hears_how_much_it_missed() {
        let (_post, subscribers) = subscribers();
        let (patient, hasty) = (subscribers.subscribe(None, 100), subscribers.subscribe(None, 2));
        let mut engine = (0..5).map(paused);
        subscribers.deliver(AlertCategory::ALL, || engine.next());
        assert_eq!(all_taken(&patient).len(), 5);
        assert_eq!(all_taken(&hasty), ["0: paused", "1: paused", "3 alerts dropped: the queue was full"]);
        let mut engine = (5..6).map(paused);
        subscribers.deliver(AlertCategory::ALL, || engine.next());
        assert_eq!(
            (all_taken(&patient), all_taken(&hasty)),
            (vec!["5: paused".into()], vec!["5: paused".into()])
        );
    }

    #[test]
    fn each_hears_what_it_asked_for_and_what_nobody_may_miss() {
        let (_post, subscribers) = subscribers();
        let by_setting = subscribers.subscribe(None, 9);
        let errors = subscribers.subscribe(Some(AlertCategory::ERROR), 9);
        let mut engine = [paused(1), alert(2)].into_iter();
        subscribers.deliver(AlertCategory::STATUS, || engine.next());
        assert_eq!(all_taken(&by_setting), ["1: paused", "2"]);
        assert_eq!(all_taken(&errors), ["2"]);
    }

    #[test]
    fn the_engine_hears_what_is_wanted_besides_the_setting() {
        let (post, subscribers) = subscribers();
        let wanted = || {
            let mut mail = crate::net::post::Mail::default();
            post.take(9, &mut mail);
            let masks = mail.requests.into_iter().map(|request| match request.command {
                Command::Subscribed(mask) => mask,
                other => panic!("{other:?}"),
            });
            masks.collect::<Vec<_>>()
        };
        let _by_setting = subscribers.subscribe(None, 9);
        let errors = subscribers.subscribe(Some(AlertCategory::ERROR), 9);
        let _peers = subscribers.subscribe(Some(AlertCategory::PEER), 9);
        subscribers.unsubscribe(&errors);
        let (none, error, peer) = (AlertCategory::NONE, AlertCategory::ERROR, AlertCategory::PEER);
        assert_eq!(wanted(), [none, error, error | peer, peer]);
    }

    #[test]
    fn the_last_alerts_outlive_the_session() {
        let (_post, subscribers) = subscribers();
        let early = subscribers.subscribe(None, 9);
        let mut engine = (0..3).map(alert);
        subscribers.deliver(AlertCategory::ALL, || engine.next());
        subscribers.close();
        assert!(!early.is_over());
        assert_eq!([0, 1, 2].map(|_| early.take(None).is_some()), [true; 3]);
        assert!(early.take(None).is_none() && early.is_over());
        let late = subscribers.subscribe(None, 9);
        assert!(late.take(None).is_none() && late.is_over());
    }

    #[test]
    fn an_alert_ends_the_wait_of_another_thread() {
        let (_post, subscribers) = subscribers();
        let queue = subscribers.subscribe(None, 4);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.take(None).map(|alert| alert.kind.message()));
            let mut engine = std::iter::once(alert(7));
            subscribers.deliver(AlertCategory::ALL, || engine.next());
            assert_eq!(waiting.join().unwrap().as_deref(), Some("7"));
        });
    }
}
