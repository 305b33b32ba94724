//! A running hash of everything that happened, to tell whether two runs were the same.

use std::fmt::Write;
use std::time::Duration;

/// FNV-1a: the same on every machine and with every compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub fn note(&mut self, now: Duration, node: usize, what: std::fmt::Arguments<'_>) {
        let numbers = now.as_nanos().to_le_bytes().into_iter().chain(node.to_le_bytes());
        numbers.for_each(|byte| self.byte(byte));
        // Writing to a hash cannot fail.
        let _ = self.write_fmt(what);
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|byte| self.byte(byte));
        Ok(())
    }
}
