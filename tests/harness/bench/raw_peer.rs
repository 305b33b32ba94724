//! The other end of a benchmark: a peer that moves blocks and does nothing else, so that what is measured is at the limit and
//! not this. It seeds from memory, many blocks with one call, or downloads and throws away.

mod wire;

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use pilotfish::wire::{HANDSHAKE_LEN, Handshake, Reserved};

use super::Payload;
use wire::{Header, Headers, Requested};

/// Blocks that a leech has asked for and not received.
const QUEUE: usize = 500;
/// What a leech reads at once, in bytes.
const READ: usize = 256 << 10;
/// What requests are read into, in bytes. No message to a seed is longer.
const INBOX: usize = 64 << 10;
/// A peer that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A seed, for as long as this is there.
pub struct RawSeed {
    /// Where it listens.
    pub address: SocketAddr,
    first: Arc<OnceLock<Instant>>,
    over: Arc<AtomicBool>,
}

impl RawSeed {
    /// Seeds `payload` to whoever connects to a port of `ip`.
    pub fn start(payload: &Payload, ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (first, over) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let seed = Seeding {
            hello: hello(payload),
            bytes: payload.bytes().clone(),
            geometry: Geometry::of(payload),
        };
        let (noted, ended) = (first.clone(), over.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (seed, first) = (seed.clone(), noted.clone());
                // Whoever is at the other end may go whenever it likes.
                thread::spawn(move || drop(seed.serve(&stream.unwrap(), &first)));
            }
        });
        Self { address, first, over }
    }

    /// When the first block was sent.
    pub fn first_sent(&self) -> Option<Instant> {
        self.first.get().copied()
    }
}

impl Drop for RawSeed {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
    }
}

/// How the payload is cut.
#[derive(Clone, Copy)]
struct Geometry {
    piece_length: usize,
    num_pieces: usize,
    len: usize,
}

impl Geometry {
    fn of(payload: &Payload) -> Self {
        let geometry = payload.metainfo().layout().geometry();
        Self {
            piece_length: geometry.piece_length() as usize,
            num_pieces: geometry.num_pieces() as usize,
            len: payload.bytes().len(),
        }
    }
}

#[derive(Clone)]
struct Seeding {
    hello: [u8; HANDSHAKE_LEN],
    bytes: Arc<[u8]>,
    geometry: Geometry,
}

impl Seeding {
    fn serve(&self, mut stream: &TcpStream, first: &OnceLock<Instant>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.read_exact(&mut [0; HANDSHAKE_LEN])?;
        let mut greeting = self.hello.to_vec();
        wire::full_bitfield(self.geometry.num_pieces, &mut greeting);
        wire::unchoke(&mut greeting);
        stream.write_all(&greeting)?;
        let (mut inbox, mut len) = (vec![0; INBOX], 0);
        let mut asked = Vec::new();
        loop {
            let read = stream.read(&mut inbox[len..])?;
            if read == 0 {
                return Ok(());
            }
            len += read;
            let used = wire::requests(&inbox[..len], &mut asked);
            inbox.copy_within(used..len, 0);
            len -= used;
            if !asked.is_empty() {
                first.get_or_init(Instant::now);
                self.send(stream, &asked)?;
                asked.clear();
            }
        }
    }

    /// Sends what was asked for. It waits for the other end: what that asks meanwhile waits in its socket.
    fn send(&self, stream: &TcpStream, asked: &[Requested]) -> io::Result<()> {
        let headers: Vec<_> = asked.iter().map(Requested::header).collect();
        let blocks = asked.iter().map(|block| {
            let start = block.piece as usize * self.geometry.piece_length + block.start as usize;
            self.bytes.get(start..start + block.len as usize).ok_or(ErrorKind::InvalidInput)
        });
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        let both = headers.iter().zip(blocks);
        let mut slices: Vec<_> =
            both.flat_map(|(header, block)| [IoSlice::new(header), IoSlice::new(block)]).collect();
        write_all(stream, &mut slices)
    }
}

fn write_all(mut stream: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        let written = stream.write_vectored(slices)?;
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

/// When a leech had its first block, and when its last.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// The first byte of the first block.
    pub first: Instant,
    /// The last byte of the last block.
    pub last: Instant,
}

/// Downloads the payload from `seed` and throws it away. `here` is the address to come from: there is mostly one connection for
/// each.
///
/// # Errors
/// The seed went away, or sent what it was not asked for.
pub fn drain(payload: &Payload, here: IpAddr, seed: SocketAddr) -> io::Result<Drained> {
    let mut stream = greet(payload, here, seed)?;
    stream.write_all(&wire::INTERESTED)?;
    let geometry = Geometry::of(payload);
    let requests = wire::all_requests(geometry.piece_length, geometry.len);
    let (mut headers, mut buffer) = (Headers::default(), vec![0; READ]);
    let (mut asked, mut received, mut choked, mut first) = (0, 0, true, None);
    while received < requests.len() {
        let in_flight = asked - received;
        if !choked && in_flight <= QUEUE * 3 / 4 && asked < requests.len() {
            let until = (asked + QUEUE - in_flight).min(requests.len());
            stream.write_all(requests[asked..until].as_flattened())?;
            asked = until;
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        headers.take(
            &buffer[..read],
            |header| match header {
                Header::Piece { end } if end > geometry.len => Err(ErrorKind::InvalidData.into()),
                Header::Piece { .. } => {
                    first.get_or_insert_with(Instant::now);
                    received += 1;
                    Ok(())
                }
                // What was asked for before will not come.
                Header::Choke => {
                    (choked, asked) = (true, received);
                    Ok(())
                }
                Header::Unchoke => {
                    choked = false;
                    Ok(())
                }
                Header::Other => Ok(()),
            },
            geometry.piece_length,
        )?;
    }
    // The header of the last block was the last that was missing.
    while headers.left() > 0 {
        let read = stream.read(&mut buffer)?;
        headers.take(&buffer[..read], |_| Ok(()), geometry.piece_length)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Drained { first: first.ok_or(ErrorKind::InvalidData)?, last: Instant::now() })
}

/// Waits until `seed` says that it has everything.
///
/// # Panics
/// It does not, for very long.
pub fn wait_for_seed(payload: &Payload, here: IpAddr, seed: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while !greet(payload, here, seed).and_then(|stream| wire::has_all(&stream, payload)).is_ok_and(|all| all)
    {
        assert!(Instant::now() < deadline, "{seed} does not seed");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Connects, and shakes hands.
fn greet(payload: &Payload, here: IpAddr, there: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(there), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(here, 0).into())?;
    socket.connect(&there.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&hello(payload))?;
    stream.read_exact(&mut [0; HANDSHAKE_LEN])?;
    Ok(stream)
}

/// No extension of any kind: blocks are all that is wanted.
fn hello(payload: &Payload) -> [u8; HANDSHAKE_LEN] {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut peer_id = *b"-RW0000-............";
    // Two with one name would be taken for one.
    peer_id[8..12].copy_from_slice(&NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let info_hash = payload.metainfo().info_hashes().truncated();
    Handshake { reserved: Reserved::default(), info_hash, peer_id }.encode()
}
