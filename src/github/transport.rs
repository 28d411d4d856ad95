//! Requests and answers: limits, what was kept, pages, redirects, and when to repeat.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest012::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, LINK, LOCATION,
};
use reqwest012::{Method, Response, StatusCode, Url};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::github::Shared;
use crate::github::answer::{self, Refusal, header};
use crate::github::cache::Entry;
use crate::github::error::Fault;
use crate::github::identity::{Bearer, Identity};
use crate::github::pacing::{Budget, Gate, LONGEST_WAIT, Limit};
use crate::model::repository::RepositoryName;
use crate::tls;

/// GitHub's largest answers, 100 issues of 65,536 characters that JSON writes in six bytes each,
/// have 38.
const MAX_BODY_BYTES: usize = 48 << 20;
/// How often a read is sent at most, and after how long it is not sent again.
const READ_ATTEMPTS: u32 = 3;
const READ_BOUND: Duration = Duration::from_secs(60);
/// 10,000 issues.
const MAX_PAGES: usize = 100;
const MAX_REDIRECTS: usize = 3;
/// What the assignment of the coding agent asks for.
const GRAPHQL_FEATURES: &str = "issues_copilot_assignment_api_support,coding_agent_model_selection";
/// In the place of an address where answers are kept: until when nothing may be sent.
const LIMITS: [(Budget, &str); 2] = [
    (Budget::All, "rate limit"),
    (Budget::Graphql, "rate limit of GraphQL"),
];
/// The same: when the next write may begin.
pub(super) const TURNS: &str = "turns of writes";

/// One request.
#[derive(Debug)]
pub(super) struct Exchange {
    method: Method,
    url: Url,
    bearer: Bearer,
    etag: Option<String>,
    body: Option<Value>,
}

impl Exchange {
    pub(super) fn new(method: Method, url: Url, bearer: Bearer) -> Self {
        Self {
            method,
            url,
            bearer,
            etag: None,
            body: None,
        }
    }
}

/// An answer that is no refusal: a success, a redirect, or "nothing new".
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Makes sure that it is GitHub's answer to a removal, and not a network's login page.
    pub(super) fn json_or_nothing(self) -> Result<(), Fault> {
        if self.status == StatusCode::NO_CONTENT {
            return Ok(());
        }
        self.json().map(drop)
    }

    /// The body, which is JSON for certain.
    pub(super) fn json(self) -> Result<String, Fault> {
        let text = String::from_utf8(self.body).ok();
        text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
            .ok_or_else(|| Fault::Unreadable(answer::not_json(self.status, &self.headers)))
    }
}

/// How long something that has no effect is tried again.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    delay: Duration,
    attempts: u32,
}

impl Patience {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            began: Instant::now(),
            delay,
            attempts: 1,
        }
    }

    /// Whether to try once more; waits first.
    pub(super) async fn allows(&mut self, fault: &Fault) -> bool {
        let is_passing = matches!(
            fault,
            Fault::Unavailable { .. }
                | Fault::Unreachable(_)
                | Fault::Interrupted(_)
                | Fault::Unreadable(_)
        );
        if !is_passing || self.attempts >= READ_ATTEMPTS || self.began.elapsed() >= READ_BOUND {
            return false;
        }
        sleep(self.delay).await;
        self.delay *= 2;
        self.attempts += 1;
        true
    }
}

#[derive(Debug)]
struct Page {
    url: Url,
    body: String,
    link: Option<String>,
}

pub(super) fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Fault> {
    serde_json::from_str(body).map_err(|error| Fault::Unreadable(error.to_string()))
}

impl Shared {
    /// An address of the API.
    pub(super) fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, Fault> {
        // They would name another endpoint: the file `..` would be the list of all.
        if let Some(part) = path.iter().find(|part| matches!(**part, "" | "." | "..")) {
            return Err(Fault::Unaddressable((*part).to_owned()));
        }
        let mut url = self.api_url.clone();
        url.path_segments_mut()
            .expect("checked when it was set")
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Reads one value.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        repository: Option<&RepositoryName>,
        url: Url,
    ) -> Result<T, Fault> {
        parse(&self.page(repository, url).await?.body)
    }

