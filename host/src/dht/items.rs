//! Items: where they are found, and who may change them (BEP 44).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha1::{Digest, Sha1};

use crate::command::{DhtItemError, LONGEST_SALT, LONGEST_VALUE, SecretKey};
use crate::wire::bencode::{Limits, canonical};
use crate::wire::krpc::{Item, NodeId};

/// The key by which the items of a secret are found.
pub fn public_key(secret: &SecretKey) -> [u8; 32] {
    SigningKey::from_bytes(&secret.0).verifying_key().to_bytes()
}

/// Signs an item.
pub(super) fn sign(secret: &SecretKey, salt: &[u8], seq: i64, value: &[u8]) -> [u8; 64] {
    SigningKey::from_bytes(&secret.0).sign(&signed(salt, seq, value)).to_bytes()
}

/// Makes sure that a value can be stored.
///
/// # Errors
/// It is too long, or not bencoded.
pub(super) fn check(value: &[u8], salt: &[u8]) -> Result<(), DhtItemError> {
    if value.len() > LONGEST_VALUE {
        return Err(DhtItemError::TooLong(value.len()));
    }
    if salt.len() > LONGEST_SALT {
        return Err(DhtItemError::SaltTooLong(salt.len()));
    }
    match canonical(value, Limits::new(8, 500)) {
        Ok((std::borrow::Cow::Borrowed(_), length)) if length == value.len() => Ok(()),
        _ => Err(DhtItemError::NotBencoded),
    }
}

/// Where an immutable item is found.
pub fn immutable_target(value: &[u8]) -> NodeId {
    NodeId(Sha1::digest(value).into())
}

/// Where a mutable item is found.
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
}

/// Where an item belongs.
pub(super) fn target(item: &Item<'_>) -> NodeId {
    match item {
        Item::Immutable { value } => immutable_target(value),
        Item::Mutable { key, salt, .. } => mutable_target(key, salt),
    }
}

/// Whether the owner of `key` signed it.
pub(super) fn is_signed(key: &[u8; 32], signature: &[u8; 64], salt: &[u8], seq: i64, value: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    key.verify_strict(&signed(salt, seq, value), &Signature::from_bytes(signature)).is_ok()
}

/// What is signed: the item as it stands in a message, without its frame.
fn signed(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + salt.len() + 48);
    if !salt.is_empty() {
        bytes.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        bytes.extend_from_slice(salt);
    }
    bytes.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// The test vectors of BEP 44.
    #[test]
    fn the_examples_of_the_specification_are_signed_and_found() {
        let key = hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548").try_into().unwrap();
        let value = b"12:Hello World!";
        let plain = hex("305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01");
        assert!(is_signed(&key, &plain.try_into().unwrap(), b"", 1, value));
        assert_eq!(mutable_target(&key, b"").to_string(), "4a533d47ec9c7d95b1ad75f576cffc641853b750");
        let salted = hex("6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
             df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08");
        let salted = salted.try_into().unwrap();
        assert!(is_signed(&key, &salted, b"foobar", 1, value));
        assert!(!is_signed(&key, &salted, b"foobar", 2, value) && !is_signed(&key, &salted, b"", 1, value));
        assert_eq!(mutable_target(&key, b"foobar").to_string(), "411eba73b6f087ca51a3795d9c8c938d365e32c1");
        assert_eq!(immutable_target(value).to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    }

    #[test]
    fn what_is_signed_with_a_secret_is_signed_by_its_key() {
        let secret = SecretKey([7; 32]);
        let signature = sign(&secret, b"salt", 3, b"i1e");
        assert!(is_signed(&public_key(&secret), &signature, b"salt", 3, b"i1e"));
        assert!(!is_signed(&public_key(&SecretKey([8; 32])), &signature, b"salt", 3, b"i1e"));
        assert_eq!(format!("{secret:?}"), "SecretKey");
    }

    #[test]
    fn only_one_bencoded_value_of_bearable_length_is_an_item() {
        assert_eq!(check(b"d1:ai1e1:bi2ee", b"salt"), Ok(()));
        assert_eq!(check(b"i1ei2e", b""), Err(DhtItemError::NotBencoded));
        assert_eq!(check(b"d1:bi1e1:ai2ee", b""), Err(DhtItemError::NotBencoded));
        assert_eq!(check(&[b'1'; 1_001], b""), Err(DhtItemError::TooLong(1_001)));
        assert_eq!(check(b"i1e", &[0; 65]), Err(DhtItemError::SaltTooLong(65)));
    }
}
