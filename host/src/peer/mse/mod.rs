//! Message stream encryption (MSE/PE): a handshake before the handshake, which hides the protocol from those in between.
//!
//! It is described in the wiki of Vuze, and in no BEP. `A` opened the connection:
//!
//! ```text
//! A → B   Ya, PadA
//! B → A   Yb, PadB
//! A → B   H('req1', S), H('req2', SKEY) xor H('req3', S), E(VC, crypto_provide, len(PadC), PadC, len(IA)), E(IA)
//! B → A   E(VC, crypto_select, len(PadD), PadD)
//! ```
//!
//! `S` is what both make of the keys `Y` (Diffie-Hellman), `SKEY` the torrent's info-hash, `H` SHA-1, `E` RC4 with a key of
//! each direction, `VC` eight zeros, and `IA` what A has to say at once: its BitTorrent handshake. What follows is RC4, too,
//! or plain text, as B has selected. No length is sent for the pads A and B: whoever waits behind one looks for the
//! bytes that must follow it.
//!
//! | file | what |
//! |---|---|
//! | `exchange` | Diffie and Hellman's numbers |
//! | `keys` | RC4, and the keys of both directions |
//! | `handshake` | the messages above, for both roles, as bytes come and go |

mod exchange;
mod handshake;
mod keys;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use handshake::{Agreement, Failure, Handshake, Terms};
pub use keys::{Keys, Rc4, obfuscated};

/// Ways to go on after the handshake, as the bits of `crypto_provide` and `crypto_select`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(pub u32);

impl Methods {
    /// Plain text: nothing of what follows is encrypted.
    pub const PLAINTEXT: Self = Self(1);
    /// RC4 for all that follows.
    pub const RC4: Self = Self(2);

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What follows the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Plain text.
    Plaintext,
    /// RC4.
    Rc4,
}

/// What a peer is greeted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The handshake of BEP 3, in clear.
    Clear,
    /// The encryption handshake (MSE).
    Encrypted,
}

impl Greeting {
    /// The one that is not this.
    pub fn other(self) -> Self {
        match self {
            Self::Clear => Self::Encrypted,
            Self::Encrypted => Self::Clear,
        }
    }
}
