use proptest::prelude::*;

use super::*;

fn head(text: &str) -> Head {
    let (head, length) = Head::parse(text.as_bytes()).unwrap().unwrap();
    assert_eq!(length, text.len());
    head
}

#[test]
fn a_request_for_a_range_names_both_ends() {
    let mut out = Vec::new();
    let request = Request {
        host: "a.example:81",
        target: "/x%20y",
        user_agent: Some("Pilot\r\nfish"),
        authorization: None,
        range: Some(5..=9),
    };
    request.encode(&mut out);
    let text = "GET /x%20y HTTP/1.1\r\nHost: a.example:81\r\nUser-Agent: Pilotfish\r\nRange: bytes=5-9\r\n\
                Accept-Encoding: identity\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), text);
}

#[test]
fn a_head_says_what_follows_it() {
    let partial = head(
        "HTTP/1.1 206 Partial Content\r\nserver: x\r\nContent-Range: bytes 10-19/30\r\nContent-Length: 10\r\n\r\n",
    );
    assert_eq!((partial.status, partial.close, partial.body), (206, false, Body::Length(10)));
    assert_eq!(partial.range, Some(ContentRange { first: 10, last: 19, total: Some(30) }));
    assert_eq!((partial.reason.as_str(), partial.server.as_deref()), ("Partial Content", Some("x")));
    let old = head("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n");
    assert!(old.close);
    assert!(!head("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\n").close);
    assert!(head("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n").close);
    assert_eq!(head("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n").body, Body::chunked());
    let endless = head("HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!((endless.body, endless.close), (Body::UntilClose, true));
    assert_eq!(head("HTTP/1.1 204 No Content\r\n\r\n").body, Body::Length(0));
    let busy = head("HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((busy.retry_after, busy.is_redirect()), (Some(120), false));
    let moved = head("HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((moved.location.as_deref(), moved.is_redirect()), (Some("/there"), true));
    assert!(head("HTTP/1.1 100 Continue\r\n\r\n").is_interim());
}

#[test]
fn heads_that_contradict_themselves_are_refused() {
    let refused =
        |fields: &str| Head::parse(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes()).unwrap_err();
    assert_eq!(refused("Content-Length: 1\r\nContent-Length: 2\r\n"), HttpError::Length);
    assert_eq!(refused("Content-Length: +1\r\n"), HttpError::Length);
    assert_eq!(refused("Content-Length: 99999999999999999999999\r\n"), HttpError::Length);
    assert_eq!(refused("Content-Encoding: gzip\r\n"), HttpError::Encoding);
    assert_eq!(refused("Transfer-Encoding: gzip, chunked\r\n"), HttpError::Encoding);
    assert_eq!(Head::parse(b"SSH-2.0\r\n\r\n").unwrap_err(), HttpError::NotHttp);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
    assert_eq!(Head::parse(long.as_bytes()).unwrap_err(), HttpError::HeadTooLong);
    for range in ["bytes 5-4/9", "bytes 0-9/9", "lines 0-1/2", "bytes 0-1", "bytes */9"] {
        assert_eq!(head(&format!("HTTP/1.1 206 x\r\nContent-Range: {range}\r\n\r\n")).range, None);
    }
}

/// The data of a body that comes in these pieces, and what was left over.
fn read(mut body: Body, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), HttpError> {
    let (mut inbox, mut data) = (Vec::new(), Vec::new());
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            match body.next(&inbox)? {
                Portion::Data(n) => data.extend(inbox.drain(..n)),
                Portion::Framing(n) => drop(inbox.drain(..n)),
                Portion::Incomplete | Portion::Over => break,
            }
        }
    }
    Ok((data, inbox))
}

#[test]
fn chunks_that_are_none_are_refused() {
    for text in ["x\r\n", "\r\n", "1\r\nab\r\n", "ffffffffffffffff\r\n", "-1\r\n"] {
        assert_eq!(read(Body::chunked(), &[text.as_bytes()]), Err(HttpError::Chunk), "{text:?}");
    }
    let endless = "a".repeat(2000);
    assert_eq!(read(Body::chunked(), &[endless.as_bytes()]), Err(HttpError::Chunk));
    let trailers = format!("0\r\n{}", "X: y\r\n".repeat(2000));
    assert_eq!(read(Body::chunked(), &[trailers.as_bytes()]), Err(HttpError::Chunk));
}

proptest! {
    #[test]
    fn a_body_is_the_same_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        extension in "[a-z=]{0,8}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        chunked: bool,
    ) {
        let data = chunks.concat();
        let mut stream = Vec::new();
        let body = if chunked {
            for chunk in &chunks {
                stream.extend(format!("{:x};{extension}\r\n", chunk.len()).into_bytes());
                stream.extend(chunk);
                stream.extend(b"\r\n");
            }
            stream.extend(b"0\r\nTrailer: x\r\n\r\n");
            Body::chunked()
        } else {
            stream.extend(&data);
            Body::Length(data.len() as u64)
        };
        stream.extend(b"HTTP/1.1 ");
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(body, &pieces), Ok((data, b"HTTP/1.1 ".to_vec())));
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, text in "HTTP/1\\.[01] [0-9]{0,4}.{0,40}") {
        let _ = Head::parse(&bytes);
        let _ = Head::parse(text.as_bytes());
        let _ = read(Body::chunked(), &[&bytes]);
    }
}
