//! The extension handshake (BEP 10): what a peer can do beyond the protocol, and by which numbers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::bencode::{BencodeError, Document, Limits};
use super::entry::{EntryError, EntryTree};

/// The keys of the extension handshake that the engine knows. Any may be missing, and one of the wrong type or out of
/// range counts as missing. Plugins read theirs from the message itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// `m`: the number that the sender wants to see for each extension. 0 takes an extension back.
    pub messages: BTreeMap<Vec<u8>, u8>,
    /// `p`: the port that the sender listens on, not 0.
    pub port: Option<u16>,
    /// `v`: the sender's name and version, as sent; what is not UTF-8 is replaced.
    pub version: Option<String>,
    /// `yourip`: the receiver's address, as the sender sees it.
    pub your_ip: Option<IpAddr>,
    /// `reqq`: how many requests the sender keeps in its queue, not 0.
    pub request_queue: Option<u32>,
    /// `complete_ago`: seconds since the sender has last seen a complete copy.
    pub complete_ago: Option<u32>,
    /// `upload_only`: the sender will not download (BEP 21).
    pub upload_only: bool,
    /// `metadata_size`: bytes of the info dictionary (BEP 9), not 0.
    pub metadata_size: Option<u32>,
}

impl ExtensionHandshake {
    /// Reads the payload of the extended message with number 0.
    ///
    /// # Errors
    /// The payload is not a bencoded dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, BencodeError> {
        let document = Document::parse(payload, Limits::MESSAGE)?;
        let dict = document.dict()?;
        let number = |key: &[u8]| dict.int(key).and_then(|int| u32::try_from(int).ok());
        let positive = |key: &[u8]| number(key).filter(|&number| number > 0);
        let messages = dict.dict(b"m").into_iter().flat_map(|messages| messages.iter());
        let messages = messages.filter_map(|(name, id)| Some((name.to_vec(), u8::try_from(id.int()?).ok()?)));
        Ok(Self {
            messages: messages.collect(),
            port: positive(b"p").and_then(|port| u16::try_from(port).ok()),
            version: dict.bytes(b"v").map(|version| String::from_utf8_lossy(version).into_owned()),
            your_ip: dict.bytes(b"yourip").and_then(ip_from_bytes),
            request_queue: positive(b"reqq"),
            complete_ago: number(b"complete_ago"),
            upload_only: dict.int(b"upload_only").is_some_and(|flag| flag != 0),
            metadata_size: positive(b"metadata_size"),
        })
    }

    /// The number under which the sender wants messages of an extension, if it speaks it.
    pub fn message_id(&self, name: &[u8]) -> Option<u8> {
        self.messages.get(name).copied().filter(|&id| id != 0)
    }

    /// Writes the keys into a dictionary, which plugins may add to. What is missing here is left as it is there.
    ///
    /// # Errors
    /// None on a tree whose root has room for more.
    pub fn write(&self, tree: &mut EntryTree) -> Result<(), EntryError> {
        let root = EntryTree::ROOT;
        let messages = tree.dict(root, b"m")?;
        for (name, id) in &self.messages {
            tree.insert_int(messages, name, (*id).into())?;
        }
        let numbers = [
            (&b"p"[..], self.port.map(u32::from)),
            (b"reqq", self.request_queue),
            (b"complete_ago", self.complete_ago),
            (b"upload_only", self.upload_only.then_some(1)),
            (b"metadata_size", self.metadata_size),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                tree.insert_int(root, key, number.into())?;
            }
        }
        if let Some(version) = &self.version {
            tree.insert_bytes(root, b"v", version.as_bytes())?;
        }
        match self.your_ip {
            Some(IpAddr::V4(ip)) => tree.insert_bytes(root, b"yourip", &ip.octets()),
            Some(IpAddr::V6(ip)) => tree.insert_bytes(root, b"yourip", &ip.octets()),
            None => Ok(()),
        }
    }
}

fn ip_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wrong_types_and_ranges_count_as_missing() {
        let payload =
            b"d12:complete_agoi-1e1:md1:ai300e1:b1:x1:ci0e1:di7ee13:metadata_size1:x1:pi65536e4:reqqi0e\
            11:upload_onlyi2e1:vli1ee6:yourip5:12345e";
        let handshake = ExtensionHandshake::parse(payload).unwrap();
        let messages = BTreeMap::from([(b"c".to_vec(), 0), (b"d".to_vec(), 7)]);
        let expected = ExtensionHandshake { messages, upload_only: true, ..ExtensionHandshake::default() };
        assert_eq!(handshake, expected);
        assert_eq!((handshake.message_id(b"c"), handshake.message_id(b"d")), (None, Some(7)));
        assert_eq!(ExtensionHandshake::parse(b"le"), Err(BencodeError::NotADictionary));
    }

    #[test]
    fn writing_leaves_what_is_not_ours() {
        let mut tree = EntryTree::from_bencode(b"d1:md6:ut_pexi1ee1:x1:ye").unwrap();
        let messages = BTreeMap::from([(b"lt_donthave".to_vec(), 7)]);
        ExtensionHandshake { messages, port: Some(6881), ..Default::default() }.write(&mut tree).unwrap();
        let expected = b"d1:md11:lt_donthavei7e6:ut_pexi1ee1:pi6881e1:x1:ye";
        assert_eq!(tree.encode(EntryTree::ROOT).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn handshakes_survive_the_round_trip(
            messages in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..10), any::<u8>(), 0..8),
            port in prop::option::of(1..=u16::MAX),
            version: Option<String>,
            your_ip: Option<IpAddr>,
            request_queue in prop::option::of(1..=u32::MAX),
            complete_ago: Option<u32>,
            upload_only: bool,
            metadata_size in prop::option::of(1..=u32::MAX),
        ) {
            let handshake = ExtensionHandshake {
                messages, port, version, your_ip, request_queue, complete_ago, upload_only, metadata_size,
            };
            let mut tree = EntryTree::new();
            handshake.write(&mut tree).unwrap();
            let payload = tree.encode(EntryTree::ROOT).unwrap();
            prop_assert_eq!(ExtensionHandshake::parse(&payload), Ok(handshake));
        }
    }
}
