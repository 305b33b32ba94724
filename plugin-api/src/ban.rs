//! Who is kept out, and why.

use std::net::IpAddr;

use crate::bencode::{Dict, Value};

/// One address that is banned, from a torrent or from the session (beyond libtorrent, whose bans are known to its list of
/// peers alone).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// The address. IPv4 is never mapped into IPv6.
    pub address: IpAddr,
    /// Who asked for it: the name of a plugin, `engine`, or `program` for the one that embeds it.
    pub by: String,
    /// Why, in words.
    pub reason: String,
}

impl Ban {
    /// Reads a bencoded list. What is no ban in it is left out.
    pub(crate) fn read(bytes: &[u8]) -> Vec<Self> {
        let list = Value::parse(bytes).and_then(|(value, _)| value.list());
        let bans = list.into_iter().flat_map(|list| list.iter().filter_map(Value::dict).filter_map(Self::of));
        bans.collect()
    }

    fn of(dict: Dict<'_>) -> Option<Self> {
        let ip = dict.bytes("ip")?;
        let v4 = || <[u8; 4]>::try_from(ip).map(IpAddr::from);
        let address = v4().or_else(|_| <[u8; 16]>::try_from(ip).map(IpAddr::from)).ok()?;
        let text = |key: &str| dict.str(key).unwrap_or_default().to_owned();
        Some(Self { address, by: text("by"), reason: text("reason") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_bans_is_read_as_far_as_it_is_one() {
        let list = b"ld2:by1:x2:ip4:\x01\x02\x03\x046:reason1:yed2:ip3:abced2:ip16:0123456789abcdefe1:ze";
        let bans = Ban::read(list);
        let shown: Vec<String> =
            bans.iter().map(|ban| format!("{} {:?} {:?}", ban.address, ban.by, ban.reason)).collect();
        assert_eq!(shown, ["1.2.3.4 \"x\" \"y\"", "3031:3233:3435:3637:3839:6162:6364:6566 \"\" \"\""]);
        assert!(Ban::read(b"").is_empty() && Ban::read(b"de").is_empty());
    }
}
