//! The other side of a connection: an honest seed, or a peer that says anything.

use bytes::Bytes;
use pilotfish::metainfo::BLOCK_SIZE;
use pilotfish::wire::{HANDSHAKE_LEN, Handshake, Message, RawRequest, Reserved, id};
use pilotfish_tests::sim::Content;
use rand::RngExt;
use rand::rngs::StdRng;

/// A peer, and what it has said and heard.
pub(crate) struct Remote {
    content: Content,
    /// It has everything, serves what is asked of it, and says nothing else.
    honest: bool,
    /// It breaks the protocol.
    rude: bool,
    fast: bool,
    extended: bool,
    /// What it said and the engine has not received yet.
    pub(crate) says: Vec<u8>,
    /// What the engine asked of it and has not taken back.
    asked: Vec<RawRequest>,
    heard: Vec<u8>,
    shaken: bool,
}

impl Remote {
    /// A seed of a torrent. Says its handshake, and what it has.
    pub(crate) fn honest(content: &Content, rng: &mut StdRng) -> Self {
        let mut seed = Self::new(content, true);
        let fast = rng.random_bool(0.5);
        seed.shake_hands(if fast { Reserved::FAST | Reserved::EXTENSIONS } else { Reserved::default() }, rng);
        match fast {
            true => seed.say(&Message::HaveAll),
            false => seed.say(&full(content)),
        }
        seed
    }

    /// A peer that means mischief.
    pub(crate) fn liar(content: &Content, rng: &mut StdRng) -> Self {
        let mut liar = Self::new(content, false);
        liar.rude = rng.random_bool(0.3);
        if liar.rude && rng.random_bool(0.1) {
            return liar;
        }
        (liar.fast, liar.extended) = (rng.random(), rng.random());
        let fast = if liar.fast { Reserved::FAST } else { Reserved::default() };
        let extended = if liar.extended { Reserved::EXTENSIONS } else { Reserved::default() };
        liar.shake_hands(fast | extended, rng);
        match rng.random_range(0..4) {
            0 if liar.fast => liar.say(&Message::HaveAll),
            1 if liar.fast => liar.say(&Message::HaveNone),
            _ => liar.say(&full(content)),
        }
        for message in [Message::Unchoke, Message::Interested] {
            if rng.random_bool(0.8) {
                liar.say(&message);
            }
        }
        liar
    }

    fn new(content: &Content, honest: bool) -> Self {
        let (says, asked, heard) = Default::default();
        Self {
            content: content.clone(),
            honest,
            rude: false,
            fast: false,
            extended: false,
            says,
            asked,
            heard,
            shaken: false,
        }
    }

    pub(crate) fn is_honest(&self) -> bool {
        self.honest
    }

    /// Whether it is here for this torrent.
    pub(crate) fn serves(&self, content: &Content) -> bool {
        self.content.metainfo.info_hashes() == content.metainfo.info_hashes()
    }

    fn shake_hands(&mut self, reserved: Reserved, rng: &mut StdRng) {
        let mut info_hash = self.content.metainfo.info_hashes().truncated();
        if self.rude && rng.random_bool(0.1) {
            info_hash[0] ^= 1;
        }
        let handshake = Handshake { reserved, info_hash, peer_id: rng.random() };
        self.says.extend(handshake.encode());
    }

    fn say(&mut self, message: &Message) {
        message.encode(&mut self.says);
    }

