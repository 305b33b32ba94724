//! Why things fail and connections end, by libtorrent's numbers.

use abi_stable::StableAbi;

/// What went wrong, or why a connection ended (libtorrent's `error_code`): a family of codes and a code within it.
/// `cx.describe(code)` gives the text. Codes of a later host are ordinary values here.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode {
    /// The family: [`ErrorCode::BITTORRENT`], [`ErrorCode::SYSTEM`], or [`ErrorCode::PLUGIN`].
    pub category: u32,
    /// The code; 0 is "no error" in every family.
    pub value: i32,
}

macro_rules! error_codes {
    ($( $(#[$meta:meta])* $NAME:ident = $value:literal, $text:literal; )*) => {
        impl ErrorCode {
            $( $(#[$meta])* #[doc = concat!("libtorrent's text: “", $text, "”.")]
               pub const $NAME: Self = Self::bittorrent($value); )*

            /// The English text of a code of this library's own family, as libtorrent has it.
            pub const fn text(self) -> Option<&'static str> {
                if self.category == 4 && self.value == 2 { return Some("End of file"); }
                if self.category != Self::BITTORRENT { return None; }
                match self.value { $( $value => Some($text), )* _ => None }
            }
        }
    };
}

impl ErrorCode {
    /// The family of the protocol's own reasons; values are libtorrent's `errors::error_code_enum`.
    pub const BITTORRENT: u32 = 1;
    /// The family of the operating system's errors; values are `errno` (on Windows, Windows' codes).
    pub const SYSTEM: u32 = 2;
    /// The family of reasons that plugins invent for `disconnect`.
    pub const PLUGIN: u32 = 3;
    /// The family of HTTP's status codes, which servers of web seeds answer.
    pub const HTTP: u32 = 5;
    /// The other side closed the connection (the one code of its family that libtorrent's networking library adds).
    pub const END_OF_FILE: Self = Self { category: 4, value: 2 };

    const fn bittorrent(value: i32) -> Self {
        Self { category: Self::BITTORRENT, value }
    }

    /// What a web seed's server answered instead of a file: HTTP's status code.
    pub const fn http(status: u16) -> Self {
        Self { category: Self::HTTP, value: status as i32 }
    }

    /// A reason of a plugin's own.
    pub const fn plugin(value: i32) -> Self {
        Self { category: Self::PLUGIN, value }
    }

    /// Whether this is an error at all.
    pub const fn is_error(self) -> bool {
        self.value != 0
    }
}

error_codes! {
    /// Nothing went wrong.
    NO_ERROR = 0, "no error";
    /// The session is shutting down.
    SESSION_IS_CLOSING = 18, "session is closing";
    /// A cipher refused the bytes.
    PARSE_FAILED = 27, "parse failed";
    /// A connection attempt took too long.
    TIMED_OUT = 36, "timed out";
    /// Both sides are only uploading.
    UPLOAD_UPLOAD_CONNECTION = 37, "upload to upload connection";
    /// The peer has nothing that is wanted, and wants nothing.
    UNINTERESTING_UPLOAD_PEER = 38, "uninteresting upload-only peer";
    /// The peer names a torrent that the session does not have.
    INVALID_INFO_HASH = 39, "invalid info-hash";
    /// The torrent is paused.
    TORRENT_PAUSED = 40, "torrent paused";
    /// HAVE for a piece that does not exist.
    INVALID_HAVE = 41, "'have'-message with higher index than the number of pieces";
    /// A bitfield of the wrong size.
    INVALID_BITFIELD_SIZE = 42, "bitfield of invalid size";
    /// The peer went on asking while it was choked.
    TOO_MANY_REQUESTS_WHEN_CHOKED = 43, "too many piece requests while choked";
    /// A block that is none.
    INVALID_PIECE = 44, "invalid piece packet";
    /// The torrent is going away.
    TORRENT_ABORTED = 46, "torrent aborted";
    /// The connection leads back to this session.
    SELF_CONNECTION = 47, "connected to ourselves";
    /// Neither side was interested for long.
    TIMED_OUT_NO_INTEREST = 49, "timed out: no interest";
    /// The peer went silent.
    TIMED_OUT_INACTIVITY = 50, "timed out: inactivity";
    /// The handshake took too long.
    TIMED_OUT_NO_HANDSHAKE = 51, "timed out: no handshake";
    /// An unchoked, interested peer asked for nothing.
    TIMED_OUT_NO_REQUEST = 52, "timed out: no request";
    /// CHOKE of the wrong length.
    INVALID_CHOKE = 53, "invalid choke message";
    /// UNCHOKE of the wrong length.
    INVALID_UNCHOKE = 54, "invalid unchoke message";
    /// INTERESTED of the wrong length.
    INVALID_INTERESTED = 55, "invalid interested message";
    /// NOT INTERESTED of the wrong length.
    INVALID_NOT_INTERESTED = 56, "invalid not-interested message";
    /// REQUEST of the wrong length.
    INVALID_REQUEST = 57, "invalid request message";
    /// CANCEL of the wrong length.
    INVALID_CANCEL = 60, "invalid cancel message";
    /// SUGGEST of the wrong length, or without the fast extension.
    INVALID_SUGGEST = 62, "invalid suggest piece message";
    /// HAVE ALL of the wrong length, or without the fast extension.
    INVALID_HAVE_ALL = 63, "invalid have-all message";
    /// HAVE NONE of the wrong length, or without the fast extension.
    INVALID_HAVE_NONE = 64, "invalid have-none message";
    /// REJECT of the wrong length, or without the fast extension.
    INVALID_REJECT = 65, "invalid reject message";
    /// ALLOWED FAST of the wrong length, or without the fast extension.
    INVALID_ALLOW_FAST = 66, "invalid allow-fast message";
    /// An extended message too short to be one.
    INVALID_EXTENDED = 67, "invalid extended message";
    /// A message that nobody knows.
    INVALID_MESSAGE = 68, "invalid message";
    /// The encryption handshake did not go on where it should have: the peer's keys are not ours.
    SYNC_HASH_NOT_FOUND = 69, "sync hash not found";
    /// The encryption handshake lacks its verification constant.
    INVALID_ENCRYPTION_CONSTANT = 70, "invalid encryption constant";
    /// The peer offers no encryption that is allowed here.
    UNSUPPORTED_ENCRYPTION_MODE = 73, "unsupported encryption mode";
    /// The peer selected an encryption that it was not offered.
    UNSUPPORTED_ENCRYPTION_MODE_SELECTED = 74, "unsupported encryption mode selected";
    /// A pad in the encryption handshake is longer than pads may be.
    INVALID_PAD_SIZE = 75, "invalid encryption pad size";
    /// The encryption handshake is none.
    INVALID_ENCRYPT_HANDSHAKE = 76, "invalid encryption handshake";
    /// Peers that want encryption are not let in.
    NO_INCOMING_ENCRYPTED = 77, "incoming encrypted connections disabled";
    /// Peers that want no encryption are not let in.
    NO_INCOMING_REGULAR = 78, "incoming regular connections disabled";
    /// Two connections to the same peer.
    DUPLICATE_PEER_ID = 79, "duplicate peer-id";
    /// The torrent was removed.
    TORRENT_REMOVED = 80, "torrent removed";
    /// A message longer than 1 MiB.
    PACKET_TOO_LARGE = 81, "packet too large";
    /// A web seed's redirect does not say where to.
    MISSING_LOCATION = 84, "missing location";
    /// A web seed's redirects lead nowhere.
    INVALID_REDIRECTION = 85, "redirected path does not match";
    /// A web seed says that the file is elsewhere.
    REDIRECTING = 86, "redirecting";
    /// A web seed sent another part of a file than was asked for.
    INVALID_RANGE = 87, "invalid range";
    /// The IP filter blocks the address.
    BANNED_BY_IP_FILTER = 89, "banned by IP filter";
    /// The session is at its limit of connections.
    TOO_MANY_CONNECTIONS = 90, "too many connections";
    /// The peer was banned.
    PEER_BANNED = 91, "peer banned";
    /// The torrent stops.
    STOPPING_TORRENT = 92, "stopping torrent";
    /// The peer sent bad data.
    TOO_MANY_CORRUPT_PIECES = 93, "too many corrupt pieces";
    /// The torrent cannot serve peers yet.
    TORRENT_NOT_READY = 94, "torrent is not ready to accept peers";
    /// The torrent finished, and the peer only uploads.
    TORRENT_FINISHED = 98, "torrent finished";
    /// A ut_metadata message that is none (BEP 9).
    INVALID_METADATA_MESSAGE = 104, "invalid metadata message";
    /// A ut_pex message that is too long (BEP 11).
    PEX_MESSAGE_TOO_LARGE = 105, "pex message too large";
    /// A ut_pex message that is none (BEP 11).
    INVALID_PEX_MESSAGE = 106, "invalid pex message";
    /// More ut_pex messages than one per minute (BEP 11).
    TOO_FREQUENT_PEX = 108, "pex messages sent too frequent (possible attack)";
    /// A hash request that makes no sense.
    INVALID_HASH_REQUEST = 117, "invalid hash request";
    /// A web seed's file has another length than the torrent says.
    MISMATCHING_FILE_SIZE = 134, "mismatching file size";
    /// A web seed does not speak HTTP.
    HTTP_PARSE_ERROR = 150, "Invalid HTTP header";
    /// The handshake did not begin with the protocol's name. (Ours.)
    NOT_BITTORRENT = 1001, "not a BitTorrent handshake";
    /// A plugin panicked on this connection. (Ours.)
    PLUGIN_PANICKED = 1002, "plugin panicked";
    /// The disk cannot be read or written. (Ours.)
    DISK_ERROR = 1003, "disk error";
    /// The torrent turned out to be private, and none of its trackers named the peer (BEP 27). (Ours.)
    PRIVATE_TORRENT = 1004, "the torrent is private";
}

/// What was being done when an error came up (libtorrent's `operation_t`).
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation(pub u32);

impl Operation {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);
    /// The BitTorrent protocol itself.
    pub const BITTORRENT: Self = Self(1);
    /// Reading a socket.
    pub const SOCK_READ: Self = Self(5);
    /// Writing a socket.
    pub const SOCK_WRITE: Self = Self(6);
    /// Connecting a socket.
    pub const CONNECT: Self = Self(16);
    /// Encrypting or decrypting.
    pub const ENCRYPTION: Self = Self(18);
}

/// How bad the end of a connection is (libtorrent's `disconnect_severity_t`).
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(pub u8);

impl Severity {
    /// An ordinary end.
    pub const NORMAL: Self = Self(0);
    /// An error that may be nobody's fault; counts as a failure of the peer.
    pub const FAILURE: Self = Self(1);
    /// The peer broke the protocol.
    pub const PEER_ERROR: Self = Self(2);
}
