//! Documents that are fetched by HTTP and HTTPS, whole: what trackers answer.

use std::collections::HashMap;
use std::error::Error;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, Url};
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::engine::{FetchError, FetchRequest, FetchToken, Fetched, Proxy};
use crate::ip_filter::IpFilter;

/// How often a server may send us elsewhere (as with libtorrent).
const REDIRECTIONS: usize = 5;
/// How long a connection is kept for another document from the same server.
const IDLE: Duration = Duration::from_secs(10);

/// What is being fetched, and what it is fetched with.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    running: HashMap<FetchToken, AbortHandle>,
    clients: HashMap<Way, Rc<LateClient>>,
}

/// How documents are fetched: all that go the same way share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    proxy: Option<Proxy>,
    validate: bool,
    is_v4: Option<bool>,
    filter: Option<Filter>,
}

/// Which addresses are not asked. Two are the same only if they are one.
#[derive(Clone, Debug)]
struct Filter(Arc<IpFilter>);

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// The server's addresses are all kept out.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the tracker is blocked by the IP filter")]
struct Blocked;

impl Filter {
    /// Whether a URL names an address that is kept out.
    fn blocks(&self, url: &Url) -> bool {
        match url.host() {
            Some(url::Host::Ipv4(ip)) => self.0.blocks(ip.into()),
            Some(url::Host::Ipv6(ip)) => self.0.blocks(ip.into()),
            _ => false,
        }
    }
}

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let filter = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = found.filter(|address| !filter.blocks(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Blocked.into());
            }
            let allowed: Addrs = Box::new(allowed.into_iter());
            Ok(allowed)
        })
    }
}

/// A client that is made when it is first used.
#[derive(Debug)]
pub(super) struct LateClient {
    way: Way,
    client: OnceCell<Result<Client, FetchError>>,
}

impl Fetches {
    /// What a document is to be fetched with.
    pub(super) fn client(&mut self, request: &FetchRequest) -> Rc<LateClient> {
        let (proxy, validate, is_v4) = (request.proxy.clone(), request.validate, request.is_v4);
        // A proxy has its own way to the server.
        let filter = request.ip_filter.clone().filter(|_| proxy.is_none()).map(Filter);
        // Another filter holds from now on.
        self.clients.retain(|way, _| way.filter.is_none() || filter.is_none() || way.filter == filter);
        let way = Way { proxy, validate, is_v4, filter };
        let late = || Rc::new(LateClient { way: way.clone(), client: OnceCell::new() });
        self.clients.entry(way.clone()).or_insert_with(late).clone()
    }

    /// A task fetches a document.
    pub(super) fn begun(&mut self, fetch: FetchToken, task: AbortHandle) {
        self.running.insert(fetch, task);
    }

    /// That task is over.
    pub(super) fn over(&mut self, fetch: FetchToken) {
        self.running.remove(&fetch);
    }

    /// Nobody waits for a document any more.
    pub(super) fn cancel(&mut self, fetch: FetchToken) {
        if let Some(task) = self.running.remove(&fetch) {
            task.abort();
        }
    }
}

/// Fetches a document.
pub(super) async fn fetch(client: &LateClient, request: FetchRequest) -> Result<Fetched, FetchError> {
    let FetchRequest { url, user_agent, receive_timeout, most, .. } = request;
    let named = Url::parse(&url).ok();
    if client.way.filter.as_ref().zip(named).is_some_and(|(filter, url)| filter.blocks(&url)) {
        return Err(FetchError::Failed(Blocked.to_string()));
    }
    let mut get = client.get().await?.get(url);
    if let Some(user_agent) = user_agent {
        get = get.header(reqwest::header::USER_AGENT, user_agent);
    }
    let response = timeout(receive_timeout, get.send()).await.map_err(|_| FetchError::Silent)?;
    let response = response.map_err(failed)?;
    let status = response.status().as_u16();
    Ok(Fetched { status, body: body(response, receive_timeout, most).await? })
}

/// Reads a document that may be `most` bytes long once it is unpacked.
async fn body(mut response: Response, receive_timeout: Duration, most: usize) -> Result<Bytes, FetchError> {
    let mut body = BytesMut::new();
    loop {
        let chunk = timeout(receive_timeout, response.chunk()).await.map_err(|_| FetchError::Silent)?;
        let Some(chunk) = chunk.map_err(failed)? else { return Ok(body.freeze()) };
        if body.len() + chunk.len() > most {
            return Err(FetchError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
}

impl LateClient {
    /// The client. Making it reads the certificates of this system, which is nothing for the network thread.
    async fn get(&self) -> Result<&Client, FetchError> {
        let make = async || {
            let way = self.way.clone();
            let made = tokio::task::spawn_blocking(move || make(&way)).await;
            made.unwrap_or_else(|error| Err(FetchError::Failed(error.to_string())))
        };
        self.client.get_or_init(make).await.as_ref().map_err(Clone::clone)
    }
}

fn make(way: &Way) -> Result<Client, FetchError> {
    // If the embedding program has chosen another, that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match builder(way)?.tls_danger_accept_invalid_certs(!way.validate).build() {
        Ok(client) => Ok(client),
        // A system without certificates can still fetch what needs none.
        Err(_) => builder(way)?.tls_certs_only([]).build().map_err(failed),
    }
}

fn builder(way: &Way) -> Result<ClientBuilder, FetchError> {
    let mut builder =
        Client::builder().no_proxy().referer(false).redirect(redirections(way)).pool_idle_timeout(IDLE);
    if let Some(is_v4) = way.is_v4 {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        // Who speaks from an address of one family reaches only those of that.
        builder = builder.local_address(any[usize::from(!is_v4)]);
    }
    if let Some(filter) = &way.filter {
        builder = builder.dns_resolver(Arc::new(filter.clone()));
    }
    match &way.proxy {
        None => Ok(builder),
        Some(proxy) => {
            let proxy = address(proxy).and_then(|url| reqwest::Proxy::all(url).ok());
            let proxy =
                proxy.ok_or_else(|| FetchError::Failed("the proxy's address cannot be read".to_owned()))?;
            Ok(builder.proxy(proxy))
        }
    }
}

/// Where a server may send us.
fn redirections(way: &Way) -> Policy {
    let Some(filter) = way.filter.clone() else { return Policy::limited(REDIRECTIONS) };
    Policy::custom(move |attempt| match attempt.previous().len() {
        _ if filter.blocks(attempt.url()) => attempt.error(Blocked),
        // The first of them is where we began.
        already if already > REDIRECTIONS => attempt.error("too many redirects"),
        _ => attempt.follow(),
    })
}

/// A proxy as a URL.
fn address(proxy: &Proxy) -> Option<Url> {
    let scheme = match (proxy.socks, proxy.looks_up) {
        (true, true) => "socks5h",
        (true, false) => "socks5",
        (false, _) => "http",
    };
    let host = if proxy.host.contains(':') { format!("[{}]", proxy.host) } else { proxy.host.clone() };
    let mut url = Url::parse(&format!("{scheme}://{host}:{}", proxy.port)).ok()?;
    if let Some((user, password)) = &proxy.login {
        url.set_username(user).ok()?;
        url.set_password(Some(password)).ok()?;
    }
    Some(url)
}

/// What went wrong, without the URL: that may hold somebody's key.
fn failed(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        (text, source) = (cause.to_string(), cause.source());
    }
    FetchError::Failed(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
