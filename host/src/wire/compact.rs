//! Peers as bytes: four of address (BEP 23) or sixteen (BEP 7), and two of port.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes per IPv4 peer.
pub const V4_LEN: usize = 6;

/// Bytes per IPv6 peer.
pub const V6_LEN: usize = 18;

/// The IPv4 peers in `bytes`. What is left over at the end is no peer, and is ignored.
pub fn decode_v4(bytes: &[u8]) -> impl ExactSizeIterator<Item = SocketAddrV4> {
    bytes.as_chunks::<V4_LEN>().0.iter().map(|&[a, b, c, d, high, low]| {
        SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
    })
}

/// The IPv6 peers in `bytes`. What is left over at the end is no peer, and is ignored.
pub fn decode_v6(bytes: &[u8]) -> impl ExactSizeIterator<Item = SocketAddrV6> {
    bytes.as_chunks::<V6_LEN>().0.iter().map(|peer| {
        let [address @ .., high, low] = peer;
        SocketAddrV6::new(Ipv6Addr::from(*address), u16::from_be_bytes([*high, *low]), 0, 0)
    })
}

/// Appends a peer in the form of its address family: [`V4_LEN`] or [`V6_LEN`] bytes.
pub fn encode(peer: SocketAddr, out: &mut Vec<u8>) {
    match peer {
        SocketAddr::V4(peer) => out.extend(peer.ip().octets()),
        SocketAddr::V6(peer) => out.extend(peer.ip().octets()),
    }
    out.extend(peer.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_incomplete_peer_at_the_end_is_ignored() {
        let peers: Vec<_> = decode_v4(&[1, 2, 3, 4, 0x1a, 0xe1, 9, 9]).collect();
        assert_eq!(peers, [SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 6881)]);
        assert_eq!(decode_v6(&[0; 17]).len(), 0);
    }

    proptest! {
        #[test]
        fn peers_survive_the_round_trip(
            v4: Vec<(Ipv4Addr, u16)>,
            v6: Vec<(Ipv6Addr, u16)>,
        ) {
            let v4: Vec<_> = v4.into_iter().map(|(ip, port)| SocketAddrV4::new(ip, port)).collect();
            let v6: Vec<_> = v6.into_iter().map(|(ip, port)| SocketAddrV6::new(ip, port, 0, 0)).collect();
            let (mut bytes4, mut bytes6) = (Vec::new(), Vec::new());
            v4.iter().for_each(|peer| encode((*peer).into(), &mut bytes4));
            v6.iter().for_each(|peer| encode((*peer).into(), &mut bytes6));
            prop_assert!(decode_v4(&bytes4).eq(v4));
            prop_assert!(decode_v6(&bytes6).eq(v6));
        }
    }
}
