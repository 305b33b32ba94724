//! Questions that go by HTTP: some at a time, the others wait.

use bytes::Bytes;

use super::{Answer, Question, Request, Way};
use crate::engine::output::{FetchRequest, FetchToken, Output, Proxy};
use crate::engine::state::State;
use crate::engine::{Engine, FetchError, Fetched};
use crate::settings::ProxyType;
use crate::wire::tracker::{TrackerError, http};

impl Engine {
    /// A web server answered, or did not.
    pub(in crate::engine) fn on_fetched(&mut self, fetch: FetchToken, result: Result<Fetched, FetchError>) {
        let FetchToken(id) = fetch;
        let Some(request) = self.state.announcing.requests.get_mut(&id) else { return };
        let Way::Fetching = std::mem::replace(&mut request.way, Way::Over) else { return };
        self.state.announcing.fetching -= 1;
        let answer = result.map_err(|error| TrackerError::Unreachable(error.to_string()));
        let answer = answer.and_then(|Fetched { status, body }| read(&request.question, status, &body));
        self.finish_request(id, answer);
    }
}

/// What a web server's answer means. One that says it failed may say why in the way of trackers.
fn read(question: &Question, status: u16, body: &Bytes) -> Result<Answer, TrackerError> {
    let answer = match question {
        Question::Announce(_) => http::parse_announce(body).map(Answer::Announce),
        Question::Scrape(info_hash) => http::parse_scrape(body, info_hash).map(Answer::Scrape),
    };
    match answer {
        Err(refused @ TrackerError::Refused { .. }) => Err(refused),
        _ if !(200..300).contains(&status) => Err(TrackerError::Status(status)),
        answer => answer,
    }
}

impl State {
    /// Asks `url`, as soon as there is room.
    pub(super) fn fetch_later(&mut self, id: u64, mut request: Request, url: String) {
        request.way = Way::Waiting(url);
        self.announcing.requests.insert(id, request);
        self.announcing.waiting.push_back(id);
        self.fetch_next();
    }

    pub(super) fn fetch_next(&mut self) {
        while self.announcing.fetching < self.settings.max_concurrent_http_announces as usize {
            let Some(id) = self.announcing.waiting.pop_front() else { return };
            let Some(request) = self.announcing.requests.get_mut(&id) else { continue };
            let Way::Waiting(url) = std::mem::replace(&mut request.way, Way::Fetching) else { continue };
            let url = match &request.question {
                Question::Announce(announce) => http::announce_url(&url, announce),
                Question::Scrape(info_hash) => http::scrape_url(&url, info_hash),
            };
            let (user_agent, is_v4) = (request.user_agent.clone(), request.is_v4);
            let filters = self.settings.apply_ip_filter_to_trackers && !self.ip_filter.is_empty();
            self.announcing.fetching += 1;
            let request = Box::new(FetchRequest {
                url,
                user_agent,
                receive_timeout: self.settings.tracker_receive_timeout.duration(),
                most: self.settings.tracker_maximum_response_length as usize,
                validate: self.settings.validate_https_trackers,
                is_v4,
                ip_filter: filters.then(|| self.ip_filter.clone()),
                proxy: self.tracker_proxy(),
            });
            self.outputs.push_back(Output::Fetch { fetch: FetchToken(id), request });
        }
    }

    /// The proxy through which trackers are reached.
    pub(in crate::engine) fn tracker_proxy(&self) -> Option<Proxy> {
        self.proxy().filter(|_| self.settings.proxy_tracker_connections)
    }

    /// The proxy through which peers are reached.
    pub(in crate::engine) fn peer_proxy(&self) -> Option<Proxy> {
        self.proxy().filter(|_| self.settings.proxy_peer_connections)
    }

    /// The proxy that the settings name.
    pub(in crate::engine) fn proxy(&self) -> Option<Proxy> {
        let settings = &self.settings;
        let kind = settings.proxy_type;
        let port = u16::try_from(settings.proxy_port).unwrap_or_default();
        let with_password = matches!(kind, ProxyType::Socks5Pw | ProxyType::HttpPw);
        let login = (settings.proxy_username.clone(), settings.proxy_password.clone());
        (kind != ProxyType::None).then(|| Proxy {
            socks: matches!(kind, ProxyType::Socks5 | ProxyType::Socks5Pw),
            host: settings.proxy_hostname.clone(),
            port,
            login: with_password.then_some(login),
            looks_up: settings.proxy_hostnames,
        })
    }
}
