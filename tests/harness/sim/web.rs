//! Servers of files on the virtual network. Each does what its script says: the engine's HTTP is its own, the server's is
//! this.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::network::Step;
use super::{Content, Event, Sim};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebRequest {
    /// Path and query, as they were sent.
    pub target: String,
    /// The field Host.
    pub host: String,
    /// The bytes asked for, both ends included.
    pub range: Option<(u64, u64)>,
    /// All of it.
    pub text: String,
    /// When it came.
    pub at: Duration,
}

/// What a server does about a request.
#[derive(Clone, Debug, Default)]
pub struct WebReply {
    /// What it sends.
    pub bytes: Vec<u8>,
    /// How long that takes it.
    pub after: Duration,
    /// Whether it closes the connection then.
    pub close: bool,
}

impl WebReply {
    /// A response with this status line, these fields and this body, whose length is said.
    pub fn new(status: &str, fields: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        Self { bytes: [head.as_bytes(), body].concat(), ..Self::default() }
    }

    /// A refusal.
    pub fn refusal(status: &str) -> Self {
        Self::new(status, "", b"no")
    }

    /// The file is elsewhere.
    pub fn moved(to: &str) -> Self {
        Self::new("302 Found", &format!("Location: {to}\r\n"), b"")
    }

    /// The same, so much later.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// The same, without the last bytes, and then the connection ends.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.bytes.truncate(self.bytes.len().saturating_sub(bytes));
        Self { close: true, ..self }
    }
}

/// A server's files.
#[derive(Clone)]
pub struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    /// Those of a torrent, below `folder`, which begins and ends with a slash.
    pub fn of(content: &Content, folder: &str) -> Self {
        let bytes = content.bytes();
        let file = |file: &pilotfish::metainfo::FileEntry| {
            let (start, end) = (file.offset as usize, (file.offset + file.length) as usize);
            (format!("{folder}{}", file.path.display()), bytes[start..end].to_vec())
        };
        Self(content.layout().files().iter().map(file).collect())
    }

    /// The same files under other paths.
    pub fn renamed(self, rename: impl Fn(&str) -> String) -> Self {
        Self(self.0.into_iter().map(|(path, bytes)| (rename(&path), bytes)).collect())
    }

    /// A byte of a file becomes another.
    pub fn spoil(mut self, file: usize, at: usize) -> Self {
        self.0[file].1[at] ^= 0xff;
        self
    }

    /// A byte of some file, by a number from anywhere, becomes another.
    pub fn spoil_somewhere(self, number: u64) -> Self {
        let (file, at) = (number as usize % self.0.len(), (number >> 32) as usize);
        let length = self.0[file].1.len();
        if length == 0 { self } else { self.spoil(file, at % length) }
    }

    /// A file gets so many bytes more.
    pub fn lengthen(mut self, file: usize, more: usize) -> Self {
        let length = self.0[file].1.len();
        self.0[file].1.resize(length + more, 0);
        self
    }

    fn find(&self, request: &WebRequest) -> Option<&[u8]> {
        self.0.iter().find(|(path, _)| *path == request.target).map(|(_, bytes)| bytes.as_slice())
    }

    /// The answer of a server that keeps connections and knows ranges.
    pub fn answer(&self, request: &WebRequest) -> WebReply {
        let Some(bytes) = self.find(request) else { return WebReply::refusal("404 Not Found") };
        let Some((first, last)) = request.range else { return WebReply::new("200 OK", "", bytes) };
        let range = format!("Content-Range: bytes {first}-{last}/{}\r\n", bytes.len());
        WebReply::new("206 Partial Content", &range, &bytes[first as usize..=last as usize])
    }

    /// The answer of a server that does neither, as Python's.
    pub fn answer_whole(&self, request: &WebRequest) -> WebReply {
        let Some(bytes) = self.find(request) else { return WebReply::refusal("404 Not Found").cut(0) };
        let head = format!("HTTP/1.0 200 OK\r\nServer: plain\r\nContent-Length: {}\r\n\r\n", bytes.len());
        WebReply { bytes: [head.as_bytes(), bytes].concat(), after: Duration::ZERO, close: true }
    }
}

