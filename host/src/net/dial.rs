//! How a connection is opened: by TCP, by uTP, or by whichever stands first; and encrypted, if it has to be.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::peer_io::Socket;
use super::proxy;
use super::tls::{Tls, Trust};
use super::utp::Utp;
use crate::engine::{Dial, Proxy, Tls as TlsWanted};

/// How long a peer that nobody knows to speak uTP may take to answer by it once TCP has failed. Until then the engine counts
/// the peer as being called, and calls others the later.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long TCP waits where uTP has a start.
const START: Duration = Duration::from_secs(1);

/// A connection that is to be opened.
pub(super) struct Call {
    pub(super) address: SocketAddr,
    pub(super) dial: Dial,
    /// Through whom it goes by TCP, if not directly.
    pub(super) through: Option<Proxy>,
    pub(super) tls: Option<TlsWanted>,
    pub(super) trust: Rc<Trust>,
    /// By what it goes by uTP. `None`: no UDP socket can reach the address.
    pub(super) utp: Option<Utp>,
}

impl Call {
    /// Opens the connection.
    pub(super) async fn open(self) -> io::Result<Socket> {
        match (self.dial, &self.utp) {
            (Dial::Tcp, _) | (Dial::Race { .. }, None) => self.by_tcp().await,
            (Dial::Utp, Some(utp)) => self.by_utp(utp).await,
            (Dial::Utp, None) => Err(io::ErrorKind::AddrNotAvailable.into()),
            (Dial::Race { speaks_utp, utp_first }, Some(utp)) => {
                let patience = if speaks_utp { None } else { Some(PATIENCE) };
                let tcp = async {
                    if utp_first {
                        sleep(START).await;
                    }
                    self.by_tcp().await
                };
                race(tcp, self.by_utp(utp), patience).await
            }
        }
    }

    async fn by_tcp(&self) -> io::Result<Socket> {
        let stream = proxy::connect(self.through.clone(), self.address).await?;
        let tls = match &self.tls {
            Some(wanted) => Some(Tls::negotiate(&stream, &self.trust, wanted).await?.into()),
            None => None,
        };
        Ok(Socket::encrypted(stream, tls))
    }

    async fn by_utp(&self, utp: &Utp) -> io::Result<Socket> {
        utp.connect(self.address).await.map(Socket::utp)
    }
}

/// The first that is made; the other is dropped. If TCP fails, uTP has only so much longer; if both fail, it is TCP's fault:
/// what the system says of it is more than silence.
async fn race<T>(
    tcp: impl Future<Output = io::Result<T>>,
    utp: impl Future<Output = io::Result<T>>,
    patience: Option<Duration>,
) -> io::Result<T> {
    let (mut tcp, mut utp) = (pin!(tcp), pin!(utp));
    let refused = tokio::select! {
        // A tie is TCP's, which is the cheaper one.
        biased;
        made = &mut tcp => match made {
            Ok(made) => return Ok(made),
            Err(refused) => refused,
        },
        made = &mut utp => match made {
            Ok(made) => return Ok(made),
            Err(_) => return tcp.await,
        },
    };
    let made = match patience {
        Some(patience) => timeout(patience, utp).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
        None => utp.await,
    };
    made.map_err(|_| refused)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::yield_now;

    use super::*;

    type Made = io::Result<&'static str>;

    fn refuse() -> Made {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn outcome(race: impl Future<Output = Made>) -> Result<&'static str, io::ErrorKind> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(race).map_err(|error| error.kind())
    }

    /// Something that takes so many turns.
    async fn after(turns: u32, what: Made) -> Made {
        for _ in 0..turns {
            yield_now().await;
        }
        what
    }

    #[test]
    fn the_first_that_stands_wins() {
        assert_eq!(outcome(race(ready(Ok("tcp")), ready(Ok("utp")), None)), Ok("tcp"));
        assert_eq!(outcome(race(after(2, Ok("tcp")), after(1, Ok("utp")), None)), Ok("utp"));
        assert_eq!(outcome(race(pending(), after(9, Ok("utp")), None)), Ok("utp"));
        assert_eq!(outcome(race(after(9, Ok("tcp")), pending(), None)), Ok("tcp"));
    }

    #[test]
    fn one_that_fails_leaves_it_to_the_other() {
        assert_eq!(outcome(race(after(9, Ok("tcp")), ready(refuse()), None)), Ok("tcp"));
        assert_eq!(outcome(race(ready(refuse()), after(9, Ok("utp")), Some(PATIENCE))), Ok("utp"));
    }

    #[test]
    fn once_tcp_failed_utp_has_only_so_much_longer() {
        let refused = Err(io::ErrorKind::ConnectionRefused);
        assert_eq!(outcome(race(ready(refuse()), pending(), Some(Duration::ZERO))), refused);
        assert_eq!(outcome(race(after(3, refuse()), pending(), Some(Duration::ZERO))), refused);
    }

    #[test]
    fn when_both_fail_it_is_told_what_tcp_met() {
        let (refused, broken) =
            (Err(io::ErrorKind::ConnectionRefused), || Err(io::ErrorKind::TimedOut.into()));
        assert_eq!(outcome(race(ready(refuse()), ready(broken()), None)), refused);
        assert_eq!(outcome(race(after(1, refuse()), ready(broken()), None)), refused);
    }
}
