//! The handshake itself, as bytes come and go.

use rand::{Rng, RngExt};

use super::exchange::{KEY_LEN, PrivateKey};
use super::keys::{Keys, Rc4, hash, obfuscated};
use super::{Method, Methods};

/// The longest pad, in bytes.
const MAX_PAD: usize = 512;
/// The constant that says that both have the same keys.
const VC: [u8; 8] = [0; 8];

/// What one side wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What may follow the handshake.
    pub allowed: Methods,
    /// Of both, RC4 is selected.
    pub prefer_rc4: bool,
}

/// Why there is no agreement. Nothing can be said to the other side about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The key leaves nothing to be known.
    #[error("the peer sent a key that is none")]
    DegenerateKey,
    /// What must follow the pad did not come in time.
    #[error("the peer's keys are not ours: the place where encryption begins was not found")]
    SyncNotFound,
    /// No torrent of ours.
    #[error("the peer wants a torrent that is not here")]
    UnknownTorrent,
    /// There should have been zeros.
    #[error("the peer's keys are not ours: the verification constant is not what it must be")]
    WrongConstant,
    /// Longer than a pad may be.
    #[error("the peer announced a pad that is too long")]
    PadTooLong,
    /// Nothing of what the peer offers is allowed here.
    #[error("the peer offers no method that is allowed here")]
    NothingInCommon,
    /// Not one of those that we offered.
    #[error("the peer selected a method that was not offered")]
    NotOffered,
}

/// What both have agreed upon.
#[derive(Debug)]
pub struct Agreement {
    /// What follows.
    pub method: Method,
    /// The keys that both have now.
    pub keys: Keys,
    /// The key streams behind the handshake: for what we send, and for what we receive.
    pub ciphers: [Rc4; 2],
    /// The torrent.
    pub info_hash: [u8; 20],
    /// What came with the handshake, as plain text: the beginning of the stream.
    pub initial: Vec<u8>,
    /// What came behind it, as it came.
    pub rest: Vec<u8>,
}

/// One side of a handshake. It holds at most what a handshake can have, and whatever came along with its end.
#[derive(Debug)]
pub struct Handshake {
    inbox: Vec<u8>,
    terms: Terms,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Initiator: for Yb.
    Key { private: PrivateKey, info_hash: [u8; 20], initial: Vec<u8> },
    /// Initiator: for the end of PadB, which shows by what follows it.
    Verification { session: Box<Session>, encrypted: [u8; 8] },
    /// Initiator: for `crypto_select` and the length of PadD.
    Selection { session: Box<Session> },
    /// Initiator: for PadD.
    LastPad { session: Box<Session>, method: Method, length: usize },

    /// Responder: for Ya.
    FirstKey,
    /// Responder: for the end of PadA.
    Request { secret: [u8; KEY_LEN] },
    /// Responder: for the torrent.
    Torrent { secret: [u8; KEY_LEN] },
    /// Responder: for VC, `crypto_provide` and the length of PadC.
    Offer { session: Box<Session> },
    /// Responder: for PadC, and the length of IA.
    Pad { session: Box<Session>, method: Method, length: usize },
    /// Responder: for IA.
    Initial { session: Box<Session>, method: Method, length: usize },

    /// There was an agreement, or a failure.
    Over,
}

/// What is known from the moment on that both have the secret and the torrent.
#[derive(Debug)]
struct Session {
    info_hash: [u8; 20],
    keys: Keys,
    send: Rc4,
    receive: Rc4,
}

impl Session {
    fn new(secret: &[u8; KEY_LEN], info_hash: [u8; 20], initiator: bool) -> Box<Self> {
        let keys = Keys::new(secret, &info_hash, initiator);
        let [send, receive] = [Rc4::new(&keys.outgoing), Rc4::new(&keys.incoming)];
        Box::new(Self { info_hash, keys, send, receive })
    }

    fn agree(self, method: Method, initial: Vec<u8>, rest: Vec<u8>) -> Agreement {
        let Self { info_hash, keys, send, receive } = self;
        Agreement { method, keys, ciphers: [send, receive], info_hash, initial, rest }
    }
}

/// What a step of the handshake led to.
enum Step {
    /// Nothing before more has come.
    Wait(State),
    /// The next.
    Next(State),
    Done(Box<Agreement>),
}

