//! Ciphers that may say anything about how far they got.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilotfish_plugin::*;

use crate::chatty::{Alive, Shared};
use crate::mischief;

/// One direction of a connection.
pub(crate) struct Noise {
    shared: Arc<Shared>,
    /// It behaves as a stream cipher should.
    sane: bool,
    _alive: Alive,
}

impl Noise {
    pub(crate) fn boxed(shared: &Arc<Shared>) -> CipherBox {
        CipherBox::new(Self { shared: shared.clone(), sane: shared.one_in(2), _alive: Alive::new(shared) })
    }

    fn raves(&self) -> bool {
        !self.sane && !self.shared.calm.load(Ordering::Relaxed) && self.shared.one_in(3)
    }
}

#[hooks]
impl CipherPlugin for Noise {
    fn encrypt(
        &mut self,
        cx: &mut CipherContext<'_>,
        data: &mut [u8],
        mut prefix: Prefix<'_>,
    ) -> Result<(), CipherError> {
        data.iter_mut().for_each(|byte| *byte ^= 0x55);
        if self.raves() {
            prefix.put(&self.shared.bytes(40));
            mischief::act(&self.shared, cx);
            return if self.shared.one_in(5) { Err(CipherError) } else { Ok(()) };
        }
        Ok(())
    }

    fn decrypt(
        &mut self,
        cx: &mut CipherContext<'_>,
        data: &mut [u8],
        progress: &mut Decrypted,
    ) -> Result<(), CipherError> {
        data.iter_mut().for_each(|byte| *byte ^= 0x55);
        if self.raves() {
            let near = |limit: usize| self.shared.below(limit + 3) as u32;
            progress.consume = near(data.len());
            progress.produce =
                if self.shared.one_in(10) { self.shared.any() as u32 } else { near(data.len()) };
            progress.packet_size = if self.shared.one_in(10) { self.shared.any() as u32 } else { near(100) };
            mischief::act(&self.shared, cx);
            return if self.shared.one_in(5) { Err(CipherError) } else { Ok(()) };
        }
        Ok(())
    }
}
