use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tokio::runtime::Builder;

use super::*;

/// A web server that answers each connection by what `answer` makes of the request.
fn server(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                request.push(byte[0]);
            }
            answer(&String::from_utf8_lossy(&request), &mut stream);
        }
    });
    address
}

fn request(url: String) -> FetchRequest {
    let (receive_timeout, most) = (Duration::from_secs(20), 1_000);
    FetchRequest {
        url,
        user_agent: None,
        receive_timeout,
        most,
        validate: true,
        is_v4: None,
        ip_filter: None,
        proxy: None,
    }
}

fn fetched(request: FetchRequest) -> Result<Fetched, FetchError> {
    let client = Fetches::default().client(&request);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fetch(&client, request))
}

fn ok(stream: &mut TcpStream, headers: &str, body: &[u8]) {
    let head =
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // Whoever asked may have gone, and that is what the test is about.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

#[test]
fn a_document_comes_with_its_status_and_is_asked_for_as_told() {
    let address = server(|request, stream| {
        let agent = request.lines().find_map(|line| line.strip_prefix("user-agent: ")).unwrap_or("none");
        ok(stream, "", format!("{agent}, {}", request.lines().next().unwrap()).as_bytes());
    });
    let named = |user_agent| FetchRequest { user_agent, ..request(format!("http://{address}/a?b=%00%FF")) };
    let said = |named| fetched(named).map(|fetched| (fetched.status, fetched.body));
    assert_eq!(said(named(None)), Ok((200, "none, GET /a?b=%00%FF HTTP/1.1".into())));
    assert_eq!(said(named(Some("me/1".into()))), Ok((200, "me/1, GET /a?b=%00%FF HTTP/1.1".into())));
}

#[test]
fn what_is_packed_counts_as_what_it_unpacks_to() {
    // A million zeros.
    let bomb: &[u8] = include_bytes!("zeros.gz");
    assert!(bomb.len() < 2_000);
    let address = server(move |_, stream| ok(stream, "Content-Encoding: gzip\r\n", bomb));
    let most = |most| fetched(FetchRequest { most, ..request(format!("http://{address}/")) });
    assert_eq!(most(100_000), Err(FetchError::TooLong));
    assert_eq!(most(1_000_000).unwrap().body.len(), 1_000_000);
}

#[test]
fn a_document_without_end_is_given_up() {
    let address = server(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4_096]).is_ok() {}
    });
    assert_eq!(fetched(request(format!("http://{address}/"))), Err(FetchError::TooLong));
}

#[test]
fn a_server_that_says_nothing_is_given_up_also_in_the_middle() {
    for begins in [false, true] {
        let address = server(move |_, stream| {
            if begins {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            }
            // Until the other end has gone.
            let _ = stream.read(&mut [0]);
        });
        let receive_timeout = Duration::from_millis(200);
        let patient = FetchRequest { receive_timeout, ..request(format!("http://{address}/")) };
        assert_eq!(fetched(patient), Err(FetchError::Silent), "begins: {begins}");
    }
}

#[test]
fn nobody_is_sent_around_for_ever() {
    let address = server(|request, stream| {
        let steps: u32 = request[5..6].parse().unwrap();
        let next = steps.saturating_sub(1);
        match steps {
            1 => ok(stream, "", b"here"),
            _ => {
                let head = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n";
                let _ = stream.write_all(format!("{head}Location: /{next}\r\n\r\n").as_bytes());
            }
        }
    });
    let from = |steps: u32| fetched(request(format!("http://{address}/{steps}")));
    assert_eq!(from(6).unwrap().body, "here");
    assert!(matches!(from(9), Err(FetchError::Failed(_))));
}

#[test]
fn what_goes_wrong_is_said_without_the_url() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in
        [format!("http://{nobody}/secret"), format!("https://{nobody}/secret"), "http://[/secret".into()]
    {
        let Err(FetchError::Failed(text)) = fetched(request(url)) else { panic!("it is there") };
        assert!(!text.contains("secret") && !text.is_empty(), "{text}");
    }
}

#[test]
fn a_proxy_is_asked_for_everything_with_its_password() {
    let address = server(|request, stream| ok(stream, "", request.as_bytes()));
    let login = Some(("me".to_owned(), "a:b@c".to_owned()));
    let proxy = Proxy { socks: false, host: "127.0.0.1".into(), port: address.port(), login, looks_up: true };
    let proxied =
        FetchRequest { proxy: Some(proxy), ..request("http://nowhere.invalid/announce?x=1".into()) };
    let said = fetched(proxied).unwrap().body;
    let said = String::from_utf8_lossy(&said).to_lowercase();
    assert!(said.starts_with("get http://nowhere.invalid/announce?x=1 "), "{said}");
    assert!(said.contains("proxy-authorization: basic bwu6ytpiqgm="), "{said}");
}

#[test]
fn a_server_is_reached_by_the_address_family_that_was_asked_for() {
    let address = server(|_, stream| ok(stream, "", b"here"));
    let by = |is_v4| {
        let url = format!("http://localhost:{}/", address.port());
        fetched(FetchRequest { is_v4, ..request(url) }).is_ok()
    };
    assert!(by(Some(true)) && by(None));
    // It does not listen on ::1.
    assert!(!by(Some(false)));
}

#[test]
fn a_server_that_the_filter_keeps_out_is_not_reached_by_name_nor_address_nor_redirection() {
    use crate::ip_filter::{Access, Rule};

    let address = server(|request, stream| match request.starts_with("GET /elsewhere ") {
        true => {
            let port = stream.local_addr().unwrap().port();
            let place = format!("http://127.0.0.2:{port}/");
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        }
        false => ok(stream, "", b"here"),
    });
    let filter = |first: &str, last: &str| {
        let rule = Rule::new(first.parse().unwrap(), last.parse().unwrap(), Access::BLOCKED).unwrap();
        Some(Arc::new(IpFilter::new([rule])))
    };
    let port = address.port();
    let get = |host: &str, path: &str, ip_filter| {
        let url = format!("http://{host}:{port}/{path}");
        fetched(FetchRequest { ip_filter, is_v4: Some(true), ..request(url) }).map(|fetched| fetched.status)
    };
    let blocked = Err(FetchError::Failed(Blocked.to_string()));
    let (ours, another) = (filter("127.0.0.1", "127.0.0.1"), filter("127.0.0.2", "127.0.0.9"));
    assert_eq!(get("127.0.0.1", "", ours.clone()), blocked);
    assert_eq!(get("localhost", "", ours.clone()), blocked);
    assert_eq!(get("127.0.0.1", "", another.clone()), Ok(200));
    assert_eq!(get("localhost", "", another.clone()), Ok(200));
    assert_eq!(get("localhost", "elsewhere", another), blocked);
}