impl Handshake {
    /// The side that opened the connection: asks for a torrent, and says `initial` along with that. What is to be sent is
    /// appended to `out`.
    pub fn initiate(
        info_hash: [u8; 20],
        terms: Terms,
        initial: Vec<u8>,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Self {
        let private = PrivateKey::random(rng);
        out.extend(private.public());
        pad(rng, out);
        Self { inbox: Vec::new(), terms, state: State::Key { private, info_hash, initial } }
    }

    /// The side that was called.
    pub fn respond(terms: Terms) -> Self {
        Self { inbox: Vec::new(), terms, state: State::FirstKey }
    }

    /// Takes bytes, appends to `out` what is to be sent, and says when both agree. `find` knows the info-hash for what
    /// [`obfuscated`](super::obfuscated) makes of it.
    ///
    /// # Errors
    /// There can be no agreement any more. The connection is of no use.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        find: impl Fn(&[u8; 20]) -> Option<[u8; 20]>,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Result<Option<Agreement>, Failure> {
        self.inbox.extend_from_slice(bytes);
        loop {
            let state = std::mem::replace(&mut self.state, State::Over);
            match self.step(state, &find, rng, out)? {
                Step::Next(state) => self.state = state,
                Step::Done(agreement) => return Ok(Some(*agreement)),
                Step::Wait(state) => {
                    self.state = state;
                    return Ok(None);
                }
            }
        }
    }

    fn step(
        &mut self,
        state: State,
        find: &impl Fn(&[u8; 20]) -> Option<[u8; 20]>,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        match state {
            State::Key { private, info_hash, initial } => {
                let Some(theirs) = self.take_array() else {
                    return Ok(Step::Wait(State::Key { private, info_hash, initial }));
                };
                let secret = private.secret(&theirs).ok_or(Failure::DegenerateKey)?;
                Ok(Step::Next(self.ask(&secret, info_hash, initial, rng, out)))
            }
            State::Verification { session, encrypted } => match self.skip_past(&encrypted)? {
                true => Ok(Step::Next(State::Selection { session })),
                false => Ok(Step::Wait(State::Verification { session, encrypted })),
            },
            State::Selection { session } => self.on_selection(session),
            State::LastPad { mut session, method, length } => match self.take(length) {
                Some(mut pad) => {
                    session.receive.apply(&mut pad);
                    Ok(self.done(*session, method, Vec::new()))
                }
                None => Ok(Step::Wait(State::LastPad { session, method, length })),
            },

            State::FirstKey => {
                let Some(theirs) = self.take_array() else { return Ok(Step::Wait(State::FirstKey)) };
                let private = PrivateKey::random(rng);
                let secret = private.secret(&theirs).ok_or(Failure::DegenerateKey)?;
                out.extend(private.public());
                pad(rng, out);
                Ok(Step::Next(State::Request { secret }))
            }
            State::Request { secret } => match self.skip_past(&hash(b"req1", &[&secret]))? {
                true => Ok(Step::Next(State::Torrent { secret })),
                false => Ok(Step::Wait(State::Request { secret })),
            },
            State::Torrent { secret } => {
                let Some(hidden) = self.take_array() else {
                    return Ok(Step::Wait(State::Torrent { secret }));
                };
                let info_hash =
                    find(&xor(hidden, hash(b"req3", &[&secret]))).ok_or(Failure::UnknownTorrent)?;
                Ok(Step::Next(State::Offer { session: Session::new(&secret, info_hash, false) }))
            }
            State::Offer { session } => self.on_offer(session),
            State::Pad { session, method, length } => Ok(self.on_pad(session, method, length, rng, out)),
            State::Initial { mut session, method, length } => match self.take(length) {
                Some(mut initial) => {
                    session.receive.apply(&mut initial);
                    Ok(self.done(*session, method, initial))
                }
                None => Ok(Step::Wait(State::Initial { session, method, length })),
            },
            State::Over => Ok(Step::Wait(State::Over)),
        }
    }

