//! TLS on a connection that we open, for web seeds by HTTPS: it stands between the engine's bytes and the socket's.
//!
//! The bytes are copied here, once in each direction; nothing else of a connection knows.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::peer_io::Moved;
use crate::engine::Tls as Wanted;

/// How servers are trusted: made when it is first needed, since that reads the certificates of this system.
#[derive(Debug, Default)]
pub(super) struct Trust {
    validating: OnceCell<Arc<ClientConfig>>,
    trusting: OnceCell<Arc<ClientConfig>>,
}

impl Trust {
    async fn config(&self, validate: bool) -> io::Result<Arc<ClientConfig>> {
        let cell = if validate { &self.validating } else { &self.trusting };
        let make = async || {
            let made = tokio::task::spawn_blocking(move || config(validate)).await;
            made.map_err(io::Error::other)?.map(Arc::new).map_err(io::Error::other)
        };
        cell.get_or_try_init(make).await.cloned()
    }
}

fn config(validate: bool) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match validate {
        true => builder.with_platform_verifier()?,
        false => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    Ok(builder.with_no_client_auth())
}

/// The encrypted side of one connection.
#[derive(Debug)]
pub(super) struct Tls(RefCell<ClientConnection>);

impl Tls {
    /// Both sides agree on a key, and the server shows who it is.
    pub(super) async fn negotiate(stream: &TcpStream, trust: &Trust, wanted: &Wanted) -> io::Result<Self> {
        let config = trust.config(wanted.validate).await?;
        let name = match wanted.host.parse::<IpAddr>() {
            Ok(ip) => ServerName::from(ip),
            Err(_) => ServerName::try_from(wanted.host.clone()).map_err(io::Error::other)?,
        };
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let tls = Self(RefCell::new(session));
        loop {
            let (handshaking, has_to_say) = tls.phase();
            if has_to_say {
                stream.writable().await?;
                tls.flush(stream)?;
            } else if handshaking {
                stream.readable().await?;
                if tls.fill(stream)? == Some(0) {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            } else {
                return Ok(tls);
            }
        }
    }

    /// Whether it is still negotiating, and whether it has something to send.
    fn phase(&self) -> (bool, bool) {
        let session = self.0.borrow();
        (session.is_handshaking(), session.wants_write())
    }

    /// Whether it has something to send, besides what it is given.
    pub(super) fn has_backlog(&self) -> bool {
        self.0.borrow().wants_write()
    }

    /// Reads once. `Moved::Some(0)` is the end of the stream.
    pub(super) fn read(&self, stream: &TcpStream, buffers: &mut [IoSliceMut<'_>]) -> io::Result<Moved> {
        loop {
            match self.take(buffers) {
                Ok(0) => return Ok(Moved::Some(0)),
                Ok(read) => return Ok(Moved::Some(read)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Not every server says that it is about to close; how much was to come, HTTP says.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Moved::Some(0)),
                Err(error) => return Err(error),
            }
            if self.fill(stream)?.is_none() {
                return Ok(Moved::Last(0));
            }
        }
    }

    /// Fills `buffers`, in order, with what is decrypted.
    fn take(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut session = self.0.borrow_mut();
        let mut taken = 0;
        for buffer in buffers.iter_mut().filter(|buffer| !buffer.is_empty()) {
            match session.reader().read(buffer) {
                Ok(n) if n == buffer.len() => taken += n,
                Ok(n) => return Ok(taken + n),
                Err(_) if taken > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Writes once.
    pub(super) fn write(&self, stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        self.flush(stream)?;
        if self.has_backlog() {
            return Ok(Moved::Last(0));
        }
        let taken = self.0.borrow_mut().writer().write_vectored(slices)?;
        self.flush(stream)?;
        // What the socket did not take is a backlog, too.
        Ok(if self.has_backlog() || taken == 0 { Moved::Last(taken) } else { Moved::Some(taken) })
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&self, stream: &TcpStream) -> io::Result<()> {
        let mut session = self.0.borrow_mut();
        while session.wants_write() {
            let sent = stream.try_io(Interest::WRITABLE, || session.write_tls(&mut &*SockRef::from(stream)));
            match sent {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what has come from the socket, and decrypts it. `None`: nothing has; `Some(0)`: nothing more will.
    fn fill(&self, stream: &TcpStream) -> io::Result<Option<usize>> {
        let mut session = self.0.borrow_mut();
        let read = stream.try_io(Interest::READABLE, || session.read_tls(&mut &*SockRef::from(stream)));
        let read = match read {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        session.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(Some(read))
    }
}

/// Trusts whoever answers: the setting `validate_https_trackers` is off. Signatures have to be right all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
