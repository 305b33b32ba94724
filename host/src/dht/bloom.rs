//! How many addresses there are, in 256 bytes and without telling which (BEP 33): a Bloom filter.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// Bytes, and bits, of a filter.
const LEN: usize = 256;
const BITS: usize = 8 * LEN;

/// Some addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bloom(pub(super) [u8; LEN]);

impl Default for Bloom {
    fn default() -> Self {
        Self([0; LEN])
    }
}

impl Bloom {
    /// One more address, if it was not among them.
    pub(super) fn insert(&mut self, ip: IpAddr) {
        let digest = match ip {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()),
        };
        for pair in digest.as_chunks::<2>().0.iter().take(2) {
            let bit = usize::from(u16::from_le_bytes(*pair)) % BITS;
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// And all those.
    pub(super) fn join(&mut self, others: &[u8; LEN]) {
        self.0.iter_mut().zip(others).for_each(|(byte, other)| *byte |= other);
    }

    /// About how many they are.
    pub(super) fn count(&self) -> u32 {
        let zeros: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        let bits = BITS as f64;
        // A filter that is full tells no more than one that is almost full.
        let zeros = f64::from(zeros).clamp(1.0, bits);
        let count = (zeros / bits).ln() / (2.0 * (1.0 - 1.0 / bits).ln());
        count.round() as u32
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// The example of BEP 33: 256 addresses of IPv4 and 1000 of IPv6, of which its filter makes 1224.93.
    #[test]
    fn the_example_of_the_specification_comes_to_what_it_says() {
        let mut bloom = Bloom::default();
        (0..=255).for_each(|last| bloom.insert(Ipv4Addr::new(192, 0, 2, last).into()));
        (0..0x3e8).for_each(|last| bloom.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()));
        assert_eq!(bloom.count(), 1_225);
        assert_eq!(bloom.0[..8], [0xf6, 0xc3, 0xf5, 0xea, 0xa0, 0x7f, 0xfd, 0x91]);
    }

    #[test]
    fn none_are_none_the_same_is_one_and_all_bits_are_a_bounded_number() {
        let mut bloom = Bloom::default();
        assert_eq!(bloom.count(), 0);
        (0..9).for_each(|_| bloom.insert(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(bloom.count(), 1);
        bloom.join(&[0xff; LEN]);
        assert!((7_000..8_000).contains(&bloom.count()), "{}", bloom.count());
    }
}
