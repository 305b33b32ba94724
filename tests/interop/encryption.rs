//! Encrypted connections (MSE), with libtorrent at the other end: each of both has the data, and each calls the other.

use std::fs;

use crate::data::{Data, MIB};
use crate::peers::{LISTEN, address, download, libtorrent, seeding, set, start};
use crate::process::{Line, Process};

const SIZE: u64 = 2 * MIB;

/// libtorrent, which has only encrypted connections; what follows the handshake is RC4, or plain text.
const RC4: [&str; 3] = ["in_enc_policy=0", "out_enc_policy=0", "allowed_enc_level=2"];
const PLAIN_TEXT: [&str; 3] = ["in_enc_policy=0", "out_enc_policy=0", "allowed_enc_level=1"];
/// libtorrent, which has only connections in clear, or only encrypted ones.
const DISABLED: [&str; 2] = ["in_enc_policy=2", "out_enc_policy=2"];
const FORCED: [&str; 2] = ["in_enc_policy=0", "out_enc_policy=0"];

/// Who has the data, and who calls whom.
#[derive(Clone, Copy, Debug)]
struct Way {
    we_have: bool,
    we_call: bool,
}

/// All ways that there are.
const WAYS: [Way; 4] = [
    Way { we_have: false, we_call: true },
    Way { we_have: false, we_call: false },
    Way { we_have: true, we_call: true },
    Way { we_have: true, we_call: false },
];

/// Pilotfish and libtorrent, of which one knows of the other.
struct Pair {
    way: Way,
    data: Data,
    pilotfish: Process,
    libtorrent: Process,
}

impl Pair {
    fn start(way: Way, ours: &[&str], theirs: &[&str]) -> Self {
        let data = Data::single(SIZE);
        let (mut us, role, folder) = if way.we_have {
            (seeding(&data, LISTEN), "leech", data.arrived())
        } else {
            (download(&data, &[]), "seed", data.complete())
        };
        // What comes of encryption is in the log of a connection.
        set(set(&mut us, ours), &["alert_mask=0x8000"]);
        let mut them = libtorrent(role, &data, &folder, LISTEN);
        set(&mut them, theirs);
        let (pilotfish, libtorrent) = if way.we_call {
            let mut libtorrent = start(&mut them, SIZE);
            let address = address(&mut libtorrent);
            libtorrent.wait_for("checked data", |line| line.event("checked"));
            (start(us.args(["--peer", &address]), SIZE), libtorrent)
        } else {
            let mut pilotfish = start(&mut us, SIZE);
            let address = address(&mut pilotfish);
            if way.we_have {
                pilotfish.wait_for("checked data", |line| line.event("finished"));
            }
            (pilotfish, start(them.args(["--peer", &address]), SIZE))
        };
        Self { way, data, pilotfish, libtorrent }
    }

    /// What both agree on, of which Pilotfish tells.
    #[track_caller]
    fn agreement(&mut self) -> String {
        self.pilotfish.wait_for("an agreement", |line| {
            let log = line.alert("peer_log").filter(|log| log["event"] == "ENCRYPTION")?;
            Some(log["text"].as_str()?.strip_prefix("both agree on ")?.to_owned())
        })
    }

    /// Everything comes to whoever lacks it.
    #[track_caller]
    fn finish(mut self) {
        if self.way.we_have {
            self.libtorrent.wait_for("a finished torrent", |line| line.event("finished"));
        } else {
            self.pilotfish.wait_for_code(0);
        }
        self.data.assert_arrived();
    }
}

/// With each of these settings of ours, and in each way, there is one encrypted connection, through which everything comes.
#[track_caller]
fn agree(ours: &[&[&str]], theirs: &[&str], on: &str) {
    for ours in ours {
        for way in WAYS {
            println!("{ours:?}, {theirs:?}, {way:?}");
            let mut pair = Pair::start(way, ours, theirs);
            assert_eq!(pair.agreement(), on);
            pair.finish();
        }
    }
}

#[test]
fn libtorrent_that_insists_on_rc4_has_it_in_both_directions() {
    // By default we call in clear first.
    agree(&[&[]], &RC4, "RC4");
}

#[test]
fn libtorrent_that_insists_on_an_encrypted_handshake_has_it_before_plain_text() {
    agree(&[&[], &["out_enc_policy=forced"]], &PLAIN_TEXT, "plain text");
}

#[test]
fn libtorrent_follows_where_we_insist_on_rc4() {
    agree(&[&["in_enc_policy=forced", "out_enc_policy=forced", "allowed_enc_level=rc4"]], &[], "RC4");
}

/// Both know of each other, and do not come together. Who is called says why; who calls is hung up on.
#[track_caller]
fn refuse(ours: &str, theirs: &[&str], why: &str) {
    let ours = ["in", "out"].map(|call| format!("{call}_enc_policy={ours}"));
    let ended = |line: &Line| {
        let end = line.alert("peer_disconnected").or_else(|| line.alert("peer_error"))?;
        Some(end["error"].as_str()?.to_owned())
    };
    for way in WAYS {
        println!("{ours:?}, {theirs:?}, {way:?}");
        let mut pair = Pair::start(way, &ours.each_ref().map(String::as_str), theirs);
        let error = pair.pilotfish.wait_for("the end of a connection", ended);
        let expected = if way.we_call { &["End of file", "Connection reset by peer"][..] } else { &[why] };
        assert!(expected.contains(&error.as_str()), "{error}");
        let arrived = fs::read(pair.data.arrived().join("payload.bin")).unwrap_or_default();
        assert!(arrived.iter().all(|byte| *byte == 0), "something came");
    }
}

#[test]
fn where_we_insist_on_encryption_and_libtorrent_has_none_nothing_is_exchanged() {
    refuse("forced", &DISABLED, "incoming regular connections disabled");
}

#[test]
fn where_libtorrent_insists_on_encryption_and_we_have_none_nothing_is_exchanged() {
    refuse("disabled", &FORCED, "incoming encrypted connections disabled");
}
