//! GitHub's REST API, as far as it is used: one function an endpoint, typed answers, typed errors.
//!
//! ```text
//! GET /repos/octo/hello/issues?state=open&labels=copilot-agent&sort=created&direction=asc&per_page=100
//! Accept: application/vnd.github+json
//! X-GitHub-Api-Version: 2022-11-28
//! If-None-Match: W/"5f2c…"                         304: nothing new, and nothing counted
//! ```
//!
//! - A **read** is repeated a few times when it fails in passing. It is conditional when a directory
//!   for answers is given, also in the next process.
//! - A **write** is sent once. When its answer is lost, the error says
//!   [`is_ambiguous`](GitHubError::is_ambiguous), and the caller looks before it repeats. Writes
//!   wait for each other and keep a distance, as GitHub asks for.
//! - While a **rate limit** lasts nothing is sent at all; the error says until when. Nothing here
//!   sleeps until then. What is used up of GraphQL, which GitHub counts apart, stops GraphQL alone.
//! - Limit and distance hold for all processes that share a directory for answers.
//! - Only the API's own origin is ever asked. A read follows a renamed repository there; a write
//!   goes nowhere but where it was told.
//!
//! Not octocrab: 26 more crates for twenty endpoints, a release every other week, and by default it
//! repeats a POST whose answer was lost, which makes two comments of one.

mod answer;
mod cache;
mod coding_agent;
mod credentials;
mod endpoints;
mod error;
mod graphql;
mod identity;
mod pacing;
mod transport;
mod wire;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest012::{Client, Url, redirect};

use crate::github::cache::Cache;
use crate::github::identity::Identity;
use crate::github::pacing::{Gate, Ledger, Turns};
use crate::model::clock::Clock;
use crate::tls;

pub use crate::github::coding_agent::CodingAgent;
pub use crate::github::credentials::{App, Credentials};
pub use crate::github::endpoints::{NewIssue, NewPull};
pub use crate::github::error::{Fault, GitHubError};
pub use crate::github::wire::{
    Branch, Comment, Grant, Issue, Mention, Permission, Permissions, Pull, RateLimit, Repository,
    State, User,
};

/// What a client is made of.
#[derive(Debug)]
pub struct Settings {
    /// The API's address: `https://api.github.com`, or `https://HOST/api/v3` for GitHub
    /// Enterprise Server.
    pub api_url: String,
    /// Who calls.
    pub credentials: Credentials,
    /// Where answers, rate limits and the turns of writes are shared with other processes; `None`:
    /// every read is a full one, and each process keeps its own distance. What private
    /// repositories say lies there too, for the owner of the files alone.
    pub cache: Option<PathBuf>,
    /// The distance between two writes, of all processes that share the directory. GitHub asks for
    /// one second at least.
    pub write_interval: Duration,
    /// The wait before a read is repeated; twice as long each time.
    pub retry_delay: Duration,
    /// The longest time for reaching the server.
    pub connect_limit: Duration,
    /// The longest time for one whole answer.
    pub total_limit: Duration,
    /// The wall clock.
    pub clock: Arc<dyn Clock + Send + Sync>,
}

impl Settings {
    /// The settings for real use, without a cache.
    pub fn new(
        api_url: impl Into<String>,
        credentials: Credentials,
        clock: Arc<dyn Clock + Send + Sync>,
    ) -> Self {
        Self {
            api_url: api_url.into(),
            credentials,
            cache: None,
            write_interval: Duration::from_secs(1),
            retry_delay: Duration::from_millis(500),
            connect_limit: Duration::from_secs(5),
            total_limit: Duration::from_secs(30),
            clock,
        }
    }
}

/// The API as one caller. Clones share everything: connections, turns, the rate limit.
#[derive(Clone, Debug)]
pub struct GitHub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    api_url: Url,
    identity: Identity,
    cache: Option<Cache>,
    turns: Turns,
    gate: Gate,
    /// For GraphQL alone.
    graphql_gate: Gate,
    retry_delay: Duration,
    clock: Arc<dyn Clock + Send + Sync>,
    counters: Counters,
    moved: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    not_modified: AtomicU64,
    rate: Mutex<Option<RateLimit>>,
    grant: Mutex<Grant>,
    /// How far the server's clock is ahead of ours.
    skew_secs: AtomicI64,
}

