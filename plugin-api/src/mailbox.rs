//! Messages from a plugin's own threads to the network thread.
//!
//! The queue and the message type stay in the plugin, so a message may be any Rust type; across the boundary goes only
//! "there is something", and the host comes to collect it in its tick.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::mpsc;

use abi_stable::StableAbi;

use crate::context::SessionContext;

/// Receives the messages of a [`Mailbox`].
pub trait Receive<M> {
    /// A message was posted. Network thread, in the session's tick; in order for each sender.
    fn on_message(&mut self, cx: &mut SessionContext<'_>, message: M);
}

/// The receiving end; belongs to the plugin object, on the network thread.
pub struct Mailbox<M> {
    queue: mpsc::Receiver<M>,
    next: Option<M>,
    _network_thread: PhantomData<*const ()>,
}

/// The sending end. Clone it into any thread or async task.
pub struct Remote<M> {
    queue: mpsc::SyncSender<M>,
    waker: RawWaker,
}

/// Why a message was not posted; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum PostError<M> {
    /// As many messages as the mailbox holds are waiting.
    Full(M),
    /// The plugin object that owned the mailbox is gone.
    Closed(M),
}

impl<M> std::fmt::Display for PostError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Closed(_) => "the plugin is gone",
        })
    }
}

impl<M: std::fmt::Debug> std::error::Error for PostError<M> {}

impl<M: Send> Remote<M> {
    /// Queues a message and has the network thread collect it soon. Any thread; never blocks.
    ///
    /// # Errors
    /// [`PostError`], with the message.
    pub fn post(&self, message: M) -> Result<(), PostError<M>> {
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::TrySendError::Full(message) => PostError::Full(message),
            mpsc::TrySendError::Disconnected(message) => PostError::Closed(message),
        })?;
        self.waker.wake();
        Ok(())
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waker: self.waker.clone() }
    }
}

impl<M> std::fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

impl<M> Mailbox<M> {
    pub(crate) fn take(&mut self) -> Option<M> {
        self.next.take().or_else(|| self.queue.try_recv().ok())
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.next = self.take();
        self.next.is_none()
    }
}

pub(crate) fn channel<M>(waker: RawWaker, capacity: usize) -> (Mailbox<M>, Remote<M>) {
    let (sender, queue) = mpsc::sync_channel(capacity.max(1));
    (Mailbox { queue, next: None, _network_thread: PhantomData }, Remote { queue: sender, waker })
}

/// Wakes the network thread: counted by reference, callable from any thread, and harmless when the session is gone.
#[doc(hidden)]
#[repr(C)]
#[derive(StableAbi)]
pub struct RawWaker {
    data: *const (),
    clone: unsafe extern "C" fn(*const ()) -> *const (),
    wake: unsafe extern "C" fn(*const ()),
    release: unsafe extern "C" fn(*const ()),
}

// SAFETY: `new` demands that all three functions may be called from any thread.
unsafe impl Send for RawWaker {}
// SAFETY: as above.
unsafe impl Sync for RawWaker {}

impl RawWaker {
    /// # Safety
    /// The functions may be called from any thread with what `clone` returned, or `data`, until `release` was called once
    /// for each.
    pub unsafe fn new(
        data: *const (),
        clone: unsafe extern "C" fn(*const ()) -> *const (),
        wake: unsafe extern "C" fn(*const ()),
        release: unsafe extern "C" fn(*const ()),
    ) -> Self {
        Self { data, clone, wake, release }
    }

    pub(crate) fn noop() -> Self {
        unsafe extern "C" fn same(data: *const ()) -> *const () {
            data
        }
        unsafe extern "C" fn nothing(_: *const ()) {}
        Self { data: std::ptr::null(), clone: same, wake: nothing, release: nothing }
    }

    fn wake(&self) {
        // SAFETY: `data` has not been released while `self` is there.
        unsafe { (self.wake)(self.data) };
    }
}

impl Clone for RawWaker {
    fn clone(&self) -> Self {
        // SAFETY: as in `wake`.
        let data = unsafe { (self.clone)(self.data) };
        Self { data, clone: self.clone, wake: self.wake, release: self.release }
    }
}

impl Drop for RawWaker {
    fn drop(&mut self) {
        // SAFETY: each clone is released once, here.
        unsafe { (self.release)(self.data) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_returns_the_message_and_a_dropped_one_too() {
        let (mut mailbox, remote) = channel(RawWaker::noop(), 2);
        assert_eq!(
            (remote.post(1), remote.post(2), remote.post(3)),
            (Ok(()), Ok(()), Err(PostError::Full(3)))
        );
        assert!(!mailbox.is_empty());
        assert_eq!([mailbox.take(), mailbox.take(), mailbox.take()], [Some(1), Some(2), None]);
        drop(mailbox);
        assert_eq!(remote.post(4), Err(PostError::Closed(4)));
    }
}
