//! The allowed-fast set (BEP 6): pieces that a peer may ask for while we choke it.
//!
//! Invariant: the set depends on nothing but the peer's network, the torrent and its size. So a peer that comes back,
//! even under a neighbouring address, is given the same pieces, and coming back gains it nothing.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// The `k` pieces that a peer at `ip` may have at once, in the order in which BEP 6 finds them; all pieces if the
/// torrent has no more than `k`. `info_hash` is the one of the handshake.
///
/// BEP 6 masks an IPv4 address to its /24. It says nothing of IPv6, where a household has a /64: that is the mask here.
/// O(k²), with k about 5.
pub fn allowed_fast(ip: IpAddr, info_hash: &[u8; 20], num_pieces: u32, k: usize) -> Vec<u32> {
    if num_pieces as usize <= k {
        return (0..num_pieces).collect();
    }
    let mut set = Vec::with_capacity(k);
    let mut digest = seed(ip, info_hash);
    while set.len() < k {
        digest = Sha1::digest(digest).to_vec();
        for number in digest.as_chunks::<4>().0 {
            let piece = u32::from_be_bytes(*number) % num_pieces;
            if set.len() < k && !set.contains(&piece) {
                set.push(piece);
            }
        }
    }
    set
}

fn seed(ip: IpAddr, info_hash: &[u8; 20]) -> Vec<u8> {
    let mut seed = match ip.to_canonical() {
        IpAddr::V4(ip) => (ip.to_bits() & (!0 << 8)).to_be_bytes().to_vec(),
        IpAddr::V6(ip) => (ip.to_bits() & (!0 << 64)).to_be_bytes().to_vec(),
    };
    seed.extend_from_slice(info_hash);
    seed
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const HASH: [u8; 20] = [0xaa; 20];
    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(80, 4, 4, 200));

    #[test]
    fn the_vectors_of_bep_6() {
        assert_eq!(allowed_fast(PEER, &HASH, 1313, 7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(allowed_fast(PEER, &HASH, 1313, 9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn neighbours_share_a_set_and_others_do_not() {
        let set = |ip: IpAddr| allowed_fast(ip, &HASH, 1313, 7);
        assert_eq!(set(PEER), set(Ipv4Addr::new(80, 4, 4, 1).into()));
        assert_ne!(set(PEER), set(Ipv4Addr::new(80, 4, 5, 200).into()));
        assert_eq!(set(PEER), set(Ipv4Addr::new(80, 4, 4, 200).to_ipv6_mapped().into()));

        let v6 = |network, host| set(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host).into());
        assert_eq!(v6(1, 1), v6(1, 2));
        assert_ne!(v6(1, 1), v6(2, 1));
    }

    #[test]
    fn a_small_torrent_is_allowed_whole() {
        assert_eq!(allowed_fast(PEER, &HASH, 3, 5), [0, 1, 2]);
        assert!(allowed_fast(PEER, &HASH, 0, 5).is_empty());
        assert!(allowed_fast(PEER, &HASH, 100, 0).is_empty());
        let nearly_all = allowed_fast(PEER, &HASH, 50, 49);
        assert_eq!(nearly_all.iter().collect::<HashSet<_>>().len(), 49);
    }
}
