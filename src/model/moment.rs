//! A moment as a person writes it: so long ago, a day, or an exact time.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use thiserror::Error;

use crate::model::duration;
use crate::model::reset;

/// Why a text is no moment.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "`{0}` is no time: write `3h` or `30d` (ago), `2026-11-20` (a day of this machine's zone), \
     or `2026-11-20T06:30:00Z`"
)]
pub struct MomentError(String);

/// A moment as it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// So long before now.
    Ago(Duration),
    /// A day.
    Day(NaiveDate),
    /// A time.
    At(DateTime<Utc>),
}

/// Reads a moment.
///
/// # Errors
/// When the text is none.
pub fn parse(text: &str) -> Result<Moment, MomentError> {
    let text = text.trim();
    if let Ok(day) = text.parse() {
        return Ok(Moment::Day(day));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.to_utc()));
    }
    let ago = duration::parse(text).map(Moment::Ago);
    ago.map_err(|_source| MomentError(text.to_owned()))
}

impl Moment {
    /// The time itself; of a day its first moment.
    pub fn begin<Z: TimeZone>(self, now: DateTime<Utc>, zone: &Z) -> DateTime<Utc> {
        match self {
            Self::Ago(ago) => TimeDelta::from_std(ago)
                .ok()
                .and_then(|ago| now.checked_sub_signed(ago))
                .unwrap_or(DateTime::<Utc>::MIN_UTC),
            Self::Day(day) => midnight(day, zone),
            Self::At(time) => time,
        }
    }

    /// The first time after it: of a day the next day's first moment.
    pub fn end<Z: TimeZone>(self, now: DateTime<Utc>, zone: &Z) -> DateTime<Utc> {
        match self {
            Self::Day(day) => midnight(day.checked_add_days(Days::new(1)).unwrap_or(day), zone),
            Self::Ago(_) | Self::At(_) => self.begin(now, zone),
        }
    }
}

/// The first moment of a day; where clocks were set over midnight, that is later.
fn midnight<Z: TimeZone>(day: NaiveDate, zone: &Z) -> DateTime<Utc> {
    let start = day.and_time(NaiveTime::MIN);
    reset::moment(zone, start).unwrap_or_else(|| start.and_utc())
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    #[test]
    fn a_moment_is_written_in_three_ways_and_a_day_is_the_zones_own() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let taipei: Tz = "Asia/Taipei".parse().unwrap();
        let told = |text: &str, zone: &Tz| {
            let moment = parse(text).unwrap();
            let (begin, end) = (moment.begin(now, zone), moment.end(now, zone));
            format!("{} {}", begin.format("%dT%H:%M"), end.format("%dT%H:%M"))
        };
        assert_eq!(told("3h", &taipei), "20T09:00 20T09:00");
        assert_eq!(told("2d", &taipei), "18T12:00 18T12:00");
        assert_eq!(told("2026-11-20", &taipei), "19T16:00 20T16:00");
        assert_eq!(
            told("2026-11-20T06:30:00+02:00", &taipei),
            "20T04:30 20T04:30"
        );
        // There was no midnight on that day.
        let sao_paulo: Tz = "America/Sao_Paulo".parse().unwrap();
        assert_eq!(told("2018-11-04", &sao_paulo), "04T03:00 05T02:00");
        for text in ["", "yesterday", "2026-13-01", "-3h", "2026-11-20 06:30"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
