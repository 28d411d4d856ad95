//! When a task is due: cron expressions, their fires in a time zone, and the text of a
//! crontab or of systemd's units.
//!
//! Cron's own rules, as Debian's cron has them, so that what is told here is what cron does. Not
//! for doing anything at these times: cron and systemd start the runs. Pure but for the machine's
//! zone.

pub mod crontab;
pub mod expression;
pub mod fires;
pub mod systemd;
pub mod units;

use std::fs;
use std::io;
use std::sync::OnceLock;

use chrono::{DateTime, Local, Offset as _, TimeZone as _, Utc};
use chrono_tz::Tz;

/// The zone of a schedule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Zone {
    /// The machine's, by which cron and systemd start; not that of a shell's `TZ`.
    Local,
    /// One of the IANA database.
    Named(Tz),
}

impl Zone {
    /// The zone of a name; `None` is the machine's, as is a name that is none.
    pub fn of(name: Option<&str>) -> Self {
        name.and_then(|name| name.parse().ok())
            .map_or(Self::Local, Self::Named)
    }

    /// Seconds east of UTC.
    pub(crate) fn offset(self, at: DateTime<Utc>) -> i64 {
        let at = at.naive_utc();
        let offset = match self.named() {
            None => Local.offset_from_utc_datetime(&at).fix(),
            Some(zone) => zone.offset_from_utc_datetime(&at).fix(),
        };
        i64::from(offset.local_minus_utc())
    }

    /// A time as a clock of the zone shows it: `2026-02-19 21:40 +01:00`.
    pub fn shows(self, at: DateTime<Utc>) -> String {
        let form = "%Y-%m-%d %H:%M %:z";
        match self.named() {
            None => at.with_timezone(&Local).format(form).to_string(),
            Some(zone) => at.with_timezone(&zone).format(form).to_string(),
        }
    }

    /// `None` where the machine's zone has no known name.
    fn named(self) -> Option<Tz> {
        static MACHINE: OnceLock<Option<Tz>> = OnceLock::new();
        match self {
            Self::Local => *MACHINE.get_or_init(|| machine_zone()?.parse().ok()),
            Self::Named(zone) => Some(zone),
        }
    }

    /// Whether the clocks of two zones show the same, at every hour of a year from `from` on.
    pub fn agrees_with(self, other: Self, from: DateTime<Utc>) -> bool {
        (0..366 * 24).all(|hours| {
            let at = from + chrono::TimeDelta::hours(hours);
            self.offset(at) == other.offset(at)
        })
    }
}

/// The name of the machine's zone, as it is installed in `/etc`; `None` where it has none.
pub fn machine_zone() -> Option<String> {
    match fs::read_link("/etc/localtime") {
        Ok(link) => Some(link.to_str()?.split_once("/zoneinfo/")?.1.to_owned()),
        Err(error) => (error.kind() == io::ErrorKind::NotFound).then(|| "UTC".to_owned()),
    }
}
