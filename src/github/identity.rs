//! The credentials at work: what a request carries, and the tokens of an app's installations.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest012::Method;
use reqwest012::header::HeaderValue;
use tokio::sync::Mutex;

use crate::github::Shared;
use crate::github::cache::digest;
use crate::github::credentials::{App, Credentials};
use crate::github::error::Fault;
use crate::github::transport::{Answer, Exchange, Patience, parse};
use crate::github::wire::{Installation, InstallationToken};
use crate::model::repository::RepositoryName;
use crate::model::secret::Secret;

/// A token is renewed so long before its end, so that a clone or push begun with it can finish.
const RENEWED_BEFORE: TimeDelta = TimeDelta::minutes(10);

/// From this difference on, a statement is refused for its times.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(20);

/// Who calls, with what was handed out to it.
#[derive(Debug)]
pub(super) enum Identity {
    Token {
        bearer: Bearer,
        secret: Secret,
    },
    App {
        app: App,
        /// Held while a token is fetched, so that it is fetched once.
        installed: Mutex<Installed>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Installed {
    ids: BTreeMap<RepositoryName, u64>,
    tokens: BTreeMap<u64, (Secret, DateTime<Utc>)>,
}

/// What a request carries, and the name under which its answers are kept.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) header: HeaderValue,
    pub(super) caller: String,
}

impl Bearer {
    fn new(secret: &Secret, caller: String) -> Result<Self, Fault> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .map_err(|_| Fault::Credentials("the token has characters that no token has".into()))?;
        header.set_sensitive(true);
        Ok(Self { header, caller })
    }
}

impl Identity {
    pub(super) fn new(credentials: Credentials) -> Result<Self, Fault> {
        Ok(match credentials {
            Credentials::Token(secret) if secret.expose().trim().is_empty() => {
                return Err(Fault::Credentials("the token is empty".to_owned()));
            }
            Credentials::Token(secret) => Self::Token {
                bearer: Bearer::new(&secret, digest(&["token", secret.expose()]))?,
                secret,
            },
            Credentials::App(app) => Self::App {
                app,
                installed: Mutex::default(),
            },
        })
    }

    /// A name under which something is kept for this caller.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Token { bearer, .. } => &bearer.caller,
            Self::App { app, .. } => app.id(),
        }
    }
}

impl Shared {
    /// What a request about a repository carries.
    pub(super) async fn bearer(
        &self,
        repository: Option<&RepositoryName>,
    ) -> Result<Bearer, Fault> {
        match &self.identity {
            Identity::Token { bearer, .. } => Ok(bearer.clone()),
            Identity::App { app, .. } => match repository {
                None => self.as_app(app),
                Some(repository) => {
                    let (id, secret) = self.installation(repository).await?;
                    let id = id.map_or_else(String::new, |id| id.to_string());
                    Bearer::new(&secret, digest(&["app", app.id(), &id]))
                }
            },
        }
    }

    /// The token for git, and of which installation it is.
    pub(super) async fn installation(
        &self,
        repository: &RepositoryName,
    ) -> Result<(Option<u64>, Secret), Fault> {
        let (app, installed) = match &self.identity {
            Identity::Token { secret, .. } => return Ok((None, secret.clone())),
            Identity::App { app, installed } => (app, installed),
        };
        let mut installed = installed.lock().await;
        let known = app.installation.or(installed.ids.get(repository).copied());
        let id = if let Some(id) = known {
            id
        } else {
            let path = [
                "repos",
                repository.owner(),
                repository.name(),
                "installation",
            ];
            let found: Installation = self.call_as_app(app, Method::GET, &path).await?;
            installed.ids.insert(repository.clone(), found.id);
            found.id
        };
        if let Some((token, expires_at)) = installed.tokens.get(&id)
            && *expires_at - self.server_time() > RENEWED_BEFORE
        {
            return Ok((Some(id), token.clone()));
        }
        let path = ["app", "installations", &id.to_string(), "access_tokens"];
        let fetched: InstallationToken = self.call_as_app(app, Method::POST, &path).await?;
        let token = Secret::new(fetched.token);
        self.grant().permissions = fetched.permissions;
        installed
            .tokens
            .insert(id, (token.clone(), fetched.expires_at));
        Ok((Some(id), token))
    }

    /// Forgets the tokens of installations: one of them was revoked.
    pub(super) async fn forget_tokens(&self) {
        if let Identity::App { installed, .. } = &self.identity {
            *installed.lock().await = Installed::default();
        }
    }

    fn as_app(&self, app: &App) -> Result<Bearer, Fault> {
        let statement = app.statement(self.server_time());
        Bearer::new(&statement, digest(&["app", app.id()]))
    }

    /// Calls as the app itself. Fetching one more token does no harm, so it may be repeated.
    async fn call_as_app<T: serde::de::DeserializeOwned>(
        &self,
        app: &App,
        method: Method,
        path: &[&str],
    ) -> Result<T, Fault> {
        let url = self.url(path, &[])?;
        let mut patience = Patience::new(self.retry_delay);
        let mut is_clock_set = false;
        loop {
            let said_at = self.server_time();
            let exchange = Exchange::new(method.clone(), url.clone(), self.as_app(app)?);
            match self.exchange(exchange).await.and_then(Answer::json) {
                Ok(body) => return parse(&body),
                // The refusal has told the server's time, and our clock may be its reason.
                Err(Fault::BadCredentials { .. })
                    if !is_clock_set && (self.server_time() - said_at).abs() > CLOCKS_DIFFER =>
                {
                    is_clock_set = true;
                }
                Err(fault) if patience.allows(&fault).await => {}
                Err(fault) => return Err(fault),
            }
        }
    }
}
