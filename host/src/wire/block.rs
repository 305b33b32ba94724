//! Buffers of one block each, which come back to their pool when the last reader lets go.
//!
//! A block is received once, and then read by plugins, hashed and written without a copy. The pool counts the buffers
//! that exist, because that number, and not the number of requests, is what memory is limited by.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::metainfo::BLOCK_SIZE;

/// Where block buffers come from. A clone is another handle to the same pool.
///
/// Taking a buffer never waits for one: when none is spare, one is allocated. The limit is the caller's business, by
/// way of [`in_use`](Self::in_use).
#[derive(Clone, Debug)]
pub struct BlockPool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spare: Mutex<Vec<Box<[u8]>>>,
    max_spare: usize,
    in_use: AtomicUsize,
}

impl BlockPool {
    /// A pool that keeps at most `max_spare` buffers of 16 KiB for later.
    pub fn new(max_spare: usize) -> Self {
        Self(Arc::new(Shared { spare: Mutex::default(), max_spare, in_use: AtomicUsize::new(0) }))
    }

    /// An empty buffer for `len` bytes, at most [`BLOCK_SIZE`]. Longer ones are cut to that.
    pub fn take(&self, len: u32) -> BlockBuf {
        let spare = self.0.spare.lock().pop();
        let data = spare.unwrap_or_else(|| vec![0; BLOCK_SIZE as usize].into_boxed_slice());
        self.0.in_use.fetch_add(1, Ordering::Relaxed);
        BlockBuf { data, len: len.min(BLOCK_SIZE) as usize, filled: 0, pool: self.clone() }
    }

    /// Buffers that somebody holds.
    pub fn in_use(&self) -> usize {
        self.0.in_use.load(Ordering::Relaxed)
    }

    /// Buffers that exist, spare ones included. Each is [`BLOCK_SIZE`] bytes.
    pub fn allocated(&self) -> usize {
        self.in_use() + self.0.spare.lock().len()
    }

    fn give_back(&self, data: Box<[u8]>) {
        self.0.in_use.fetch_sub(1, Ordering::Relaxed);
        let mut spare = self.0.spare.lock();
        if spare.len() < self.0.max_spare {
            spare.push(data);
        }
    }
}

/// A buffer that is being filled from the front.
#[derive(Debug)]
pub struct BlockBuf {
    data: Box<[u8]>,
    len: usize,
    filled: usize,
    pool: BlockPool,
}

impl BlockBuf {
    /// The rest of the buffer. What is in it is left over from earlier blocks.
    pub fn unfilled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.filled..self.len]
    }

    /// The first `n` bytes of [`unfilled_mut`](Self::unfilled_mut) are data now; never more than there are.
    pub fn advance(&mut self, n: usize) {
        self.filled = self.len.min(self.filled.saturating_add(n));
    }

    /// Copies as much of `bytes` as fits, and says how much that was.
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        let rest = self.unfilled_mut();
        let n = rest.len().min(bytes.len());
        rest[..n].copy_from_slice(&bytes[..n]);
        self.advance(n);
        n
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> usize {
        self.len - self.filled
    }

    /// Whether all of the bytes asked for are there.
    pub fn is_full(&self) -> bool {
        self.filled == self.len
    }

    /// The data, for any number of readers. The buffer returns to the pool when the last of them is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

/// The part that was filled.
impl AsRef<[u8]> for BlockBuf {
    fn as_ref(&self) -> &[u8] {
        &self.data[..self.filled]
    }
}

impl Drop for BlockBuf {
    fn drop(&mut self) {
        self.pool.give_back(mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_when_its_last_reader_is_dropped() {
        let pool = BlockPool::new(1);
        let mut buffer = pool.take(5);
        assert_eq!((buffer.extend(b"hel"), buffer.is_full()), (3, false));
        assert_eq!((buffer.extend(b"lo world"), buffer.is_full()), (2, true));
        let bytes = buffer.freeze();
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&part[..], pool.in_use(), pool.allocated()), (&b"el"[..], 1, 1));
        drop(part);
        assert_eq!((pool.in_use(), pool.allocated()), (0, 1));
    }

    #[test]
    fn only_so_many_spare_buffers_are_kept() {
        let pool = BlockPool::new(2);
        let held: Vec<_> = (0..5).map(|_| pool.take(BLOCK_SIZE)).collect();
        assert_eq!((pool.in_use(), pool.allocated()), (5, 5));
        drop(held);
        assert_eq!((pool.in_use(), pool.allocated()), (0, 2));
    }

    #[test]
    fn a_used_buffer_shows_nothing_of_its_past() {
        let pool = BlockPool::new(1);
        pool.take(3).extend(b"old");
        let mut again = pool.take(u32::MAX);
        assert_eq!(again.unfilled_mut().len(), BLOCK_SIZE as usize);
        assert!(again.as_ref().is_empty());
        again.advance(usize::MAX);
        assert!(again.is_full());
    }
}