    /// Takes what the engine sent. A liar does not mind what it cannot read.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        if !self.shaken {
            if self.heard.len() < HANDSHAKE_LEN {
                return;
            }
            self.heard.drain(..HANDSHAKE_LEN);
            self.shaken = true;
        }
        while let Some(prefix) = self.heard.first_chunk::<4>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            if self.heard.len() < 4 + length {
                return;
            }
            let message: Vec<u8> = self.heard.drain(..4 + length).skip(4).collect();
            if let Some((kind, body)) = message.split_first() {
                self.hear_message(*kind, body);
            }
        }
    }

    fn hear_message(&mut self, kind: u8, body: &[u8]) {
        match kind {
            id::INTERESTED if self.honest => self.say(&Message::Unchoke),
            id::REQUEST => {
                self.asked.extend(request(body));
                if self.honest {
                    self.serve();
                }
            }
            id::CANCEL => self.asked.retain(|asked| Some(*asked) != request(body)),
            _ => {}
        }
    }

    /// Answers everything that was asked.
    fn serve(&mut self) {
        for asked in std::mem::take(&mut self.asked) {
            let data = self.data(asked).expect("an honest seed is asked for blocks that are there");
            self.say(&Message::Piece { piece: asked.piece, start: asked.start, data });
        }
    }

    fn data(&self, asked: RawRequest) -> Option<Bytes> {
        let geometry = self.content.layout().geometry();
        let span = geometry.span(asked.piece, asked.start, asked.length)?;
        let from = (geometry.offset(span.piece) + u64::from(span.start)) as usize;
        Some(Bytes::copy_from_slice(&self.content.bytes()[from..from + span.len as usize]))
    }

    /// A liar says something.
    pub(crate) fn chat(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.6) && !self.asked.is_empty() {
            return self.answer(rng);
        }
        let message = match rng.random_range(0..if self.rude { 26 } else { 20 }) {
            0 => Message::KeepAlive,
            1 => Message::Choke,
            2 | 3 => Message::Unchoke,
            4 | 5 => Message::Interested,
            6 => Message::NotInterested,
            7 | 8 => Message::Have(self.piece(rng)),
            9..=11 => Message::Request(self.request(rng)),
            12 => Message::Cancel(self.request(rng)),
            13 if self.fast => Message::Reject(self.request(rng)),
            14 if self.fast => Message::Suggest(self.piece(rng)),
            15 if self.fast => Message::AllowedFast(self.piece(rng)),
            16 if self.extended => Message::Extended { id: 0, payload: extension_handshake(rng) },
            17 | 18 if self.extended => {
                Message::Extended { id: rng.random_range(1..12), payload: noise(rng, 3_000) }
            }
            20 => full(&self.content),
            21 => Message::Bitfield(noise(rng, 4)),
            22 => [Message::HaveAll, Message::HaveNone][rng.random_range(0..2)].clone(),
            23 => Message::Unknown { id: rng.random_range(24..=255), payload: noise(rng, 3_000) },
            24 => {
                let asked = self.request(rng);
                let data = noise(rng, BLOCK_SIZE as usize);
                Message::Piece { piece: asked.piece, start: asked.start, data }
            }
            25 => return self.babble(rng),
            _ => Message::KeepAlive,
        };
        self.say(&message);
    }

    /// A liar answers a request: rightly, wrongly, or not.
    fn answer(&mut self, rng: &mut StdRng) {
        let asked = self.asked.swap_remove(rng.random_range(0..self.asked.len()));
        let data = self.data(asked);
        match (rng.random_range(0..20), data) {
            (0, _) => self.say(&Message::Reject(asked)),
            (1, Some(data)) => {
                let mut wrong = data.to_vec();
                wrong[0] ^= 1;
                self.say(&Message::Piece { piece: asked.piece, start: asked.start, data: wrong.into() });
            }
            (2, _) => {}
            (_, Some(data)) => {
                self.say(&Message::Piece { piece: asked.piece, start: asked.start, data });
            }
            (_, None) => {}
        }
    }

    /// Not a message, or not one that is allowed.
    fn babble(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..3) {
            0 => self.says.extend(noise(rng, 50)),
            1 => self.says.extend(rng.random::<u32>().to_be_bytes()),
            _ => {
                self.says.extend([0, 0, 0, rng.random_range(0..20), rng.random_range(0..25)]);
                self.says.extend(noise(rng, 20));
            }
        }
    }

    fn piece(&self, rng: &mut StdRng) -> u32 {
        match self.rude && rng.random_bool(0.02) {
            true => rng.random(),
            false => rng.random_range(0..self.content.layout().geometry().num_pieces()),
        }
    }

    fn request(&self, rng: &mut StdRng) -> RawRequest {
        let (piece, block) = (self.piece(rng), rng.random_range(0..4));
        if self.rude && rng.random_bool(0.1) {
            return RawRequest { piece, start: rng.random(), length: rng.random() };
        }
        let geometry = self.content.layout().geometry();
        let span = geometry.piece(piece).and_then(|piece| geometry.block(piece, block));
        span.map_or(RawRequest { piece, start: 0, length: BLOCK_SIZE }, |span| RawRequest {
            piece,
            start: span.start,
            length: span.len,
        })
    }
}

fn full(content: &Content) -> Message {
    let pieces = content.layout().geometry().num_pieces() as usize;
    let mut bits = vec![0; pieces.div_ceil(8)];
    (0..pieces).for_each(|i| bits[i / 8] |= 0x80 >> (i % 8));
    Message::Bitfield(bits.into())
}

fn noise(rng: &mut StdRng, most: usize) -> Bytes {
    let length = rng.random_range(0..=most);
    let byte: u8 = rng.random();
    (0..length).map(|i| byte.wrapping_add((i * i) as u8)).collect()
}

fn extension_handshake(rng: &mut StdRng) -> Bytes {
    let whole: &[&[u8]] = &[
        b"d1:md3:onei3e3:twoi4e11:lt_donthavei7eee",
        b"d1:md3:onei0eee",
        b"d1:md3:onei300ee4:reqqi-5e1:pi99999ee",
        b"d11:upload_onlyi1e1:v5:chatse",
        b"de",
    ];
    let whole = whole[rng.random_range(0..whole.len())];
    match rng.random_bool(0.1) {
        true => Bytes::copy_from_slice(&whole[..rng.random_range(0..whole.len())]),
        false => Bytes::from_static(whole),
    }
}

fn request(body: &[u8]) -> Option<RawRequest> {
    let (words, _) = body.as_chunks::<4>();
    let [piece, start, length] = words.first_chunk::<3>()?.map(u32::from_be_bytes);
    Some(RawRequest { piece, start, length })
}
