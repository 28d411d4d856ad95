//! Why a call of the API did not succeed, sorted by what the caller does about it.

use std::error::Error;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::model::clock;

/// A call that did not succeed: what was attempted, and why it failed (its source).
///
/// Holds no secret, neither in its words nor in its `Debug`.
#[derive(Debug, Error)]
#[error("cannot {attempt}")]
pub struct GitHubError {
    pub(super) attempt: String,
    pub(super) is_write: bool,
    #[source]
    pub(super) fault: Fault,
}

/// Why a call did not succeed.
#[derive(Debug, Error)]
pub enum Fault {
    /// 401: the token or the app's key is wrong, expired or revoked.
    #[error("GitHub does not accept the credentials (401): {message}")]
    BadCredentials {
        /// GitHub's own words.
        message: String,
    },
    /// 403: a permission is missing, or the repository is archived, or the issue locked.
    #[error("GitHub forbids it (403): {message}{}", needs(needed.as_deref()))]
    Forbidden {
        /// GitHub's own words.
        message: String,
        /// The permissions or scopes that GitHub named as sufficient.
        needed: Option<String>,
    },
    /// 404: it does not exist, or these credentials cannot see it.
    #[error("it does not exist or these credentials cannot see it (404): {message}{}", needs(needed.as_deref()))]
    NotFound {
        /// GitHub's own words.
        message: String,
        /// The permissions or scopes that GitHub named as sufficient.
        needed: Option<String>,
    },
    /// 410: it was deleted, or issues are switched off.
    #[error("it is gone for good (410): {message}")]
    Gone {
        /// GitHub's own words.
        message: String,
    },
    /// 422: GitHub understood the request and does not take it.
    #[error("GitHub does not take it (422): {message}")]
    Invalid {
        /// GitHub's own words, those on single fields after a colon.
        message: String,
    },
    /// Another answer below 500, such as 409.
    #[error("GitHub refuses it ({status}): {message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// GitHub's own words.
        message: String,
    },
    /// A rate limit. While it lasts no request is sent at all.
    #[error("GitHub's rate limit allows the next request at {}", clock::utc(*retry_at))]
    Limited {
        /// When the next request may be sent, by this machine's clock.
        retry_at: DateTime<Utc>,
    },
    /// 5xx or 408.
    #[error("GitHub is not able to answer ({status})")]
    Unavailable {
        /// The HTTP status.
        status: u16,
    },
    /// There was no connection: nothing was sent.
    #[error("cannot reach the server")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// Nobody who is trusted says that the server is the one of that name. Nothing was sent.
    #[error("the server's certificate is not trusted")]
    Untrusted(#[source] Box<dyn Error + Send + Sync>),
    /// The connection broke, or a time limit passed, before the whole answer was there.
    #[error("the answer did not arrive")]
    Interrupted(#[source] Box<dyn Error + Send + Sync>),
    /// The answer is none of GitHub's: a login page of the network, cut JSON, other types.
    #[error("the answer is not what GitHub's API says: {0}")]
    Unreadable(String),
    /// The address leads elsewhere: the repository or issue moved, or something between redirects.
    #[error("it has moved to {to}, where nothing is sent")]
    Moved {
        /// Where it is said to be, without a query.
        to: String,
        /// Whether that is the same API, so that it was renamed or transferred.
        same_api: bool,
    },
    /// A name that cannot be part of an address.
    #[error("`{0}` cannot be part of an address")]
    Unaddressable(String),
    /// What was given as credentials cannot be used.
    #[error("{0}")]
    Credentials(String),
}

fn needs(needed: Option<&str>) -> String {
    needed.map_or_else(String::new, |needed| format!("; sufficient is: {needed}"))
}

impl GitHubError {
    /// The reason.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Whether it may work later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match &self.fault {
            Fault::Limited { .. }
            | Fault::Unavailable { .. }
            | Fault::Unreachable(_)
            | Fault::Untrusted(_)
            | Fault::Interrupted(_)
            | Fault::Unreadable(_) => true,
            // Another API at that address is a network's login page, which goes away.
            Fault::Moved { same_api, .. } => !same_api,
            Fault::BadCredentials { .. }
            | Fault::Forbidden { .. }
            | Fault::NotFound { .. }
            | Fault::Gone { .. }
            | Fault::Invalid { .. }
            | Fault::Rejected { .. }
            | Fault::Unaddressable(_)
            | Fault::Credentials(_) => false,
        }
    }

    /// Whether this was a write that GitHub may have done all the same: look before repeating it.
    pub fn is_ambiguous(&self) -> bool {
        self.is_write
            && matches!(
                self.fault,
                Fault::Unavailable { .. } | Fault::Interrupted(_) | Fault::Unreadable(_)
            )
    }

    /// When the next request may be sent, if a rate limit is the reason.
    pub fn retry_at(&self) -> Option<DateTime<Utc>> {
        match self.fault {
            Fault::Limited { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// Whether the credentials are not accepted: every other call would fail the same way.
    pub fn is_bad_credentials(&self) -> bool {
        matches!(
            self.fault,
            Fault::BadCredentials { .. } | Fault::Credentials(_)
        )
    }

    /// Whether it is not there (any more), or not for these credentials.
    pub fn is_not_found(&self) -> bool {
        matches!(self.fault, Fault::NotFound { .. } | Fault::Gone { .. })
    }

    /// Whether a pull request of that branch is open already.
    pub fn is_already_exists(&self) -> bool {
        self.says("already exists")
    }

    /// Whether GitHub sees no branch of the name that is offered.
    pub fn is_unknown_head(&self) -> bool {
        self.says("head invalid")
    }

    /// Whether GitHub sees no branch of the name that the pull request is to go to.
    pub fn is_unknown_base(&self) -> bool {
        self.says("base invalid")
    }

    /// Whether GitHub says so of what the request names.
    pub(super) fn says(&self, words: &str) -> bool {
        match &self.fault {
            Fault::Invalid { message } | Fault::NotFound { message, .. } => message.contains(words),
            _ => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match &self.fault {
            Fault::BadCredentials { .. } => "make a new token, or check the app's id and key",
            Fault::Forbidden {
                needed: Some(_), ..
            } => "give the token that permission",
            Fault::NotFound { .. } => "check the name, and what the token may see",
            Fault::Moved { same_api: true, .. } => "use the new name in the configuration",
            Fault::Unreachable(_) => "check the network, the proxy variables and the API's address",
            Fault::Untrusted(_) => {
                "name the file (PEM) with its authority in SSL_CERT_FILE, for the API and git"
            }
            Fault::Unreadable(_) | Fault::Moved { .. } => {
                "check that nothing between, such as a network's login page, answers for GitHub"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
