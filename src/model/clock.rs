//! The wall clock as a value that is handed in, so that tests hold it.

use std::fmt;

use chrono::{DateTime, Utc};

/// Tells the time of day, for records and names. Limits use monotonic time instead.
pub trait Clock: fmt::Debug {
    /// The present time in UTC.
    fn now(&self) -> DateTime<Utc>;
}
