//! A task of the network thread whose panic ends the session.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::Signals;

pin_project! {
    /// A task and whom its panic is told.
    ///
    /// A type of its own, since an `async` block that awaits another future has room for that twice, and each connection is a task.
    pub(super) struct Guarded<F> {
        #[pin]
        task: F,
        signals: Rc<Signals>,
    }
}

impl<F> Guarded<F> {
    pub(super) fn new(task: F, signals: Rc<Signals>) -> Self {
        Self { task, signals }
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let _alarm = Alarm(this.signals);
        this.task.poll(context)
    }
}

/// Goes off when it is dropped by a panic.
struct Alarm<'a>(&'a Signals);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.notify_one();
        }
    }
}
