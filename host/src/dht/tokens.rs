//! Tokens: who wants to store something shows one that was sent to its address (BEP 5).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use sha1::{Digest, Sha1};

use crate::wire::krpc::NodeId;

/// A secret is replaced after so long; what was made with the one before is still good (BEP 5).
const ROTATION: Duration = Duration::from_secs(5 * 60);
/// Bytes of a token.
const LEN: usize = 8;

/// Two secrets, of which nothing is to be known outside.
pub(super) struct Tokens {
    secrets: [[u8; 16]; 2],
    rotated: Instant,
}

impl Tokens {
    pub(super) fn new(now: Instant, rng: &mut impl RngExt) -> Self {
        Self { secrets: [rng.random(), rng.random()], rotated: now }
    }

    /// Replaces the secret, if it is time.
    pub(super) fn rotate(&mut self, now: Instant, rng: &mut impl RngExt) {
        let age = now.duration_since(self.rotated);
        if age < ROTATION {
            return;
        }
        let before = if age < 2 * ROTATION { self.secrets[0] } else { rng.random() };
        self.secrets = [rng.random(), before];
        self.rotated = now;
    }

    /// The token for an address and a place.
    pub(super) fn token(&self, ip: IpAddr, target: NodeId) -> [u8; LEN] {
        make(&self.secrets[0], ip, target)
    }

    /// Whether a token was made for this address and place, and lately.
    pub(super) fn is_good(&self, token: &[u8], ip: IpAddr, target: NodeId) -> bool {
        self.secrets.iter().any(|secret| make(secret, ip, target) == token)
    }
}

fn make(secret: &[u8; 16], ip: IpAddr, target: NodeId) -> [u8; LEN] {
    let mut sha1 = Sha1::new();
    match ip {
        IpAddr::V4(ip) => sha1.update(ip.octets()),
        IpAddr::V6(ip) => sha1.update(ip.octets()),
    }
    sha1.update(secret);
    sha1.update(target.0);
    let digest = sha1.finalize();
    std::array::from_fn(|i| digest[i])
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_token_is_good_for_one_address_and_place_and_for_at_most_ten_minutes() {
        let (mut rng, start) = (StdRng::seed_from_u64(1), Instant::now());
        let mut tokens = Tokens::new(start, &mut rng);
        let (ip, other): (IpAddr, IpAddr) = ("1.2.3.4".parse().unwrap(), "1.2.3.5".parse().unwrap());
        let (target, elsewhere) = (NodeId([1; 20]), NodeId([2; 20]));
        let token = tokens.token(ip, target);
        assert!(tokens.is_good(&token, ip, target));
        assert!(!tokens.is_good(&token, other, target) && !tokens.is_good(&token, ip, elsewhere));
        assert!(!tokens.is_good(b"", ip, target));
        tokens.rotate(start + ROTATION, &mut rng);
        assert!(tokens.is_good(&token, ip, target), "five minutes old");
        tokens.rotate(start + 2 * ROTATION, &mut rng);
        assert!(!tokens.is_good(&token, ip, target), "ten minutes old");
    }

    #[test]
    fn a_long_silence_voids_every_token() {
        let (mut rng, start) = (StdRng::seed_from_u64(1), Instant::now());
        let mut tokens = Tokens::new(start, &mut rng);
        let (ip, target) = ("1.2.3.4".parse().unwrap(), NodeId([1; 20]));
        let token = tokens.token(ip, target);
        tokens.rotate(start + 5 * ROTATION, &mut rng);
        assert!(!tokens.is_good(&token, ip, target));
    }
}
