//! The one message of ut_pex (BEP 11): peers that came, and peers that went.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pilotfish_plugin::{Dict, PexFlags};

/// A message that was received, which is read as far as anyone asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a>(Dict<'a>);

/// Of which family addresses are: in a message, each has keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bytes per address and port.
    fn size(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }

    /// The keys of those that came, of what is said of each, and of those that went.
    fn keys(self) -> [&'static str; 3] {
        match self {
            Self::V4 => ["added", "added.f", "dropped"],
            Self::V6 => ["added6", "added6.f", "dropped6"],
        }
    }
}

impl<'a> Message<'a> {
    /// Reads a message. `None`: it is none.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        Some(Self(Dict::parse(body)?.0))
    }

    /// The peers that came. None where there are flags of another number of peers: nobody can tell whose they are.
    pub(super) fn added(self, family: Family) -> impl Iterator<Item = (SocketAddr, PexFlags)> {
        let [added, flags, _] = family.keys();
        let added = self.0.bytes(added).unwrap_or_default();
        let flags = self.0.bytes(flags);
        let fits = flags.is_none_or(|flags| flags.len() * family.size() == added.len());
        let added = if fits { added } else { &[] };
        let said = move |i: usize| PexFlags(flags.and_then(|flags| flags.get(i)).copied().unwrap_or(0));
        addresses(added, family).enumerate().map(move |(i, address)| (address, said(i)))
    }

    /// The peers that went.
    pub(super) fn dropped(self, family: Family) -> impl Iterator<Item = SocketAddr> {
        addresses(self.0.bytes(family.keys()[2]).unwrap_or_default(), family)
    }

    /// A message with all six keys.
    pub(super) fn encode(added: &[(SocketAddr, PexFlags)], dropped: &[SocketAddr]) -> Vec<u8> {
        let mut message = b"d".to_vec();
        for family in Family::BOTH {
            let [added_key, flags_key, _] = family.keys();
            let ours = || added.iter().filter(|(address, _)| Family::of(*address) == family);
            let flags: Vec<u8> = ours().map(|(_, flags)| flags.0).collect();
            push(&mut message, added_key, &compact(ours().map(|(address, _)| *address)));
            push(&mut message, flags_key, &flags);
        }
        for family in Family::BOTH {
            let gone = dropped.iter().copied().filter(|address| Family::of(*address) == family);
            push(&mut message, family.keys()[2], &compact(gone));
        }
        message.push(b'e');
        message
    }
}

/// The addresses in `bytes`. What is left over at the end is none.
fn addresses(bytes: &[u8], family: Family) -> impl Iterator<Item = SocketAddr> {
    bytes.chunks_exact(family.size()).filter_map(move |peer| {
        let (ip, port) = peer.split_last_chunk()?;
        let ip = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(*ip.first_chunk()?)),
            Family::V6 => Ipv6Addr::from(*ip.first_chunk()?).to_canonical(),
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    })
}

fn compact(addresses: impl Iterator<Item = SocketAddr>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in addresses {
        match address.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        bytes.extend(address.port().to_be_bytes());
    }
    bytes
}

fn push(message: &mut Vec<u8>, key: &str, value: &[u8]) {
    message.extend(format!("{}:{key}{}:", key.len(), value.len()).bytes());
    message.extend(value);
}
