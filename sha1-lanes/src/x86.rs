//! The SHA extensions of x86-64, on several messages at once. What each instruction does, and how they make the eighty rounds:
//! Intel, "New Instructions Supporting the Secure Hash Algorithm on Intel Architecture Processors".
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use crate::BLOCK;

/// Whether this processor has the instructions.
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
}

/// Hashes blocks of `N` messages: of each as many as there are of the shortest.
///
/// # Panics
/// The processor has no such instructions.
pub(crate) fn compress<const N: usize>(states: [&mut [u32; 5]; N], blocks: [&[[u8; BLOCK]]; N]) {
    assert!(is_available());
    // SAFETY: the processor has what the function is compiled for, and the function asks for nothing else.
    unsafe { compress_lanes(states, blocks) }
}

/// One message.
#[derive(Clone, Copy)]
struct Lane {
    /// The words a to d, from the highest down.
    abcd: __m128i,
    /// Between blocks the word e, as the highest. Within one, the `abcd` of four rounds before, whose a gives e.
    e: __m128i,
    /// The words of the message that the next rounds need, four in each. Those of rounds n to n + 3 are number n / 4 modulo 4.
    words: [__m128i; 4],
    /// `abcd` and `e` as they were before the block. Kept here, and not in an array beside the lanes, because the compiler then
    /// finds registers for more of it (measured: a fifth).
    before: [__m128i; 2],
}

/// The instructions of the lanes take turns, so that none waits for the one before it.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn compress_lanes<const N: usize>(states: [&mut [u32; 5]; N], blocks: [&[[u8; BLOCK]]; N]) {
    let mut lanes: [Lane; N] = std::array::from_fn(|i| Lane::new(states[i]));
    /// Four rounds of each lane. The schedule is extended up to round 79.
    macro_rules! four_rounds {
        ($function:literal: $($quarter:literal)*) => {$(
            for lane in &mut lanes {
                lane.four_rounds::<$quarter, $function>();
            }
        )*};
    }
    let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let blocks = blocks.map(|blocks| &blocks[..count]);
    for at in 0..count {
        for (lane, blocks) in lanes.iter_mut().zip(blocks) {
            lane.load(&blocks[at]);
        }
        four_rounds!(0: 0 1 2 3 4);
        four_rounds!(1: 5 6 7 8 9);
        four_rounds!(2: 10 11 12 13 14);
        four_rounds!(3: 15 16 17 18 19);
        for lane in &mut lanes {
            let [abcd, e] = lane.before;
            lane.e = _mm_sha1nexte_epu32(lane.e, e);
            lane.abcd = _mm_add_epi32(lane.abcd, abcd);
        }
    }
    for (state, lane) in states.into_iter().zip(lanes) {
        *state = lane.state();
    }
}

impl Lane {
    #[target_feature(enable = "sse2")]
    fn new([a, b, c, d, e]: &[u32; 5]) -> Self {
        let abcd = _mm_set_epi32(a.cast_signed(), b.cast_signed(), c.cast_signed(), d.cast_signed());
        let e = _mm_set_epi32(e.cast_signed(), 0, 0, 0);
        Self { abcd, e, words: [_mm_setzero_si128(); 4], before: [abcd, e] }
    }

    #[target_feature(enable = "sse4.1")]
    fn state(self) -> [u32; 5] {
        let words = [
            _mm_extract_epi32::<3>(self.abcd),
            _mm_extract_epi32::<2>(self.abcd),
            _mm_extract_epi32::<1>(self.abcd),
            _mm_extract_epi32::<0>(self.abcd),
            _mm_extract_epi32::<3>(self.e),
        ];
        words.map(i32::cast_unsigned)
    }

    #[inline]
    #[target_feature(enable = "sse2,ssse3")]
    fn load(&mut self, block: &[u8; BLOCK]) {
        self.before = [self.abcd, self.e];
        // Words are big-endian, and the first is the highest.
        let reversed = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
        let (words, _) = block.as_chunks();
        self.words = std::array::from_fn(|i| {
            let words = u128::from_le_bytes(words[i]);
            _mm_shuffle_epi8(_mm_set_epi64x((words >> 64) as i64, words as i64), reversed)
        });
    }

    /// Rounds 4 `QUARTER` to 4 `QUARTER` + 3, whose function is number `FUNCTION`.
    #[inline]
    #[target_feature(enable = "sha,sse2")]
    fn four_rounds<const QUARTER: usize, const FUNCTION: i32>(&mut self) {
        let Self { abcd, e, words, .. } = *self;
        let [now, next, after, last] = std::array::from_fn(|i| words[(QUARTER + i) % 4]);
        let e = if QUARTER == 0 { _mm_add_epi32(e, now) } else { _mm_sha1nexte_epu32(e, now) };
        self.e = abcd;
        self.abcd = _mm_sha1rnds4_epu32::<FUNCTION>(abcd, e);
        if QUARTER < 16 {
            let mixed = _mm_xor_si128(_mm_sha1msg1_epu32(now, next), after);
            self.words[QUARTER % 4] = _mm_sha1msg2_epu32(mixed, last);
        }
    }
}
