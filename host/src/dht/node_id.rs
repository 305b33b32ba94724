//! Which ids belong to which addresses (BEP 42): whoever has few addresses has few places to choose from.

use std::net::IpAddr;

use rand::RngExt;

use super::table::random_id;
use crate::wire::krpc::NodeId;

/// The id of a node at `ip`: its first 21 bits follow from the address and three random bits, the rest is random.
pub(super) fn node_id(ip: IpAddr, rng: &mut impl RngExt) -> NodeId {
    let mut id = random_id(rng);
    if needs_no_id(ip) {
        return id;
    }
    let [a, b, c, _] = prefix(ip, id.0[19]).to_be_bytes();
    id.0[0] = a;
    id.0[1] = b;
    id.0[2] = (c & 0xf8) | (id.0[2] & 0x07);
    id
}

/// Whether a node at `ip` may call itself so.
pub fn is_valid(id: NodeId, ip: IpAddr) -> bool {
    if needs_no_id(ip) {
        return true;
    }
    let [a, b, c, _] = prefix(ip, id.0[19]).to_be_bytes();
    id.0[0] == a && id.0[1] == b && id.0[2] & 0xf8 == c & 0xf8
}

/// Whether the rule is none for an address, because the outside never sees it.
pub fn needs_no_id(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback() || ip.is_unspecified(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_unique_local()
        }
    }
}

fn prefix(ip: IpAddr, seed: u8) -> u32 {
    let r = seed & 0x07;
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = (ip.to_bits() & 0x030f_3fff).to_be_bytes();
            bytes[0] |= r << 5;
            crc32c(&bytes)
        }
        IpAddr::V6(ip) => {
            let high = (ip.to_bits() >> 64) as u64;
            let mut bytes = (high & 0x0103_070f_1f3f_7fff).to_be_bytes();
            bytes[0] |= r << 5;
            crc32c(&bytes)
        }
    }
}

/// CRC-32C (Castagnoli). Eight bytes per node at most: no table is worth its memory.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    !crc
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// The examples of BEP 42: address, the id's last byte, the first bytes of the id.
    const EXAMPLES: [(&str, u8, [u8; 3]); 5] = [
        ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
        ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
        ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
        ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
        ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
    ];

    #[test]
    fn the_examples_of_the_specification_are_valid() {
        for (ip, last, [a, b, c]) in EXAMPLES {
            let mut id = [0x55; 20];
            (id[0], id[1], id[2], id[19]) = (a, b, c, last);
            assert!(is_valid(NodeId(id), ip.parse().unwrap()), "{ip}");
            id[1] ^= 1;
            assert!(!is_valid(NodeId(id), ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_id_that_is_made_for_an_address_is_valid_there_and_not_elsewhere() {
        let mut rng = StdRng::seed_from_u64(1);
        for ip in ["8.8.4.4", "2001:db8:1234:5678::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let id = node_id(ip, &mut rng);
            assert!(is_valid(id, ip) && !is_valid(id, "9.9.9.9".parse().unwrap()));
            assert!(is_valid(id, "127.0.0.1".parse().unwrap()), "no rule for what nobody outside sees");
        }
    }
}