/// What a client has seen so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApiStatus {
    /// Requests that were sent.
    pub requests: u64,
    /// Those that were answered with "nothing new" and cost nothing.
    pub not_modified: u64,
    /// The rate limit as last told.
    pub rate: Option<RateLimit>,
    /// Until when nothing is sent.
    pub limited_until: Option<DateTime<Utc>>,
    /// How many seconds the server's clock is ahead of ours, as last told; 0 before that.
    pub skew_secs: i64,
}

impl GitHub {
    /// Makes a client. Sends nothing yet.
    ///
    /// # Errors
    /// When the address or the credentials cannot be used, or the cache's directory cannot be made.
    pub fn new(settings: Settings) -> Result<Self, GitHubError> {
        Shared::new(settings)
            .map(|shared| Self(Arc::new(shared)))
            .map_err(|fault| GitHubError {
                attempt: "use the GitHub API".to_owned(),
                is_write: false,
                fault,
            })
    }

    /// What GitHub has told of the credentials so far.
    pub fn grant(&self) -> Grant {
        self.0.grant().clone()
    }

    /// What this client has seen so far.
    pub fn status(&self) -> ApiStatus {
        let counters = &self.0.counters;
        self.0.remember_limits();
        ApiStatus {
            requests: counters.requests.load(Ordering::Relaxed),
            not_modified: counters.not_modified.load(Ordering::Relaxed),
            rate: *counters.rate.lock().unwrap_or_else(PoisonError::into_inner),
            limited_until: self.0.gate.until(self.0.clock.now()),
            skew_secs: counters.skew_secs.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn grant(&self) -> MutexGuard<'_, Grant> {
        let grant = &self.counters.grant;
        grant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(settings: Settings) -> Result<Self, Fault> {
        tls::install_provider();
        let unusable = |why: String| Fault::Credentials(why);
        let client = Client::builder()
            .connect_timeout(settings.connect_limit)
            .timeout(settings.total_limit)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("agent-runner/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Fault::Unreachable(error.into()))?;
        let cache = settings.cache.as_deref().map(|directory| {
            Cache::open(directory, settings.clock.now().into()).map_err(|error| {
                unusable(format!(
                    "cannot use the directory `{}`: {error}",
                    directory.display()
                ))
            })
        });
        let (cache, identity) = (cache.transpose()?, Identity::new(settings.credentials)?);
        let ledger = cache.as_ref().map(|cache| {
            let path = cache.path(transport::TURNS, identity.name());
            Ledger::new(path, Arc::clone(&settings.clock))
        });
        Ok(Self {
            client,
            api_url: api_url(&settings.api_url)?,
            identity,
            cache,
            turns: Turns::new(settings.write_interval, ledger),
            gate: Gate::default(),
            graphql_gate: Gate::default(),
            retry_delay: settings.retry_delay,
            clock: settings.clock,
            counters: Counters::default(),
            moved: Mutex::default(),
        })
    }

    /// The server's time, as far as it has told us.
    fn server_time(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::seconds(self.counters.skew_secs.load(Ordering::Relaxed))
    }
}

/// An address to which a token may be sent.
fn api_url(text: &str) -> Result<Url, Fault> {
    let wrong = |why: &str| Fault::Unaddressable(format!("{text}: {why}"));
    let url: Url = text
        .parse()
        .map_err(|_| Fault::Unaddressable(text.to_owned()))?;
    if url.cannot_be_a_base() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("a plain address is needed"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::Unaddressable(
            "an API address with a password".to_owned(),
        ));
    }
    let host = url.host_str().unwrap_or_default();
    let is_local = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        _ => Err(wrong(
            "https is needed, for the token would travel readable",
        )),
    }
}
