//! Ciphers (libtorrent's `crypto_plugin`).
#![allow(unsafe_code)]

use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RSliceMut};

use crate::answer::CipherError;
use crate::context::CipherContext;
use crate::host_api::Sink;
use crate::table::hook_table;

/// How far a [`decrypt`](CipherPlugin::decrypt) call got. It comes preset as a stream cipher answers: everything that
/// was passed in is plain text now.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decrypted {
    /// Bytes to cut from the head (headers, tags); they count as protocol traffic.
    pub consume: u32,
    /// Bytes of plain text behind those, for the parser.
    pub produce: u32,
    /// How many bytes of cipher text must be there before the next call. 0: as soon as there are any.
    pub packet_size: u32,
}

/// Bytes that a cipher puts before the data it has encrypted.
pub struct Prefix<'a>(Sink<'a>);

impl Prefix<'_> {
    /// Appends to the bytes that are sent before the data.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.put(bytes);
    }
}

impl<'a> From<Sink<'a>> for Prefix<'a> {
    fn from(sink: Sink<'a>) -> Self {
        Self(sink)
    }
}

hook_table! {
    /// Encrypts and decrypts one connection from the message on at which it was switched on
    /// ([`BtPeer::switch_send_crypto`](crate::BtPeer::switch_send_crypto)). libtorrent: `crypto_plugin`. All hooks: network
    /// thread; an error closes the connection with `parse_failed`.
    trait CipherPlugin, context CipherContext, set CipherHooks, wire CipherVtable as CipherVtableRef, boxed CipherBox, flat CipherTable, object CipherObject;
    hooks {
        /// The key of the encryption handshake (MSE) for what we receive, if there was one: called before anything else, also
        /// for a cipher of the other direction. Else never.
        fn set_incoming_key(key: &[u8] => RSlice<'_, u8>) -> () = ();
        /// The key for what we send: as above.
        fn set_outgoing_key(key: &[u8] => RSlice<'_, u8>) -> () = ();
        /// Encrypts queued bytes in place, at most 1 MiB at a time; what `prefix` receives is sent before them.
        fn encrypt(data: &mut [u8] => RSliceMut<'_, u8>, prefix: Prefix<'_> => Sink<'_>) -> Result<(), CipherError> = Ok(());
        /// Decrypts received bytes in place, and says in `progress` how far it got. `data` is never shorter than the
        /// `packet_size` that it asked for last. Called once with no data when it is switched on, to learn the first.
        fn decrypt(data: &mut [u8] => RSliceMut<'_, u8>, progress: &mut Decrypted => &mut Decrypted) -> Result<(), CipherError> = Ok(());
    }
}
