//! Whatever is hashed side by side hashes to what the `sha1` crate says.

use proptest::collection::vec;
use proptest::prelude::*;
use sha1::Digest as _;
use sha1_lanes::{LANES, Sha1, update_each};

fn expected(message: &[u8]) -> [u8; 20] {
    sha1::Sha1::digest(message).into()
}

fn message(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

#[test]
fn the_examples_of_the_standard_hash_to_what_it_says() {
    let hex = |digest: [u8; 20]| digest.map(|byte| format!("{byte:02x}")).concat();
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_eq!(hex(Sha1::digest(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(hex(Sha1::digest(two_blocks)), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    assert_eq!(hex(Sha1::digest(&vec![b'a'; 1_000_000])), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

#[test]
fn messages_of_every_length_around_a_block_are_padded_right() {
    for length in 0..=200 {
        let message = message(1, length);
        assert_eq!(Sha1::digest(&message), expected(&message), "of {length} bytes");
    }
}

#[test]
fn any_number_of_long_messages_is_hashed_side_by_side() {
    for count in 0..=2 * LANES + 1 {
        let messages: Vec<_> = (0..count).map(|i| message(i as u8, 70_000 - 1_024 * i)).collect();
        let mut hashes = vec![Sha1::new(); count];
        update_each(hashes.iter_mut().zip(&messages).map(|(hash, message)| (hash, [&message[..]])));
        for (hash, message) in hashes.into_iter().zip(&messages) {
            assert_eq!(hash.finish(), expected(message), "one of {count}");
        }
    }
}

proptest! {
    #[test]
    fn parts_of_any_length_make_the_hash_of_their_whole(
        messages in vec((vec(any::<u8>(), 0..100), vec(vec(any::<u8>(), 0..300), 0..5)), 0..10),
    ) {
        let mut hashes: Vec<Sha1> = messages
            .iter()
            .map(|(head, _)| {
                let mut hash = Sha1::new();
                hash.update(head);
                hash
            })
            .collect();
        update_each(hashes.iter_mut().zip(messages.iter().map(|(_, parts)| parts.iter().map(|part| &part[..]))));
        for (hash, (head, parts)) in hashes.into_iter().zip(&messages) {
            prop_assert_eq!(hash.finish(), expected(&[&head[..], &parts.concat()].concat()));
        }
    }
}
