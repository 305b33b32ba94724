//! Keys: one for each direction of each connection.
//!
//! HMAC-SHA-256 under the shared key, over a label, the direction, and both hellos in the order caller, listener, gives 32
//! bytes: 16 are the AES key of that direction, 16 its first counter block. Another label gives that direction's confirmation.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use pilotfish_plugin::{CipherContext, CipherError, CipherPlugin, Decrypted, Prefix, hooks};
use sha2::Sha256;

/// Bytes of a hello's random part, and of a confirmation.
pub(crate) const LENGTH: usize = 32;

/// The key that the user gave.
#[derive(Clone)]
pub(crate) struct SharedKey([u8; 16]);

/// Which way bytes go: every connection has one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the side that opened the connection.
    FromCaller = 0,
    /// From the side that accepted it.
    FromListener = 1,
}

/// What a connection encrypts with.
pub(crate) struct Keys {
    shared: SharedKey,
    caller: [u8; LENGTH],
    listener: [u8; LENGTH],
}

impl SharedKey {
    /// Reads 32 hexadecimal digits.
    ///
    /// # Errors
    /// It is something else. The line does not repeat it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| fits);
        let number = number.ok_or("the setting key has to be 32 hexadecimal digits")?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl Way {
    /// The way of what this side sends.
    pub(crate) fn of(outgoing: bool) -> Self {
        if outgoing { Self::FromCaller } else { Self::FromListener }
    }

    /// The other way.
    pub(crate) fn back(self) -> Self {
        match self {
            Self::FromCaller => Self::FromListener,
            Self::FromListener => Self::FromCaller,
        }
    }
}

impl Keys {
    /// The keys of a connection, from both hellos. `way` is that of the first.
    pub(crate) fn new(shared: &SharedKey, way: Way, sent: [u8; LENGTH], received: [u8; LENGTH]) -> Self {
        let (caller, listener) = match way {
            Way::FromCaller => (sent, received),
            Way::FromListener => (received, sent),
        };
        Self { shared: shared.clone(), caller, listener }
    }

    /// Shows the peer that this side has the key.
    pub(crate) fn confirmation(&self, way: Way) -> [u8; LENGTH] {
        self.code(b"pf_aes_ctr confirmation", way).finalize().into_bytes().into()
    }

    /// Whether a confirmation is right; takes as long for every wrong one.
    pub(crate) fn confirms(&self, way: Way, confirmation: &[u8]) -> bool {
        self.code(b"pf_aes_ctr confirmation", way).verify_slice(confirmation).is_ok()
    }

    /// The cipher for what goes this way. To be made once: a second one would repeat its key stream.
    pub(crate) fn cipher(&self, way: Way) -> Cipher {
        let made: [u8; LENGTH] = self.code(b"pf_aes_ctr key", way).finalize().into_bytes().into();
        let (mut key, mut counter) = ([0; 16], [0; 16]);
        key.copy_from_slice(&made[..16]);
        counter.copy_from_slice(&made[16..]);
        Cipher(Ctr128BE::new(&key.into(), &counter.into()))
    }

    /// No label is the beginning of another with what follows it, and all else has a fixed length.
    fn code(&self, label: &[u8], way: Way) -> Hmac<Sha256> {
        // As HMAC itself would fill the key up to a whole block; a block cannot have the wrong length.
        let mut block = [0; 64];
        block[..16].copy_from_slice(&self.shared.0);
        let mut code = Hmac::<Sha256>::new(&block.into());
        code.update(label);
        code.update(&[0, way as u8]);
        code.update(&self.caller);
        code.update(&self.listener);
        code
    }
}

/// The key stream of one direction: a byte for each byte that passes. The same thing encrypts and decrypts.
pub(crate) struct Cipher(Ctr128BE<Aes128>);

impl Cipher {
    fn apply(&mut self, data: &mut [u8]) -> Result<(), CipherError> {
        // It fails before a block of the key stream would come a second time.
        self.0.try_apply_keystream(data).map_err(|_| CipherError)
    }
}

#[hooks]
impl CipherPlugin for Cipher {
    fn encrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        _: Prefix<'_>,
    ) -> Result<(), CipherError> {
        self.apply(data)
    }

