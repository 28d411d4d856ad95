//! The wall clock as a value that is handed in, so that tests hold it.

use std::fmt;

use chrono::{DateTime, Utc};

/// Tells the time of day, for records and names. Limits use monotonic time instead.
pub trait Clock: fmt::Debug {
    /// The present time in UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// Writes a time as people read it here: `2026-02-19 20:40:03 UTC`.
pub fn utc(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
