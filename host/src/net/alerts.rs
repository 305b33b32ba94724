//! Alerts on their way from the network thread to the embedding program.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::post::Post;
use crate::alert::Alert;

/// A bounded queue between the two threads. What does not fit stays in the engine, whose own queue is bounded too and
/// counts what it drops.
#[derive(Debug)]
pub(crate) struct AlertBox {
    shared: Mutex<Shared>,
    came: Condvar,
    limit: usize,
    post: Arc<Post>,
}

#[derive(Debug, Default)]
struct Shared {
    alerts: VecDeque<Alert>,
    /// More alerts may be waiting in the engine: it is to be told when there is room.
    full: bool,
    /// No more alerts will come.
    closed: bool,
}

impl AlertBox {
    /// A queue of at most `limit` alerts.
    pub(super) fn new(limit: usize, post: Arc<Post>) -> Self {
        Self { shared: Mutex::default(), came: Condvar::new(), limit: limit.max(1), post }
    }

    /// Moves alerts out of the engine for as long as there is room.
    pub(super) fn fill(&self, mut next: impl FnMut() -> Option<Alert>) {
        let mut shared = self.shared.lock();
        let before = shared.alerts.len();
        while shared.alerts.len() < self.limit {
            let Some(alert) = next() else { break };
            shared.alerts.push_back(alert);
        }
        shared.full = shared.alerts.len() >= self.limit;
        let came = shared.alerts.len() > before;
        drop(shared);
        if came {
            self.came.notify_all();
        }
    }

    /// Takes the last alerts of a session that has ended, however many they are.
    pub(super) fn finish(&self, last: impl Iterator<Item = Alert>) {
        self.shared.lock().alerts.extend(last);
        self.close();
    }

    /// No more alerts will come. Those that are here can still be taken.
    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.came.notify_all();
    }

    /// The oldest alert; waits for one until `deadline`, or until there will be none.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Option<Alert> {
        let mut shared = self.shared.lock();
        loop {
            if let Some(alert) = shared.alerts.pop_front() {
                let room_again = std::mem::take(&mut shared.full);
                drop(shared);
                if room_again {
                    self.post.nudge();
                }
                return Some(alert);
            }
            if shared.closed {
                return None;
            }
            match deadline {
                Some(deadline) if self.came.wait_until(&mut shared, deadline).timed_out() => {
                    return shared.alerts.pop_front();
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

/// The moment that is `wait` from now; `None` if that is further away than time can tell.
pub(crate) fn deadline(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::alert::AlertKind;

    fn alert(n: u32) -> Alert {
        Alert { timestamp: Duration::ZERO, kind: AlertKind::SessionError { error: n.to_string() } }
    }

    fn taken(queue: &AlertBox) -> Option<String> {
        queue.take(deadline(Duration::ZERO)).map(|alert| alert.kind.message())
    }

    #[test]
    fn what_does_not_fit_stays_where_it_was() {
        let queue = AlertBox::new(2, Arc::default());
        let mut engine = (0..3).map(alert);
        queue.fill(|| engine.next());
        assert_eq!([taken(&queue), taken(&queue), taken(&queue)], [Some("0".into()), Some("1".into()), None]);
        queue.fill(|| engine.next());
        assert_eq!([taken(&queue), taken(&queue)], [Some("2".into()), None]);
    }

    #[test]
    fn a_queue_that_has_room_again_says_so_once() {
        let post: Arc<Post> = Arc::default();
        let queue = AlertBox::new(2, post.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let nudged = || {
            runtime.block_on(async {
                tokio::select! { biased; () = post.arrived() => true, () = async {} => false }
            })
        };
        let mut engine = (0..9).map(alert);
        queue.fill(|| engine.next());
        assert!(!nudged());
        taken(&queue);
        assert!(nudged());
        taken(&queue);
        assert!(!nudged());
    }

    #[test]
    fn the_last_alerts_outlive_the_session() {
        let queue = AlertBox::new(1, Arc::default());
        queue.finish((0..3).map(alert));
        assert!(!queue.is_over());
        assert_eq!([0, 1, 2].map(|_| queue.take(None).is_some()), [true; 3]);
        assert!(queue.take(None).is_none() && queue.is_over());
    }

    #[test]
    fn an_alert_ends_the_wait_of_another_thread() {
        let queue = AlertBox::new(4, Arc::default());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.take(None).map(|alert| alert.kind.message()));
            let mut engine = std::iter::once(alert(7));
            queue.fill(|| engine.next());
            assert_eq!(waiting.join().unwrap().as_deref(), Some("7"));
        });
    }
}