    fn decrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        _: &mut Decrypted,
    ) -> Result<(), CipherError> {
        self.apply(data)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3c";

    fn pair(key: &str) -> Keys {
        Keys::new(&SharedKey::parse(key).unwrap(), Way::FromCaller, [1; LENGTH], [2; LENGTH])
    }

    fn stream(mut cipher: Cipher, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        cipher.apply(&mut data).unwrap();
        data
    }

    /// NIST SP 800-38A, F.5.1: CTR-AES128.
    #[test]
    fn the_cipher_is_aes_128_in_counter_mode() {
        let key = SharedKey::parse(KEY).unwrap().0;
        let counter = 0xf0f1_f2f3_f4f5_f6f7_f8f9_fafb_fcfd_feffu128.to_be_bytes();
        let mut cipher = Cipher(Ctr128BE::new(&key.into(), &counter.into()));
        let mut data =
            [0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128, 0xae2d_8a57_1e03_ac9c_9eb7_6fac_45af_8e51]
                .map(u128::to_be_bytes)
                .concat();
        cipher.apply(&mut data).unwrap();
        let expected =
            [0x874d_6191_b620_e326_1bef_6864_990d_b6ce_u128, 0x9806_f66b_7970_fdff_8617_187b_b9ff_fdff];
        assert_eq!(data, expected.map(u128::to_be_bytes).concat());
    }

    #[test]
    fn both_sides_make_the_same_keys() {
        let shared = SharedKey::parse(KEY).unwrap();
        let caller = Keys::new(&shared, Way::of(true), [1; LENGTH], [2; LENGTH]);
        let listener = Keys::new(&shared, Way::of(false), [2; LENGTH], [1; LENGTH]);
        for way in [Way::FromCaller, Way::FromListener] {
            assert_eq!(stream(caller.cipher(way), 100), stream(listener.cipher(way), 100));
            assert!(caller.confirms(way, &listener.confirmation(way)));
            assert!(!caller.confirms(way, &listener.confirmation(way.back())), "reflected");
        }
    }

    #[test]
    fn no_two_directions_connections_or_keys_share_a_key_stream() {
        let shared = SharedKey::parse(KEY).unwrap();
        let other = SharedKey::parse("2b7e151628aed2a6abf7158809cf4f3d").unwrap();
        let keys = [
            Keys::new(&shared, Way::FromCaller, [1; LENGTH], [2; LENGTH]),
            Keys::new(&shared, Way::FromCaller, [1; LENGTH], [3; LENGTH]),
            Keys::new(&shared, Way::FromCaller, [3; LENGTH], [2; LENGTH]),
            Keys::new(&shared, Way::FromCaller, [2; LENGTH], [1; LENGTH]),
            Keys::new(&other, Way::FromCaller, [1; LENGTH], [2; LENGTH]),
        ];
        let both = |keys: &Keys| [Way::FromCaller, Way::FromListener].map(|way| stream(keys.cipher(way), 64));
        let mut streams: Vec<Vec<u8>> = keys.iter().flat_map(both).collect();
        streams.sort();
        streams.dedup();
        assert_eq!(streams.len(), 10);
        assert!(!keys[0].confirms(Way::FromCaller, &keys[4].confirmation(Way::FromCaller)));
        assert!(!keys[0].confirms(Way::FromCaller, &keys[0].confirmation(Way::FromCaller)[..31]));
        assert!(!keys[0].confirms(Way::FromCaller, b""));
    }

    #[test]
    fn the_place_in_the_key_stream_is_kept_across_any_split() {
        let whole = stream(pair(KEY).cipher(Way::FromCaller), 200);
        for at in 0..=200 {
            let mut cipher = pair(KEY).cipher(Way::FromCaller);
            let mut data = vec![0; 200];
            let (first, second) = data.split_at_mut(at);
            cipher.apply(first).unwrap();
            cipher.apply(second).unwrap();
            assert_eq!(data, whole, "split at {at}");
        }
    }

    #[test]
    fn a_key_is_32_digits_and_errors_do_not_tell_it() {
        for text in ["", "00", "+b7e151628aed2a6abf7158809cf4f3c", "zz7e151628aed2a6abf7158809cf4f3c"] {
            let error = SharedKey::parse(text).err().unwrap();
            assert_eq!(error, "the setting key has to be 32 hexadecimal digits");
        }
    }
}
