//! The exchange of keys: 768 bits, after Diffie and Hellman.

use crypto_bigint::modular::{ConstMontyForm, ConstMontyParams};
use crypto_bigint::{U192, U768, const_monty_params};
use rand::Rng;

/// Bytes of a public key, and of the secret that both sides make.
pub(super) const KEY_LEN: usize = 96;
/// Bytes of a private key. The protocol recommends 160 bits: more do not make it safer.
const PRIVATE_LEN: usize = 20;

const_monty_params!(
    Prime,
    U768,
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
     EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    "The prime that all numbers are taken modulo."
);

type Number = ConstMontyForm<Prime, { U768::LIMBS }>;

/// Our half of an exchange.
pub(super) struct PrivateKey(U192);

impl PrivateKey {
    /// A new one.
    pub(super) fn random(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; U192::BYTES];
        rng.fill_bytes(&mut bytes[U192::BYTES - PRIVATE_LEN..]);
        Self(U192::from_be_slice(&bytes))
    }

    /// What the other side is sent.
    pub(super) fn public(&self) -> [u8; KEY_LEN] {
        self.raise(&U768::from_u8(2))
    }

    /// What nobody knows but us and whoever sent this public key. `None` for a key that leaves nothing to be known.
    pub(super) fn secret(&self, theirs: &[u8; KEY_LEN]) -> Option<[u8; KEY_LEN]> {
        let theirs = U768::from_be_slice(theirs);
        let last = Prime::PARAMS.modulus().as_ref().wrapping_sub(&U768::ONE);
        // Of 0, 1 and -1 every power is one of them again.
        (theirs > U768::ONE && theirs < last).then(|| self.raise(&theirs))
    }

    /// Takes the same time for every key.
    fn raise(&self, base: &U768) -> [u8; KEY_LEN] {
        let power = Number::new(base).pow_bounded_exp(&self.0, 8 * PRIVATE_LEN as u32).retrieve();
        let mut bytes = [0; KEY_LEN];
        bytes.copy_from_slice(power.to_be_bytes().as_ref());
        bytes
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn both_sides_make_the_same_secret() {
        let mut rng = StdRng::seed_from_u64(1);
        let [one, other] = [PrivateKey::random(&mut rng), PrivateKey::random(&mut rng)];
        let secret = one.secret(&other.public());
        assert!(secret.is_some());
        assert_eq!(secret, other.secret(&one.public()));
    }

    #[test]
    fn small_powers_of_two_are_what_they_are_and_great_ones_wrap_at_the_prime() {
        let mut three = [0; KEY_LEN];
        three[KEY_LEN - 1] = 8;
        assert_eq!(PrivateKey(U192::from_u8(3)).public(), three);
        // 2^768 mod P is 2^768 - P, since P is the greater half.
        let wrapped = U768::ZERO.wrapping_sub(Prime::PARAMS.modulus().as_ref());
        assert_eq!(PrivateKey(U192::from_u16(768)).public()[..], *wrapped.to_be_bytes().as_ref());
    }

    #[test]
    fn keys_that_leave_nothing_to_be_known_are_refused() {
        let key = PrivateKey(U192::from_u8(77));
        let prime = Prime::PARAMS.modulus().as_ref();
        let bytes = |number: U768| {
            let mut bytes = [0; KEY_LEN];
            bytes.copy_from_slice(number.to_be_bytes().as_ref());
            bytes
        };
        let refused = [U768::ZERO, U768::ONE, prime.wrapping_sub(&U768::ONE), *prime, U768::MAX];
        assert!(refused.iter().all(|number| key.secret(&bytes(*number)).is_none()));
        let taken = [U768::from_u8(2), prime.wrapping_sub(&U768::from_u8(2))];
        assert!(taken.iter().all(|number| key.secret(&bytes(*number)).is_some()));
    }
}
