//! Telling a person: the wording of a notification, and ways to publish it.
//!
//! Not for keeping what could not be sent; that is the outbox's.

use std::error::Error;
use std::fmt;
use std::pin::Pin;

use thiserror::Error;

use crate::model::message::Message;

pub mod journal;
pub mod ntfy;
pub mod ping;
pub mod wording;

/// Publishes notifications.
pub trait Notifier: fmt::Debug {
    /// Publishes one notification.
    ///
    /// `Ok` means that the server has it. An implementation limits its own time, and its errors
    /// hold no secret.
    fn publish<'a>(&'a self, message: &'a Message) -> Publishing<'a>;
}

/// A publication under way. Dropping it gives up; the server may have the notification or not.
pub type Publishing<'a> = Pin<Box<dyn Future<Output = Result<(), NotifyError>> + 'a>>;

/// Why a notification was not published.
#[derive(Debug, Error)]
pub enum NotifyError {
    /// It may work later.
    #[error("the notification server did not take the notification")]
    Transient(#[source] Box<dyn Error + Send + Sync>),
    /// Nobody who is trusted says that the server is the one of that name. Nothing was sent.
    #[error(
        "the notification server's certificate is not trusted: SSL_CERT_FILE names the file (PEM) \
         with its authority"
    )]
    Untrusted(#[source] Box<dyn Error + Send + Sync>),
    /// The server will never take it.
    #[error("the notification server refused the notification")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The server would never take one; none was sent.
    #[error("the notification server would refuse each notification")]
    WouldRefuse(#[source] Box<dyn Error + Send + Sync>),
}

impl NotifyError {
    /// Whether it may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transient(_) | Self::Untrusted(_) => true,
            Self::Refused(_) | Self::WouldRefuse(_) => false,
        }
    }
}
