//! To whom a datagram on the one UDP port belongs: the protocols there are told apart by how each begins.

use super::krpc;
use super::tracker::udp;

/// The header that every uTP packet has, in bytes (BEP 29).
const UTP_HEADER: usize = 20;
/// The version of uTP.
const UTP_VERSION: u8 = 1;
/// The type of a uTP packet that asks for a connection; no type is higher.
const ST_SYN: u8 = 4;

/// A protocol that shares the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// uTP (BEP 29).
    Utp {
        /// Whether the packet asks for a connection, and belongs to none yet.
        opens: bool,
    },
    /// The answer of a tracker (BEP 15).
    Tracker {
        /// The number of the question.
        transaction: u32,
    },
    /// The DHT (BEP 5).
    Dht,
}

impl Protocol {
    /// The protocol of a datagram, which need not be well formed in it. `None`: it is of none of them.
    ///
    /// No datagram fits two: those of the DHT begin with a `d`, trackers' with three zeros, and those of uTP with a version
    /// that neither has in its place.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        if let Some(opens) = utp(datagram) {
            return Some(Self::Utp { opens });
        }
        if let Some(transaction) = udp::transaction(datagram) {
            return Some(Self::Tracker { transaction });
        }
        krpc::is_krpc(datagram).then_some(Self::Dht)
    }
}

/// Whether a packet of uTP asks for a connection. `None`: it is none of uTP.
fn utp(datagram: &[u8]) -> Option<bool> {
    let (first, version) = (datagram.first()? >> 4, datagram.first()? & 0x0f);
    let is_utp = datagram.len() >= UTP_HEADER && version == UTP_VERSION && first <= ST_SYN;
    is_utp.then_some(first == ST_SYN)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet of uTP of this type and version, with a payload.
    fn packet(kind: u8, version: u8, payload: usize) -> Vec<u8> {
        let mut packet = vec![0; UTP_HEADER + payload];
        packet[0] = kind << 4 | version;
        packet
    }

    #[test]
    fn each_type_of_packet_is_utps_and_one_of_them_opens() {
        for kind in 0..=4 {
            assert_eq!(Protocol::of(&packet(kind, 1, 0)), Some(Protocol::Utp { opens: kind == 4 }));
        }
    }

    #[test]
    fn what_has_another_version_or_type_or_no_complete_header_is_no_packet_of_utp() {
        for (kind, version) in [(5, 1), (15, 1), (0, 0), (4, 0), (0, 2), (4, 15)] {
            let of = Protocol::of(&packet(kind, version, 40));
            assert!(!matches!(of, Some(Protocol::Utp { .. })), "type {kind}, version {version}: {of:?}");
        }
        for length in 0..UTP_HEADER {
            assert_eq!(Protocol::of(&packet(4, 1, 0)[..length]), None);
        }
    }

    #[test]
    fn a_trackers_answer_is_known_by_its_action_and_tells_its_question() {
        let answer = [0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Protocol::of(&answer), Some(Protocol::Tracker { transaction: 0xdead_beef }));
        let mut unknown = answer;
        unknown[3] = 9;
        assert_eq!(Protocol::of(&unknown), None);
    }

    #[test]
    fn a_dictionary_is_the_dhts() {
        assert_eq!(
            Protocol::of(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"),
            Some(Protocol::Dht)
        );
        assert_eq!(Protocol::of(b"d1:a"), None);
        assert_eq!(Protocol::of(b""), None);
    }

    proptest! {
        #[test]
        fn no_datagram_fits_two_protocols(mut datagram in prop::collection::vec(any::<u8>(), 0..64), first in any::<u8>()) {
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            let fits = [utp(&datagram).is_some(), udp::transaction(&datagram).is_some(), krpc::is_krpc(&datagram)];
            prop_assert!(fits.iter().filter(|fits| **fits).count() <= 1);
            prop_assert_eq!(Protocol::of(&datagram).is_some(), fits.contains(&true));
        }
    }
}
