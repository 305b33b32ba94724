//! The message of ut_holepunch: a peer introduces two others to each other, so that both call at once (BEP 55).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The kinds of messages, by their first byte.
const RENDEZVOUS: u8 = 0;
const CONNECT: u8 = 1;
const ERROR: u8 = 2;
/// The kinds of addresses, by their second byte.
const IPV4: u8 = 0;
const IPV6: u8 = 1;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holepunch {
    /// Introduce me to this peer, which you are connected to.
    Rendezvous(SocketAddr),
    /// Call this peer now: it calls you.
    Connect(SocketAddr),
    /// I do not introduce you to this peer.
    Error(SocketAddr, HolepunchError),
}

/// Why somebody is not introduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolepunchError {
    /// There can be no such peer.
    NoSuchPeer,
    /// There is no connection with it.
    NotConnected,
    /// It does not speak ut_holepunch.
    NoSupport,
    /// It is the one who asks.
    NoSelf,
}

impl HolepunchError {
    const ALL: [Self; 4] = [Self::NoSuchPeer, Self::NotConnected, Self::NoSupport, Self::NoSelf];

    /// BEP 55 counts from 1.
    fn code(self) -> u32 {
        Self::ALL.iter().zip(1..).find(|(error, _)| **error == self).map_or(0, |(_, code)| code)
    }
}

impl Holepunch {
    /// Reads a message. `None` if it makes no sense. What follows it is not looked at: some send a code that says nothing.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (&[kind, family], rest) = payload.split_first_chunk()?;
        let (ip, rest): (IpAddr, _) = match family {
            IPV4 => {
                let (octets, rest) = rest.split_first_chunk::<4>()?;
                (Ipv4Addr::from(*octets).into(), rest)
            }
            IPV6 => {
                let (octets, rest) = rest.split_first_chunk::<16>()?;
                (Ipv6Addr::from(*octets).into(), rest)
            }
            _ => return None,
        };
        let (port, rest) = rest.split_first_chunk()?;
        let address = SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port));
        match kind {
            RENDEZVOUS => Some(Self::Rendezvous(address)),
            CONNECT => Some(Self::Connect(address)),
            ERROR => {
                let code = u32::from_be_bytes(*rest.first_chunk()?);
                HolepunchError::ALL
                    .into_iter()
                    .find(|error| error.code() == code)
                    .map(|error| Self::Error(address, error))
            }
            _ => None,
        }
    }

    /// The payload of the extended message.
    pub fn encode(self) -> Vec<u8> {
        let (kind, address) = match self {
            Self::Rendezvous(address) => (RENDEZVOUS, address),
            Self::Connect(address) => (CONNECT, address),
            Self::Error(address, _) => (ERROR, address),
        };
        let mut payload = vec![kind];
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                payload.push(IPV4);
                payload.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                payload.push(IPV6);
                payload.extend(ip.octets());
            }
        }
        payload.extend(address.port().to_be_bytes());
        if let Self::Error(_, error) = self {
            payload.extend(error.code().to_be_bytes());
        }
        payload
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_beps_bytes() {
        let address = "1.2.3.4:258".parse().unwrap();
        assert_eq!(Holepunch::Rendezvous(address).encode(), [0, 0, 1, 2, 3, 4, 1, 2]);
        assert_eq!(
            Holepunch::Error(address, HolepunchError::NoSupport).encode(),
            [2, 0, 1, 2, 3, 4, 1, 2, 0, 0, 0, 3]
        );
        let six = Holepunch::Connect("[2001:db8::7]:6881".parse().unwrap()).encode();
        assert_eq!(
            (six.len(), &six[..6], &six[17..]),
            (20, &[1, 1, 0x20, 1, 0x0d, 0xb8][..], &[7, 0x1a, 0xe1][..])
        );
    }

    #[test]
    fn what_is_written_is_read_and_what_follows_it_is_of_no_interest() {
        for address in ["1.2.3.4:258", "[2001:db8::7]:6881"] {
            let address = address.parse().unwrap();
            let errors = HolepunchError::ALL.map(|error| Holepunch::Error(address, error));
            for said in
                [Holepunch::Rendezvous(address), Holepunch::Connect(address)].into_iter().chain(errors)
            {
                let mut payload = said.encode();
                for cut in 0..payload.len() {
                    assert_eq!(Holepunch::parse(&payload[..cut]), None);
                }
                payload.extend([0; 4]);
                assert_eq!(Holepunch::parse(&payload), Some(said));
            }
        }
    }

    #[test]
    fn nonsense_is_none() {
        for nonsense in
            [&[3, 0, 1, 2, 3, 4, 1, 2][..], &[0, 2, 1, 2, 3, 4, 1, 2], &[2, 0, 1, 2, 3, 4, 1, 2, 0, 0, 0, 9]]
        {
            assert_eq!(Holepunch::parse(nonsense), None);
        }
    }
}
