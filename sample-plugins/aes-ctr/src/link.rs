//! One connection: the negotiation, and the two switches.

use std::fmt;

use pilotfish_plugin::{
    CipherBox, Dict, Entry, ErrorCode, Keep, Level, Operation, PeerContext, PeerPlugin, PeerRequest,
    Reserved, Severity, Verdict, hooks,
};

use crate::Policy;
use crate::keys::{Keys, LENGTH, Way};

/// The extended message's name (BEP 10).
const NAME: &str = "pf_aes_ctr";
/// The first byte of each message.
const HELLO: u8 = 0;
const CONFIRMATION: u8 = 1;
/// A peer that must encrypt has so many seconds to begin.
const PATIENCE: u32 = 15;

/// Why a connection is ended. The number is that of the plugin's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The peer does not encrypt, and it is required.
    Clear = 1,
    /// The peer's key is another one.
    WrongKey = 2,
    /// A message that makes no sense at its place.
    Protocol = 3,
    /// This machine has no random numbers to give.
    NoRandomness = 4,
}

/// How far a connection is.
pub(crate) struct Link {
    policy: Policy,
    /// The way of what this side sends.
    way: Way,
    /// Our number for the message.
    id: Option<u8>,
    /// The random part of our hello, once it is sent.
    hello: Option<[u8; LENGTH]>,
    /// Both hellos are here, and everything behind our confirmation is encrypted.
    keys: Option<Keys>,
    /// The peer's confirmation was right, and everything behind it is decrypted.
    decrypts: bool,
    seconds: u32,
}

impl Link {
    /// A connection that this side opened, or accepted.
    pub(crate) fn new(policy: Policy, outgoing: bool) -> Self {
        let way = Way::of(outgoing);
        Self { policy, way, id: None, hello: None, keys: None, decrypts: false, seconds: 0 }
    }
}

#[hooks]
impl PeerPlugin for Link {
    fn type_name(&mut self, _: &mut PeerContext<'_>) -> &'static str {
        "aes-ctr"
    }

    fn on_handshake(&mut self, cx: &mut PeerContext<'_>, reserved: Reserved) -> Keep {
        if reserved.extension_protocol() { Keep::Stay } else { self.stay_clear(cx) }
    }

    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, _: Entry<'_>) {
        match cx.this().register_extended(NAME) {
            Ok(id) => self.id = Some(id),
            Err(error) => cx.log(Level::Error, &format!("cannot announce {NAME}: {error:?}")),
        }
    }

    fn on_extension_handshake(&mut self, cx: &mut PeerContext<'_>, message: Dict<'_>) -> Keep {
        if self.hello.is_some() {
            // Peers may send it again; what was negotiated stays.
            return Keep::Stay;
        }
        let theirs = message.dict("m").and_then(|names| names.int(NAME)).unwrap_or(0);
        if theirs == 0 || self.id.is_none() {
            return self.stay_clear(cx);
        }
        if let Err(fault) = self.say_hello(cx) {
            fault.end(cx);
        }
        Keep::Stay
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, _: u32, message: u8, body: &[u8]) -> Verdict {
        if Some(message) != self.id {
            return Verdict::Continue;
        }
        let outcome = match body.split_first() {
            Some((&HELLO, random)) => self.on_hello(cx, random),
            Some((&CONFIRMATION, code)) => self.on_confirmation(cx, code),
            _ => Err(Fault::Protocol),
        };
        if let Err(fault) = outcome {
            fault.end(cx);
        }
        Verdict::Handled
    }

    // Blocks are what is to be kept secret: where encryption is required, none is served or taken in clear, whatever else
    // the peer does.

    fn on_request(&mut self, cx: &mut PeerContext<'_>, _: PeerRequest) -> Verdict {
        self.insist(cx, self.keys.is_some())
    }

    fn on_piece(&mut self, cx: &mut PeerContext<'_>, _: PeerRequest, _: &[u8]) -> Verdict {
        self.insist(cx, self.decrypts)
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        self.seconds = self.seconds.saturating_add(1);
        if self.seconds == PATIENCE {
            self.insist(cx, self.decrypts);
        }
    }
}

impl Link {
    /// Sends our hello.
    fn say_hello(&mut self, cx: &PeerContext<'_>) -> Result<(), Fault> {
        let mut random = [0; LENGTH];
        getrandom::fill(&mut random).map_err(|_| Fault::NoRandomness)?;
        self.hello = Some(random);
        send(cx, HELLO, &random)
    }

    /// The peer's hello: our confirmation is the last that goes out in clear.
    fn on_hello(&mut self, cx: &PeerContext<'_>, random: &[u8]) -> Result<(), Fault> {
        let (Some(ours), None) = (self.hello, &self.keys) else { return Err(Fault::Protocol) };
        let theirs = random.try_into().map_err(|_| Fault::Protocol)?;
        let keys = Keys::new(&self.policy.key, self.way, ours, theirs);
        send(cx, CONFIRMATION, &keys.confirmation(self.way))?;
        let connection = cx.this().bt().ok_or(Fault::Protocol)?;
        connection.switch_send_crypto(Some(CipherBox::new(keys.cipher(self.way))));
        self.keys = Some(keys);
        Ok(())
    }

    /// The peer's confirmation is the last that it sends in clear.
    fn on_confirmation(&mut self, cx: &PeerContext<'_>, code: &[u8]) -> Result<(), Fault> {
        let (Some(keys), false) = (&self.keys, self.decrypts) else { return Err(Fault::Protocol) };
        let back = self.way.back();
        if !keys.confirms(back, code) {
            return Err(Fault::WrongKey);
        }
        let connection = cx.this().bt().ok_or(Fault::Protocol)?;
        connection.switch_recv_crypto(Some(CipherBox::new(keys.cipher(back))));
        self.decrypts = true;
        cx.log(Level::Info, &format!("{}: encrypted", cx.this().remote()));
        Ok(())
    }

    /// The peer will not encrypt. The plugin leaves the connection, or ends it.
    fn stay_clear(&self, cx: &PeerContext<'_>) -> Keep {
        if self.policy.require {
            Fault::Clear.end(cx);
            return Keep::Stay;
        }
        cx.log(Level::Debug, &format!("{}: stays in clear", cx.this().remote()));
        Keep::Leave
    }

    /// Ends a connection that should be encrypted by now, and is not.
    fn insist(&self, cx: &PeerContext<'_>, encrypted: bool) -> Verdict {
        if encrypted || !self.policy.require {
            return Verdict::Continue;
        }
        Fault::Clear.end(cx);
        Verdict::Handled
    }
}

fn send(cx: &PeerContext<'_>, kind: u8, bytes: &[u8; LENGTH]) -> Result<(), Fault> {
    let message = [&[kind][..], bytes].concat();
    // A peer that took the name back, or whose queue is full, is not waited for.
    if cx.this().send_extended(NAME, &message) { Ok(()) } else { Err(Fault::Protocol) }
}

impl Fault {
    fn end(self, cx: &PeerContext<'_>) {
        cx.log(Level::Warn, &format!("{}: {self}", cx.this().remote()));
        let severity = if self == Self::Protocol { Severity::PEER_ERROR } else { Severity::FAILURE };
        cx.this().disconnect(ErrorCode::plugin(self as i32), Operation::ENCRYPTION, severity);
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "does not encrypt, and has to",
            Self::WrongKey => "has another key",
            Self::Protocol => "broke the rules of the negotiation",
            Self::NoRandomness => "there are no random numbers for a hello",
        })
    }
}