pub(super) type Script = Box<dyn FnMut(&WebRequest) -> WebReply>;

/// One server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    script: Script,
    requests: Vec<WebRequest>,
    /// Bytes that it has sent.
    sent: u64,
}

/// A server's end of a connection.
#[derive(Default)]
pub(super) struct Serving {
    server: usize,
    inbox: Vec<u8>,
    replies: VecDeque<WebReply>,
    /// When the last of them is sent.
    busy_until: Duration,
    closed: bool,
}

impl Serving {
    /// By the server of this number.
    pub(super) fn by(server: usize) -> Self {
        Self { server, ..Self::default() }
    }
}

impl Sim {
    /// A server that answers each request as `script` says. Its number is the last of its address: `http://10.1.0.7/`.
    pub fn serve(&mut self, number: u8, script: impl FnMut(&WebRequest) -> WebReply + 'static) -> SocketAddr {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, number)), 80);
        self.servers.push(Server { address, script: Box::new(script), requests: Vec::new(), sent: 0 });
        address
    }

    /// What a server was asked.
    pub fn requests_to(&self, address: SocketAddr) -> &[WebRequest] {
        let server = self.servers.iter().find(|server| server.address == address);
        server.map(|server| server.requests.as_slice()).unwrap_or_default()
    }

    /// How many bytes a server has sent.
    pub fn sent_by_server(&self, address: SocketAddr) -> u64 {
        self.servers.iter().filter(|server| server.address == address).map(|server| server.sent).sum()
    }

    /// A server's end of a connection has something to read.
    pub(super) fn read_requests(&mut self, id: usize) {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let stream = &mut self.connections[id].streams[0];
            let n = stream.read(&mut [std::io::IoSliceMut::new(&mut bytes)], usize::MAX);
            if n == 0 {
                break;
            }
            let Some(serving) = &mut self.connections[id].serving else { return };
            serving.inbox.extend_from_slice(&bytes[..n]);
            let latency = self.connections[id].link.latency;
            self.plan(latency, id, Step::Acknowledge(0, n));
        }
        if self.connections[id].streams[0].is_over() {
            self.connections[id].serving.iter_mut().for_each(|serving| serving.closed = true);
        }
        let now = self.now;
        let Some(serving) = &mut self.connections[id].serving else { return };
        while let Some(end) = serving.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
            let text: Vec<u8> = serving.inbox.drain(..end + 4).collect();
            let request = parse(String::from_utf8(text).unwrap(), now);
            let server = &mut self.servers[serving.server];
            let reply = (server.script)(&request);
            server.requests.push(request);
            serving.busy_until = serving.busy_until.max(now) + reply.after;
            serving.replies.push_back(reply);
            self.queue.plan(serving.busy_until, Event::Net(id, Step::Reply));
        }
    }

    /// The next answer is sent.
    pub(super) fn reply(&mut self, id: usize) {
        let now = self.now;
        let connection = &mut self.connections[id];
        let Some(serving) = &mut connection.serving else { return };
        let Some(reply) = serving.replies.pop_front().filter(|_| !serving.closed) else { return };
        self.servers[serving.server].sent += reply.bytes.len() as u64;
        let (link, stream) = (connection.link.clone(), &mut connection.streams[1]);
        let mut arrivals = stream.send(&link, now, &reply.bytes, &mut self.rng);
        if reply.close {
            serving.closed = true;
            arrivals.push(stream.end(&link, now, &mut self.rng));
        }
        arrivals.into_iter().for_each(|at| self.queue.plan(at, Event::Net(id, Step::Arrive(0))));
    }
}

fn parse(text: String, at: Duration) -> WebRequest {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    };
    let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = field("Range").map(|value| {
        let (first, last) = value.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (first.parse().unwrap(), last.parse().unwrap())
    });
    WebRequest { target, host: field("Host").unwrap_or_default(), range, text: text.clone(), at }
}
