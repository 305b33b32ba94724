//! A peer's side of a connection: what it heard.

use std::collections::{HashMap, VecDeque};

use pilotfish::wire::{HANDSHAKE_LEN, RawRequest, id};
use pilotfish_plugin::Dict;

/// What a peer remembers of what the session told it.
#[derive(Default)]
pub(crate) struct Remote {
    /// What the session asked for and has not taken back.
    pub(crate) requests: VecDeque<RawRequest>,
    /// The numbers that the session gave to extensions (BEP 10).
    pub(crate) extensions: HashMap<String, u8>,
    /// Whether the session did not name the extensions that are its own.
    pub(crate) deprived: bool,
    /// It encrypts, and only keeps what it hears.
    encrypts: bool,
    pub(crate) inbox: Vec<u8>,
    shaken: bool,
}

impl Remote {
    /// One that encrypts.
    pub(crate) fn encrypting() -> Self {
        Self { encrypts: true, ..Self::default() }
    }

    /// Takes bytes as they come.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        if self.encrypts {
            return;
        }
        if !self.shaken {
            if self.inbox.len() < HANDSHAKE_LEN {
                return;
            }
            self.inbox.drain(..HANDSHAKE_LEN);
            self.shaken = true;
        }
        while let Some(length) =
            self.inbox.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize)
        {
            if self.inbox.len() < 4 + length {
                return;
            }
            let message: Vec<u8> = self.inbox.drain(..4 + length).skip(4).collect();
            if let Some((kind, body)) = message.split_first() {
                self.hear_message(*kind, body);
            }
        }
    }

    fn hear_message(&mut self, kind: u8, body: &[u8]) {
        match kind {
            id::REQUEST => self.requests.extend(request(body)),
            id::CANCEL => self.requests.retain(|asked| Some(*asked) != request(body)),
            id::EXTENDED if body.first() == Some(&0) => {
                let Some((handshake, _)) = Dict::parse(&body[1..]) else { return };
                let names = handshake.dict("m").into_iter().flat_map(Dict::iter);
                let number = |(name, id): (&[u8], pilotfish_plugin::Value<'_>)| {
                    Some((String::from_utf8_lossy(name).into_owned(), u8::try_from(id.int()?).ok()?))
                };
                self.extensions.extend(names.filter_map(number));
                self.deprived |= !self.extensions.contains_key("lt_donthave");
            }
            _ => {}
        }
    }
}

fn request(body: &[u8]) -> Option<RawRequest> {
    let (words, _) = body.as_chunks::<4>();
    let [piece, start, length] = *words.first_chunk::<3>()?;
    let [piece, start, length] = [piece, start, length].map(u32::from_be_bytes);
    Some(RawRequest { piece, start, length })
}
