//! Connections that a proxy makes for us: SOCKS 5 (RFC 1928, RFC 1929), and HTTP's `CONNECT`.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::engine::Proxy;

/// What SOCKS 5 begins its messages with.
const SOCKS: u8 = 5;
/// The ways to log in that we offer.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
/// What is asked of it.
const CONNECT: u8 = 1;
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

async fn ask_socks<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &Proxy,
    to: SocketAddr,
) -> io::Result<()> {
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
    let mut request = vec![SOCKS, CONNECT, 0];
    match to {
        SocketAddr::V4(to) => request.extend([&[V4][..], &to.ip().octets()].concat()),
        SocketAddr::V6(to) => request.extend([&[V6][..], &to.ip().octets()].concat()),
    }
    request.extend(to.port().to_be_bytes());
    stream.write_all(&request).await?;
    let [version, status, _, kind] = read(stream).await?;
    if version != SOCKS || status != 0 {
        return Err(refused("the proxy cannot connect to the peer"));
    }
    // Where it connects from. Nobody needs to know, but the connection begins behind it.
    match kind {
        V4 => drop(read::<6>(stream).await?),
        V6 => drop(read::<18>(stream).await?),
        NAME => {
            let [length] = read(stream).await?;
            let mut name = vec![0; usize::from(length) + 2];
            stream.read_exact(&mut name).await?;
        }
        _ => return Err(refused("the proxy's answer makes no sense")),
    }
    Ok(())
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