    /// The initiator's second message: everything that it has to say.
    fn ask(
        &self,
        secret: &[u8; KEY_LEN],
        info_hash: [u8; 20],
        mut initial: Vec<u8>,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> State {
        let mut session = Session::new(secret, info_hash, true);
        out.extend(hash(b"req1", &[secret]));
        out.extend(xor(obfuscated(&info_hash), hash(b"req3", &[secret])));
        // Its length has two bytes.
        initial.truncate(u16::MAX.into());
        let mut offer = VC.to_vec();
        offer.extend(self.terms.allowed.0.to_be_bytes());
        offer.extend(counted_pad(rng));
        offer.extend((initial.len() as u16).to_be_bytes());
        offer.append(&mut initial);
        session.send.apply(&mut offer);
        out.append(&mut offer);
        let mut encrypted = VC;
        session.receive.apply(&mut encrypted);
        State::Verification { session, encrypted }
    }

    fn on_selection(&mut self, mut session: Box<Session>) -> Result<Step, Failure> {
        let Some(mut bytes) = self.take_array::<6>() else {
            return Ok(Step::Wait(State::Selection { session }));
        };
        session.receive.apply(&mut bytes);
        let [a, b, c, d, length @ ..] = bytes;
        let selected = Methods(u32::from_be_bytes([a, b, c, d]));
        let method = match selected {
            Methods::PLAINTEXT => Method::Plaintext,
            Methods::RC4 => Method::Rc4,
            _ => return Err(Failure::NotOffered),
        };
        if !self.terms.allowed.contains(selected) {
            return Err(Failure::NotOffered);
        }
        Ok(Step::Next(State::LastPad { session, method, length: pad_length(length)? }))
    }

    fn on_offer(&mut self, mut session: Box<Session>) -> Result<Step, Failure> {
        let Some(mut bytes) = self.take_array::<14>() else {
            return Ok(Step::Wait(State::Offer { session }));
        };
        session.receive.apply(&mut bytes);
        let [vc @ .., a, b, c, d, e, f] = bytes;
        if vc != VC {
            return Err(Failure::WrongConstant);
        }
        let method = self.select(Methods(u32::from_be_bytes([a, b, c, d])))?;
        Ok(Step::Next(State::Pad { session, method, length: pad_length([e, f])? }))
    }

    /// What the responder chooses of an offer.
    fn select(&self, offered: Methods) -> Result<Method, Failure> {
        let common = Methods(offered.0 & self.terms.allowed.0);
        match [Methods::PLAINTEXT, Methods::RC4].map(|method| common.contains(method)) {
            [true, true] if self.terms.prefer_rc4 => Ok(Method::Rc4),
            [true, _] => Ok(Method::Plaintext),
            [_, true] => Ok(Method::Rc4),
            _ => Err(Failure::NothingInCommon),
        }
    }

    /// Behind PadC and a length: the responder has its say, though IA may not be there yet.
    fn on_pad(
        &mut self,
        mut session: Box<Session>,
        method: Method,
        length: usize,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(mut bytes) = self.take(length + 2) else {
            return Step::Wait(State::Pad { session, method, length });
        };
        session.receive.apply(&mut bytes);
        let initial = u16::from_be_bytes([bytes[length], bytes[length + 1]]);
        let mut answer = VC.to_vec();
        let selected = match method {
            Method::Plaintext => Methods::PLAINTEXT,
            Method::Rc4 => Methods::RC4,
        };
        answer.extend(selected.0.to_be_bytes());
        answer.extend(counted_pad(rng));
        session.send.apply(&mut answer);
        out.append(&mut answer);
        Step::Next(State::Initial { session, method, length: initial.into() })
    }

    fn done(&mut self, session: Session, method: Method, initial: Vec<u8>) -> Step {
        Step::Done(Box::new(session.agree(method, initial, std::mem::take(&mut self.inbox))))
    }

    /// The next bytes, once they are all there.
    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        (self.inbox.len() >= length).then(|| self.inbox.drain(..length).collect())
    }

    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.inbox.first_chunk()?;
        self.inbox.drain(..N);
        Some(array)
    }

    /// Drops a pad and the bytes that show where it ends. `false`: they may still come.
    fn skip_past(&mut self, mark: &[u8]) -> Result<bool, Failure> {
        let end = self.inbox.len().min(MAX_PAD + mark.len());
        match self.inbox[..end].windows(mark.len()).position(|window| window == mark) {
            Some(place) => {
                self.inbox.drain(..place + mark.len());
                Ok(true)
            }
            None if end == MAX_PAD + mark.len() => Err(Failure::SyncNotFound),
            None => Ok(false),
        }
    }
}

/// A pad whose end has to be found.
fn pad(rng: &mut impl Rng, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + usize::from(rng.random_range(0..=MAX_PAD as u16)), 0);
    rng.fill_bytes(&mut out[start..]);
}

/// A pad behind its length. The protocol has zeros in it, since it is encrypted.
fn counted_pad(rng: &mut impl Rng) -> Vec<u8> {
    let length = rng.random_range(0..=MAX_PAD as u16);
    let mut pad = length.to_be_bytes().to_vec();
    pad.resize(2 + usize::from(length), 0);
    pad
}

fn pad_length(bytes: [u8; 2]) -> Result<usize, Failure> {
    let length = usize::from(u16::from_be_bytes(bytes));
    if length <= MAX_PAD { Ok(length) } else { Err(Failure::PadTooLong) }
}

fn xor(one: [u8; 20], other: [u8; 20]) -> [u8; 20] {
    std::array::from_fn(|i| one[i] ^ other[i])
}
