//! Ciphers for tests: nothing is secret, and everything is checked.

use std::sync::{Arc, Mutex};

use pilotfish_plugin::{CipherBox, CipherContext, CipherError, CipherPlugin, Decrypted, Prefix, hooks};

/// Each byte by its place: one byte too many or too few, and the rest is rubbish.
#[derive(Default)]
pub struct Keystream(u32);

impl Keystream {
    /// Encrypts, or decrypts.
    pub fn apply(&mut self, data: &mut [u8]) {
        for byte in data {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte ^= (self.0 >> 24) as u8;
        }
    }
}

/// The keys that a cipher was told: incoming and outgoing.
pub type Keys = Arc<Mutex<[Vec<u8>; 2]>>;

type Change = dyn FnMut(&mut [u8]);

/// A cipher under which as many bytes come out as went in.
pub struct InPlace {
    change: Box<Change>,
    keys: Keys,
}

impl InPlace {
    /// Bytes of one direction of a connection are changed like this, one after the other; the keys that it is told come to
    /// `keys`.
    pub fn boxed(change: impl FnMut(&mut [u8]) + 'static, keys: Keys) -> CipherBox {
        CipherBox::new(Self { change: Box::new(change), keys })
    }
}

/// A [`Keystream`] for one direction of a connection.
pub fn stream_cipher() -> CipherBox {
    let mut stream = Keystream::default();
    InPlace::boxed(move |data| stream.apply(data), Keys::default())
}

#[hooks]
impl CipherPlugin for InPlace {
    fn set_incoming_key(&mut self, _: &mut CipherContext<'_>, key: &[u8]) {
        self.keys.lock().unwrap()[0] = key.to_vec();
    }

    fn set_outgoing_key(&mut self, _: &mut CipherContext<'_>, key: &[u8]) {
        self.keys.lock().unwrap()[1] = key.to_vec();
    }

    fn encrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        _: Prefix<'_>,
    ) -> Result<(), CipherError> {
        (self.change)(data);
        Ok(())
    }

    fn decrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        _: &mut Decrypted,
    ) -> Result<(), CipherError> {
        (self.change)(data);
        Ok(())
    }
}
