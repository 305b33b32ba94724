//! Connections that a proxy makes for us: SOCKS 5 (RFC 1928, RFC 1929), and HTTP's `CONNECT`; and where SOCKS 5 takes datagrams.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::engine::{Destination, Proxy};

/// What SOCKS 5 begins its messages with.
const SOCKS: u8 = 5;
/// The ways to log in that we offer.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
/// What is asked of it.
const CONNECT: u8 = 1;
const UDP_ASSOCIATE: u8 = 3;
/// Kinds of addresses.
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;
/// The longest answer of an HTTP proxy before the connection begins, in bytes.
const LONGEST_ANSWER: usize = 8 << 10;

/// Connects to a peer, through a proxy if there is one.
pub(super) async fn connect(proxy: Option<Proxy>, to: SocketAddr) -> io::Result<TcpStream> {
    let Some(proxy) = proxy else { return TcpStream::connect(to).await };
    let mut stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await?;
    match proxy.socks {
        true => ask_socks(&mut stream, &proxy, to).await?,
        false => ask_http(&mut stream, &proxy, to).await?,
    }
    Ok(stream)
}

/// A proxy that takes datagrams: the connection that it does so for as long as, and where it takes them.
pub(super) async fn associate(proxy: &Proxy) -> io::Result<(TcpStream, SocketAddr)> {
    let mut stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await?;
    log_in(&mut stream, proxy).await?;
    // Where our datagrams will come from, nobody knows yet.
    let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let mut relay = match request(&mut stream, UDP_ASSOCIATE, unknown).await? {
        Destination::Address(address) => address,
        Destination::Name(host, port) => {
            let mut found = tokio::net::lookup_host((host, port)).await?;
            found.next().ok_or_else(|| refused("the proxy's answer makes no sense"))?
        }
    };
    if relay.ip().is_unspecified() {
        relay.set_ip(stream.peer_addr()?.ip());
    }
    Ok((stream, relay))
}

/// A datagram as a proxy passes it on (RFC 1928, 7). `None`: the name is too long.
pub(super) fn framed(to: &Destination, payload: &[u8]) -> Option<Vec<u8>> {
    let mut frame = vec![0, 0, 0];
    match to {
        Destination::Address(to) => put_address(&mut frame, *to),
        Destination::Name(host, port) => {
            frame.extend([NAME, u8::try_from(host.len()).ok()?]);
            frame.extend(host.as_bytes());
            frame.extend(port.to_be_bytes());
        }
    }
    frame.extend(payload);
    Some(frame)
}

/// From whom a datagram came that a proxy passed on, if that is an address; and what it holds.
pub(super) fn unframed(frame: &[u8]) -> Option<(Option<SocketAddr>, &[u8])> {
    // Parts of datagrams are not put together.
    let ([_, _, 0, kind], rest) = frame.split_first_chunk::<4>()? else { return None };
    let (ip, rest) = match *kind {
        V4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest))?,
        V6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest))?,
        NAME => {
            let (length, rest) = rest.split_first()?;
            (None, rest.get(usize::from(*length)..)?)
        }
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk::<2>()?;
    Some((ip.map(|ip| SocketAddr::new(ip, u16::from_be_bytes(*port))), payload))
}

async fn ask_socks<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &Proxy,
    to: SocketAddr,
) -> io::Result<()> {
    log_in(stream, proxy).await?;
    // Where it connects from, nobody needs to know.
    request(stream, CONNECT, to).await.map(drop)
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, proxy: &Proxy) -> io::Result<()> {
    match &proxy.login {
        None => stream.write_all(&[SOCKS, 1, NO_LOGIN]).await?,
        Some(_) => stream.write_all(&[SOCKS, 2, NO_LOGIN, PASSWORD]).await?,
    }
    match (read(stream).await?, &proxy.login) {
        ([SOCKS, NO_LOGIN], _) => {}
        ([SOCKS, PASSWORD], Some((user, password))) => {
            let mut login = vec![1];
            for text in [user, password] {
                // The settings end at 255 bytes.
                login.push(u8::try_from(text.len()).map_err(|_| refused("the login is too long"))?);
                login.extend(text.as_bytes());
            }
            stream.write_all(&login).await?;
            let [_, status] = read(stream).await?;
            if status != 0 {
                return Err(refused("the proxy does not take the password"));
            }
        }
        _ => return Err(refused("the proxy wants another kind of login")),
    }
    Ok(())
}

/// Asks for something; the address on the proxy's side that it is done with.
async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    command: u8,
    to: SocketAddr,
) -> io::Result<Destination> {
    let mut request = vec![SOCKS, command, 0];
    put_address(&mut request, to);
    stream.write_all(&request).await?;
    let [version, status, _, kind] = read(stream).await?;
    if version != SOCKS || status != 0 {
        return Err(refused("the proxy cannot do that"));
    }
    let nonsense = || refused("the proxy's answer makes no sense");
    let ip: IpAddr = match kind {
        V4 => Ipv4Addr::from(read::<4>(stream).await?).into(),
        V6 => Ipv6Addr::from(read::<16>(stream).await?).into(),
        NAME => {
            let [length] = read(stream).await?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await?;
            let port = u16::from_be_bytes(read(stream).await?);
            return Ok(Destination::Name(String::from_utf8(name).map_err(|_| nonsense())?, port));
        }
        _ => return Err(nonsense()),
    };
    Ok(Destination::Address(SocketAddr::new(ip, u16::from_be_bytes(read(stream).await?))))
}

fn put_address(bytes: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => bytes.extend([&[V4][..], &address.ip().octets()].concat()),
        SocketAddr::V6(address) => bytes.extend([&[V6][..], &address.ip().octets()].concat()),
    }
    bytes.extend(address.port().to_be_bytes());
}

async fn ask_http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &Proxy,
    to: SocketAddr,
) -> io::Result<()> {
    let login = proxy.login.as_ref().map(|(user, password)| base64(format!("{user}:{password}").as_bytes()));
    let login = login.map_or_else(String::new, |login| format!("Proxy-Authorization: Basic {login}\r\n"));
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows is the peer's.
    while !answer.ends_with(b"\r\n\r\n") {
        let [byte] = read(stream).await?;
        answer.push(byte);
        if answer.len() > LONGEST_ANSWER {
            return Err(refused("the proxy's answer is too long"));
        }
    }
    let status = answer.split(|byte| *byte == b' ').nth(1);
    match answer.starts_with(b"HTTP/1.") && status.is_some_and(|status| status.starts_with(b"2")) {
        true => Ok(()),
        false => Err(refused("the proxy cannot connect to the peer")),
    }
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, why)
}

/// Base 64 (RFC 4648), as HTTP writes passwords.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
