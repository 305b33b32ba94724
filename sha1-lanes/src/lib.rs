//! SHA-1 (FIPS 180-4) of several messages side by side.
//!
//! Each of the processor's SHA-1 instructions waits for the one before it, so that one message leaves them idle more than half
//! of the time. Four messages, whose instructions take turns, are hashed in little more than the time of two: see
//! [`update_each`]. One message alone, and everything on a processor without these instructions, is left to the `sha1` crate.
//!
//! ```
//! use sha1_lanes::{Sha1, update_each};
//!
//! let (mut one, mut other) = (Sha1::new(), Sha1::new());
//! update_each([(&mut one, [&b"ab"[..], b"c"]), (&mut other, [b"a", b"bc"])]);
//! assert_eq!(one.finish(), Sha1::digest(b"abc"));
//! assert_eq!(other.finish(), Sha1::digest(b"abc"));
//! ```

mod lanes;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use lanes::{LANES, update_each};

/// Bytes that are hashed at a time.
const BLOCK: usize = 64;

/// The hash of one message while its bytes arrive in order.
#[derive(Clone, Debug)]
pub struct Sha1 {
    state: [u32; 5],
    /// How many bytes it was given. What goes beyond whole blocks is in `tail`.
    length: u64,
    tail: [u8; BLOCK],
}

impl Sha1 {
    /// Of nothing yet.
    pub const fn new() -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Self { state, length: 0, tail: [0; BLOCK] }
    }

    /// Of a message that is at hand.
    pub fn digest(message: &[u8]) -> [u8; 20] {
        let mut hash = Self::new();
        hash.update(message);
        hash.finish()
    }

    /// Takes the bytes that follow those given before.
    pub fn update(&mut self, data: &[u8]) {
        let blocks = self.absorb(data);
        self.compress(blocks);
    }

    /// The hash of everything that was given.
    pub fn finish(mut self) -> [u8; 20] {
        let bits = self.length.wrapping_mul(8);
        // A bit that is set, and as many zeros as leave eight bytes of the last block for the length.
        let mut padding = [0; 2 * BLOCK];
        padding[0] = 0x80;
        let end = if self.tail_len() < BLOCK - 8 { BLOCK } else { 2 * BLOCK } - self.tail_len();
        padding[end - 8..end].copy_from_slice(&bits.to_be_bytes());
        self.update(&padding[..end]);
        let mut digest = [0; 20];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// Takes `data`, but for its whole blocks, which are left to the caller to hash next.
    fn absorb<'d>(&mut self, data: &'d [u8]) -> &'d [[u8; BLOCK]] {
        let held = self.tail_len();
        self.length = self.length.wrapping_add(data.len() as u64);
        let mut rest = data;
        if held > 0 {
            let (head, after) = data.split_at(data.len().min(BLOCK - held));
            self.tail[held..][..head.len()].copy_from_slice(head);
            if held + head.len() < BLOCK {
                return &[];
            }
            self.compress(&[self.tail]);
            rest = after;
        }
        let (blocks, tail) = rest.as_chunks();
        self.tail[..tail.len()].copy_from_slice(tail);
        blocks
    }

    fn compress(&mut self, blocks: &[[u8; BLOCK]]) {
        sha1::block_api::compress(&mut self.state, blocks);
    }

    fn tail_len(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }
}

impl Default for Sha1 {
    fn default() -> Self {
        Self::new()
    }
}
