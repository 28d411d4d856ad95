//! One message that stands for many notifications that waited.
//!
//! It lies beside them in the outbox, `digest.json`, from before it is published until what became
//! of it is noted in the record of every run that it tells of. A delivery that is killed between
//! the two is taken up by the next one: with the same id, or, once the server has answered, with
//! the noting alone.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::store::outbox::Delivery;
use crate::store::private::{read_form, remove};

/// A digest on its way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Digest {
    /// Its identity: the same for every attempt.
    pub id: String,
    /// The ids of the notifications that it stands for.
    pub members: Vec<String>,
    /// How often the server was tried.
    pub attempts: u32,
    /// When the server took it.
    pub delivered_at: Option<DateTime<Utc>>,
}

impl Digest {
    /// A digest that stands for nothing yet.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            id: format!("{PREFIX}{}", now.timestamp_micros()),
            members: Vec::new(),
            attempts: 0,
            delivered_at: None,
        }
    }
}

/// What the ids of digests begin with; no other id does, since those hold a dot after a name.
const PREFIX: &str = "digest-";

/// Whether an id is that of a digest.
pub fn is_digest(id: &str) -> bool {
    id.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.parse::<i64>().is_ok())
}

/// The largest digest that is read: some ten thousand ids.
const MAX_BYTES: u64 = 16 << 20;

impl Delivery<'_> {
    /// The digest that an earlier delivery did not bring to its end.
    pub fn digest(&self) -> Option<Digest> {
        read_form(&file(self.layout()), MAX_BYTES, "this is no digest")
    }

    /// Keeps a digest as it is now; it survives a loss of power from here on.
    pub(crate) fn keep_digest(&self, digest: &Digest) -> Result<(), StoreError> {
        let text = serde_json::to_string_pretty(digest).expect("text and numbers are JSON");
        atomic::write(&file(self.layout()), text.as_bytes())
    }

    /// Removes the digest: all that it tells of is noted.
    pub fn remove_digest(&self) -> Result<(), StoreError> {
        remove(&file(self.layout()))
    }
}

fn file(layout: &Layout) -> PathBuf {
    layout.outbox().join("digest.json")
}
