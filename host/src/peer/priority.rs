//! Which connections of a crowded swarm are kept (BEP 40): both ends compute the same number of their two addresses, and
//! whoever has too many connections keeps those with the highest. Nobody can choose how high it stands with everybody.

use std::net::{IpAddr, SocketAddr};

/// The priority of a connection between two endpoints, the same from either end. `None` if they are of different families.
pub fn peer_priority(one: SocketAddr, other: SocketAddr) -> Option<u32> {
    let (low, high) = if one.ip() <= other.ip() { (one, other) } else { (other, one) };
    match (low.ip(), high.ip()) {
        (a, b) if a == b => {
            let (low, high) = (one.port().min(other.port()), one.port().max(other.port()));
            Some(crc32c(&[low.to_be_bytes(), high.to_be_bytes()].concat()))
        }
        (IpAddr::V4(a), IpAddr::V4(b)) => Some(masked(a.octets(), b.octets(), 2)),
        // Of IPv6 addresses the first half takes the place of an IPv4 address, as with libtorrent.
        (IpAddr::V6(a), IpAddr::V6(b)) => Some(masked(a.octets(), b.octets(), 4)),
        _ => None,
    }
}

/// Hashes two addresses of which only `network` bytes count in full, or half as many more for each network that they share.
fn masked<const N: usize>(mut low: [u8; N], mut high: [u8; N], network: usize) -> u32 {
    let step = network / 2;
    let shared = |bytes: usize| low[..bytes] == high[..bytes];
    let full = match (shared(network), shared(network + step)) {
        (false, _) => network,
        (true, false) => network + step,
        (true, true) => network + 2 * step,
    };
    for address in [&mut low, &mut high] {
        address[full..2 * network].iter_mut().for_each(|byte| *byte &= 0x55);
    }
    crc32c(&[low, high].concat())
}

/// The CRC of Castagnoli's polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn priority(one: &str, other: &str) -> Option<u32> {
        peer_priority(one.parse().unwrap(), other.parse().unwrap())
    }

    #[test]
    fn the_examples_of_the_specification_hold() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(priority("123.213.32.10:0", "98.76.54.32:0"), Some(0xec2d_7224));
        assert_eq!(priority("123.213.32.10:1", "123.213.32.234:2"), Some(0x9956_8189));
    }

    #[test]
    fn the_ports_count_where_the_addresses_are_the_same() {
        assert_eq!(priority("1.2.3.4:1", "1.2.3.4:515"), Some(crc32c(&[0, 1, 2, 3])));
        assert_eq!(priority("1.2.3.4:515", "1.2.3.4:1"), Some(crc32c(&[0, 1, 2, 3])));
    }

    #[test]
    fn only_the_network_counts_of_distant_addresses() {
        // Each differs from the first in bits that the mask takes out.
        assert_eq!(priority("1.2.0.0:1", "9.9.9.9:1"), priority("1.2.170.170:7", "9.9.9.9:3"));
        assert_ne!(priority("1.2.0.0:1", "9.9.9.9:1"), priority("1.2.1.0:1", "9.9.9.9:1"));
        assert_eq!(priority("1.2.3.0:1", "1.2.9.9:1"), priority("1.2.3.170:1", "1.2.9.9:1"));
        assert_ne!(priority("1.2.3.0:1", "1.2.3.9:1"), priority("1.2.3.170:1", "1.2.3.9:1"));
        assert_eq!(priority("[2001:db8::]:1", "[2a00::]:1"), priority("[2001:db8:aaaa::]:1", "[2a00::]:1"));
        assert_ne!(
            priority("[2001:db8::]:1", "[2001:db8:1::]:1"),
            priority("[2001:db8:2::]:1", "[2001:db8:1::]:1")
        );
        assert_eq!(priority("1.2.3.4:1", "[::1]:1"), None);
    }

    proptest! {
        #[test]
        fn both_ends_compute_the_same(a: SocketAddr, b: SocketAddr) {
            prop_assert_eq!(peer_priority(a, b), peer_priority(b, a));
        }
    }
}