    /// Reads a list, all pages.
    pub(super) async fn read_all<T: DeserializeOwned>(
        &self,
        repository: &RepositoryName,
        url: Url,
    ) -> Result<Vec<T>, Fault> {
        let mut items = Vec::new();
        let mut next = Some(url);
        for _ in 0..MAX_PAGES {
            let Some(url) = next else {
                return Ok(items);
            };
            let page = self.page(Some(repository), url).await?;
            items.extend(parse::<Vec<T>>(&page.body)?);
            next = match page.link.as_deref().and_then(next_page) {
                Some(link) => Some(self.own_url(&page.url, link)?),
                None => None,
            };
        }
        Err(Fault::Unreadable(format!(
            "a list of more than {MAX_PAGES} pages"
        )))
    }

    /// Sends a write, once.
    pub(super) async fn write(
        &self,
        repository: &RepositoryName,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<Answer, Fault> {
        let mut answer = self
            .write_once(repository, &method, &url, body.as_ref())
            .await;
        if self.is_outdated(&answer) {
            answer = self
                .write_once(repository, &method, &url, body.as_ref())
                .await;
        }
        let answer = answer?;
        if answer.status.is_redirection() {
            return Err(self.moved(&url, &answer.headers));
        }
        Ok(answer)
    }

    async fn write_once(
        &self,
        repository: &RepositoryName,
        method: &Method,
        url: &Url,
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        let bearer = self.bearer(Some(repository)).await?;
        let turn = self.turns.wait().await;
        let mut exchange = Exchange::new(method.clone(), url.clone(), bearer);
        exchange.body = body.cloned();
        let answer = self.exchange(exchange).await;
        drop(turn);
        self.forgetting(answer).await
    }

    async fn page(&self, repository: Option<&RepositoryName>, url: Url) -> Result<Page, Fault> {
        let mut bearer = self.bearer(repository).await?;
        let mut patience = Patience::new(self.retry_delay);
        let mut is_renewed = false;
        loop {
            match self.page_once(&bearer, url.clone()).await {
                answer if !is_renewed && self.is_outdated(&answer) => {
                    is_renewed = true;
                    bearer = self.bearer(repository).await?;
                }
                Err(fault) if patience.allows(&fault).await => {}
                end => return end,
            }
        }
    }

    async fn page_once(&self, bearer: &Bearer, mut url: Url) -> Result<Page, Fault> {
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.conditional(bearer, &url).await;
            match self.forgetting(answer).await? {
                Ok(page) => return Ok(page),
                Err(headers) => {
                    let location = header(&headers, LOCATION.as_str()).unwrap_or_default();
                    let to = self
                        .own_url(&url, location)
                        .map_err(|_| self.moved(&url, &headers))?;
                    self.tell_move(&url, &to);
                    url = to;
                }
            }
        }
        Err(Fault::Unreadable("redirects without end".to_owned()))
    }

