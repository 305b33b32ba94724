use tokio::io::duplex;
use tokio::runtime::Builder;

use super::*;

const PEER: &str = "10.1.2.3:6881";

/// What becomes of a connection if the proxy says this, whatever it hears; what it heard, and what the peer said then.
fn through(proxy: &Proxy, to: &str, says: &[u8]) -> (io::Result<()>, Vec<u8>, Vec<u8>) {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut ours, mut theirs) = duplex(64 << 10);
        theirs.write_all(says).await.unwrap();
        let to = to.parse().unwrap();
        // One that says too little goes then.
        let result = {
            let (mut reader, writer) = tokio::io::split(theirs);
            let asking = async {
                let result = match proxy.socks {
                    true => ask_socks(&mut ours, proxy, to).await,
                    false => ask_http(&mut ours, proxy, to).await,
                };
                let mut rest = Vec::new();
                ours.shutdown().await.unwrap();
                if result.is_ok() {
                    ours.read_to_end(&mut rest).await.unwrap();
                }
                (result, rest)
            };
            let hearing = async {
                let (mut heard, mut writer) = (Vec::new(), writer);
                writer.shutdown().await.unwrap();
                reader.read_to_end(&mut heard).await.unwrap();
                heard
            };
            tokio::join!(asking, hearing)
        };
        let ((result, rest), heard) = result;
        (result, heard, rest)
    })
}

fn proxy(socks: bool, login: Option<(&str, &str)>) -> Proxy {
    let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
    Proxy { socks, host: "proxy".into(), port: 1, login, looks_up: true }
}

#[test]
fn socks_is_asked_for_the_peer_and_then_the_peer_speaks() {
    let says = [&[5, 0, 5, 0, 0, 1, 9, 9, 9, 9, 0, 1][..], b"hello"].concat();
    let (result, heard, rest) = through(&proxy(true, None), PEER, &says);
    assert!(result.is_ok());
    assert_eq!(heard, [5, 1, 0, 5, 1, 0, 1, 10, 1, 2, 3, 0x1a, 0xe1]);
    assert_eq!(rest, b"hello");
}

#[test]
fn socks_hears_of_a_peer_on_ipv6_and_may_call_itself_by_name() {
    let says = [&[5, 0, 5, 0, 0, 3, 2, b'm', b'e', 0, 1][..], b"hello"].concat();
    let (result, heard, rest) = through(&proxy(true, None), "[::1]:6881", &says);
    assert!(result.is_ok());
    assert_eq!((heard[6], heard.len(), rest.as_slice()), (4, 25, b"hello".as_slice()));
}

#[test]
fn socks_is_told_the_password_if_it_wants_it() {
    let says = [5, 2, 1, 0, 5, 0, 0, 1, 9, 9, 9, 9, 0, 1];
    let (result, heard, _) = through(&proxy(true, Some(("me", "secret"))), PEER, &says);
    assert!(result.is_ok());
    assert_eq!(heard[..15], *b"\x05\x02\x00\x02\x01\x02me\x06secret");
    let (result, heard, _) = through(&proxy(true, None), PEER, &says);
    assert!(result.is_err() && !heard.windows(2).any(|two| two == b"me"));
}

#[test]
fn http_is_asked_to_connect_and_then_the_peer_speaks() {
    let says = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello";
    let (result, heard, rest) = through(&proxy(false, Some(("me", "a:b@c"))), PEER, says);
    assert!(result.is_ok());
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.starts_with("CONNECT 10.1.2.3:6881 HTTP/1.1\r\nHost: 10.1.2.3:6881\r\n"), "{heard}");
    assert!(heard.ends_with("Proxy-Authorization: Basic bWU6YTpiQGM=\r\n\r\n"), "{heard}");
    assert_eq!(rest, b"hello");
}

#[test]
fn a_proxy_that_refuses_or_talks_nonsense_is_a_failure() {
    let (none, login) = (None, Some(("me", "secret")));
    let long = [b"HTTP/1.1 200 ".as_slice(), &[b'x'; 20_000]].concat();
    let answers = [
        (true, none, b"".as_slice()),
        (true, none, &[4, 0]),
        (true, none, &[5, 0xff]),
        (true, none, &[5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
        (true, none, &[5, 0, 5, 0, 0, 9, 0, 0, 0, 0, 0, 0]),
        (true, none, &[5, 0, 5, 0, 0, 1, 0]),
        (true, login, &[5, 2, 1, 1]),
        (false, none, b"HTTP/1.1 407 Who are you?\r\n\r\n"),
        (false, none, b"SSH-2.0 200\r\n\r\n"),
        (false, none, b"HTTP/1.1 200"),
        (false, none, &long),
    ];
    for (socks, login, says) in answers {
        assert!(through(&proxy(socks, login), PEER, says).0.is_err(), "{says:?}");
    }
}

#[test]
fn a_frame_says_whom_a_datagram_is_for_and_from_whom_it_came() {
    for address in [PEER, "[::1]:6881"] {
        let address: SocketAddr = address.parse().unwrap();
        let frame = framed(&Destination::Address(address), b"hello").unwrap();
        assert_eq!(unframed(&frame), Some((Some(address), &b"hello"[..])));
    }
    let frame = framed(&Destination::Name("t.test".into(), 80), b"hello").unwrap();
    assert_eq!(frame, b"\0\0\0\x03\x06t.test\0\x50hello");
    assert_eq!(unframed(&frame), Some((None, &b"hello"[..])));
    assert_eq!(framed(&Destination::Name("t".repeat(256), 80), b""), None);
}

#[test]
fn a_frame_that_is_short_or_odd_or_a_part_is_none() {
    let whole = framed(&Destination::Address(PEER.parse().unwrap()), b"").unwrap();
    (0..whole.len()).for_each(|length| assert_eq!(unframed(&whole[..length]), None));
    assert_eq!(unframed(&[0, 0, 1, 1, 10, 1, 2, 3, 0, 1]), None, "a part");
    assert_eq!(unframed(&[0, 0, 0, 9, 10, 1, 2, 3, 0, 1]), None);
    assert_eq!(unframed(&[0, 0, 0, 3, 200, b't', 0, 1]), None);
}

#[test]
fn base_64_is_that_of_the_rfc() {
    let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
    pairs.into_iter().for_each(|(plain, coded)| assert_eq!(base64(plain.as_bytes()), coded));
}