    /// A page, or the headers of a redirect.
    async fn conditional(
        &self,
        bearer: &Bearer,
        url: &Url,
    ) -> Result<Result<Page, HeaderMap>, Fault> {
        let cache = self.cache.as_ref();
        let kept = cache.and_then(|cache| cache.find(url.as_str(), &bearer.caller));
        let mut exchange = Exchange::new(Method::GET, url.clone(), bearer.clone());
        exchange.etag = kept.as_ref().map(|entry| entry.etag.clone());
        let answer = self.exchange(exchange).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            let Some(entry) = kept else {
                return Err(Fault::Unreadable(
                    "`not modified` without being asked".into(),
                ));
            };
            self.counters.not_modified.fetch_add(1, Ordering::Relaxed);
            return Ok(Ok(Page {
                url: url.clone(),
                body: entry.body,
                link: entry.link,
            }));
        }
        if answer.status.is_redirection() {
            return Ok(Err(answer.headers));
        }
        let link = header(&answer.headers, LINK.as_str()).map(str::to_owned);
        let etag = header(&answer.headers, ETAG.as_str()).map(str::to_owned);
        let body = answer.json()?;
        if let (Some(cache), Some(etag)) = (cache, etag) {
            let entry = Entry::new(etag, link.clone(), body.clone());
            if let Err(error) = cache.keep(url.as_str(), &bearer.caller, &entry) {
                tracing::warn!(%error, "cannot keep an answer of GitHub; the next poll is a full one");
            }
        }
        Ok(Ok(Page {
            url: url.clone(),
            body,
            link,
        }))
    }

    /// Sends one request and reads its answer, within all limits.
    pub(super) async fn exchange(&self, exchange: Exchange) -> Result<Answer, Fault> {
        self.remember_limits();
        self.gate.check(self.clock.now())?;
        let is_graphql = exchange.url.path().ends_with("/graphql");
        if is_graphql {
            self.graphql_gate.check(self.clock.now())?;
        }
        let mut request = self
            .client
            .request(exchange.method, exchange.url)
            .header(ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28")
            .header(AUTHORIZATION, exchange.bearer.header);
        if let Some(etag) = exchange.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if is_graphql {
            request = request.header("graphql-features", GRAPHQL_FEATURES);
        }
        if let Some(body) = exchange.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let response = request.send().await.map_err(|error| {
            let is_unsent = error.is_connect() || error.is_builder();
            let is_untrusted = tls::is_untrusted(&error);
            let error = error.without_url().into();
            if is_untrusted {
                Fault::Untrusted(error)
            } else if is_unsent {
                Fault::Unreachable(error)
            } else {
                Fault::Interrupted(error)
            }
        })?;
        self.receive(response).await
    }

    async fn receive(&self, response: Response) -> Result<Answer, Fault> {
        let (status, headers) = (response.status(), response.headers().clone());
        let now = self.clock.now();
        self.note(&headers);
        let body = body(response).await;
        if status.is_success() || status.is_redirection() {
            self.gate.answered();
            if let Some(limit) = answer::used_up(&headers, now) {
                self.shut(now, limit);
            }
            let body = body?;
            return Ok(Answer {
                status,
                headers,
                body,
            });
        }
        // What cannot be read of a refusal does not change that it is one.
        let body = body.unwrap_or_default();
        Err(match answer::refusal(status, &headers, &body, now) {
            Refusal::Limit(limit) => self.shut(now, limit),
            Refusal::Fault(fault) => fault,
        })
    }

    /// Lets no request pass while a limit lasts, in this process and in later ones; tells until when.
    pub(super) fn shut(&self, now: DateTime<Utc>, limit: Limit) -> Fault {
        let retry_at = self.gate_of(limit.budget).shut(now, limit.wait);
        let place = LIMITS.iter().find(|(budget, _)| *budget == limit.budget);
        if let (Some(cache), Some((_, place))) = (&self.cache, place) {
            let entry = Entry::new(retry_at.to_rfc3339(), None, String::new());
            if let Err(error) = cache.keep(place, self.identity.name(), &entry) {
                tracing::warn!(%error, "cannot keep a rate limit of GitHub for later processes");
            }
        }
        Fault::Limited { retry_at }
    }

    /// Shuts the gates where another process met a limit that lasts.
    pub(super) fn remember_limits(&self) {
        let Some(cache) = &self.cache else { return };
        let now = self.clock.now();
        for (budget, place) in LIMITS {
            let kept = cache.find(place, self.identity.name());
            let until = kept.and_then(|kept| kept.etag.parse::<DateTime<Utc>>().ok());
            // What lies farther ahead is of a clock that was set back since.
            if let Some(until) = until.filter(|until| *until > now && *until - now <= LONGEST_WAIT)
            {
                self.gate_of(budget).shut(now, Some(until - now));
            }
        }
    }

    fn gate_of(&self, budget: Budget) -> &Gate {
        match budget {
            Budget::All => &self.gate,
            Budget::Graphql => &self.graphql_gate,
        }
    }

    /// Notes what every answer tells.
    fn note(&self, headers: &HeaderMap) {
        let now = self.clock.now();
        if let Some(date) = answer::date(headers) {
            let skew = (date - now).num_seconds();
            self.counters.skew_secs.store(skew, Ordering::Relaxed);
        }
        if let Identity::Token { .. } = self.identity {
            let mut grant = self.grant();
            grant.scopes = answer::scopes(headers).or(grant.scopes.take());
            grant.expires_at = answer::token_end(headers).or(grant.expires_at);
        }
        if let Some((Budget::All, rate)) = answer::rate(headers) {
            let known = &self.counters.rate;
            *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
        }
    }

    /// After a 401 the next call fetches a new token, where an app can.
    async fn forgetting<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        if self.is_outdated(&answer) {
            self.forget_tokens().await;
        }
        answer
    }

    /// Whether a token was not accepted that may have been revoked, and is handed out anew.
    fn is_outdated<T>(&self, answer: &Result<T, Fault>) -> bool {
        let is_app = matches!(self.identity, Identity::App { .. });
        is_app && matches!(answer, Err(Fault::BadCredentials { .. }))
    }

    /// An address that an answer named, if it is the API's own.
    fn own_url(&self, from: &Url, text: &str) -> Result<Url, Fault> {
        from.join(text)
            .ok()
            .filter(|url| !text.is_empty() && self.is_own(url))
            .ok_or_else(|| Fault::Unreadable("a page that is not the API's own".to_owned()))
    }

    fn is_own(&self, url: &Url) -> bool {
        let base = self.api_url.path().trim_end_matches('/');
        url.origin() == self.api_url.origin()
            && url.username().is_empty()
            && url.password().is_none()
            && url
                .path()
                .strip_prefix(base)
                .is_some_and(|rest| rest.starts_with('/'))
    }

    fn moved(&self, from: &Url, headers: &HeaderMap) -> Fault {
        let location = header(headers, LOCATION.as_str()).unwrap_or_default();
        let to = from.join(location).ok().map(|mut url| {
            url.set_query(None);
            url.set_fragment(None);
            url
        });
        Fault::Moved {
            same_api: to.as_ref().is_some_and(|to| self.is_own(to)),
            to: to.map_or_else(|| "nowhere".to_owned(), |url| url.to_string()),
        }
    }

    /// Says once for each address that it has moved.
    fn tell_move(&self, from: &Url, to: &Url) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.insert(from.path().to_owned()) {
            tracing::warn!(
                from = from.path(),
                to = to.path(),
                "GitHub says that this has moved"
            );
        }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY_BYTES => body.extend(chunk),
            Ok(Some(_)) => {
                let why = format!("more than {} MB", MAX_BODY_BYTES >> 20);
                return Err(Fault::Unreadable(why));
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err(Fault::Interrupted(error.without_url().into())),
        }
    }
}

/// `<https://…?page=2>; rel="next", <https://…?page=5>; rel="last"`
fn next_page(link: &str) -> Option<&str> {
    let mut rest = link;
    while let Some((_, after)) = rest.split_once('<') {
        let (url, after) = after.split_once('>')?;
        let parameters = after
            .split_once(", <")
            .map_or(after, |(parameters, _)| parameters);
        if parameters
            .split(';')
            .any(|part| part.trim() == "rel=\"next\"")
        {
            return Some(url);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_other_links() {
        let next = r#"<http://h/a?page=2>; rel="next", <http://h/a?page=5>; rel="last""#;
        assert_eq!(next_page(next), Some("http://h/a?page=2"));
        let later = r#"<http://h/a?x=1,2>; rel="prev", <http://h/a?page=3>; rel="next""#;
        assert_eq!(next_page(later), Some("http://h/a?page=3"));
        for none in [r#"<http://h/a?page=1>; rel="first""#, "", "<", "nonsense"] {
            assert_eq!(next_page(none), None);
        }
    }
}
