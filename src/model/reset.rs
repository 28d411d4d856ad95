//! When a rate limit ends, from the forms in which agents say it.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The furthest reset that can be meant: monthly limits and some slack.
const FURTHEST_TOLD: TimeDelta = TimeDelta::days(40);

/// The furthest reset that is waited for: weekly limits and a day of slack.
pub const FURTHEST_RESET: Duration = Duration::from_secs(8 * 24 * 3600);

/// For how long a time without a date is still today's after its minute.
const JUST_OVER: TimeDelta = TimeDelta::minutes(2);

/// The end of a limit as an agent told it, before it is set against a clock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ResetHint {
    /// At this moment.
    At(DateTime<Utc>),
    /// This long after the agent said so.
    After(Duration),
    /// At a time on the wall of a zone.
    WallClock {
        /// The date, if told; without one the next such time is meant.
        date: Option<NaiveDate>,
        /// The time of day.
        time: NaiveTime,
        /// The zone it is told in; `None` is the machine's.
        zone: Option<Tz>,
    },
}

impl ResetHint {
    /// The moment it means for somebody who hears it at `now` in the zone `local`.
    ///
    /// A time without a date is the end of its minute, of which the limit may take all; one that is
    /// just over is `now`, and not tomorrow's.
    /// A time that the zone's clock skips is taken as the first moment after the gap, one that it
    /// shows twice as the first that is still to come. A moment more than [`FURTHEST_RESET`] ahead is
    /// taken as that far ahead; `None` when it lies more than 40 days ahead and so cannot be meant.
    pub fn resolve<Z: TimeZone>(&self, now: DateTime<Utc>, local: &Z) -> Option<DateTime<Utc>> {
        let moment = match self {
            Self::At(moment) => *moment,
            Self::After(wait) => now.checked_add_signed(TimeDelta::from_std(*wait).ok()?)?,
            Self::WallClock {
                date,
                time,
                zone: Some(zone),
            } => wall(now, zone, *date, *time)?,
            Self::WallClock {
                date,
                time,
                zone: None,
            } => wall(now, local, *date, *time)?,
        };
        let furthest = now.checked_add_signed(TimeDelta::from_std(FURTHEST_RESET).ok()?)?;
        (moment <= now.checked_add_signed(FURTHEST_TOLD)?).then(|| moment.min(furthest))
    }
}

/// What hints meant when they were told: at the end of a run a time of day may be another day's.
#[derive(Debug, Default)]
pub struct ToldResets(Vec<(ResetHint, Option<DateTime<Utc>>)>);

impl ToldResets {
    /// The most hints that are kept, the newest.
    const MAX: usize = 100;

    /// Takes a hint that is told at `now`. A time of day that was told before is still the same.
    pub fn hear<Z: TimeZone>(
        &mut self,
        hint: &ResetHint,
        now: DateTime<Utc>,
        local: &Z,
    ) -> Option<DateTime<Utc>> {
        let moment = match hint {
            ResetHint::WallClock { .. } => self.meant(hint, now, local),
            ResetHint::At(_) | ResetHint::After(_) => hint.resolve(now, local),
        };
        self.0.retain(|(told, _)| told != hint);
        self.0.truncate(Self::MAX - 1);
        self.0.insert(0, (hint.clone(), moment));
        moment
    }

    /// The moment that a hint meant when it was last told, or means at `now` if it never was.
    pub fn meant<Z: TimeZone>(
        &self,
        hint: &ResetHint,
        now: DateTime<Utc>,
        local: &Z,
    ) -> Option<DateTime<Utc>> {
        match self.0.iter().find(|(told, _)| told == hint) {
            Some((_, moment)) => *moment,
            None => hint.resolve(now, local),
        }
    }
}

fn wall<Z: TimeZone>(
    now: DateTime<Utc>,
    zone: &Z,
    date: Option<NaiveDate>,
    time: NaiveTime,
) -> Option<DateTime<Utc>> {
    if let Some(date) = date {
        return moment(zone, date.and_time(time));
    }
    let today = now.with_timezone(zone).date_naive();
    (-1..=1)
        .filter_map(|days| today.checked_add_signed(TimeDelta::days(days)))
        .filter_map(|day| moments(zone, day.and_time(time)))
        .flatten()
        .map(|began| began + TimeDelta::minutes(1))
        .find(|end| *end + JUST_OVER >= now)
        .map(|end| end.max(now))
}

/// When the day of `now` began on the clock of a zone.
pub fn day_began<Z: TimeZone>(now: DateTime<Utc>, zone: &Z) -> DateTime<Utc> {
    let today = now.with_timezone(zone).date_naive();
    moment(zone, today.and_time(NaiveTime::MIN)).map_or(now, |began| began.min(now))
}

/// When a zone's clock first shows a time, or the next one that it shows.
pub(crate) fn moment<Z: TimeZone>(zone: &Z, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    moments(zone, wall).map(|[first, _second]| first)
}

/// When a zone's clock shows a time: at two moments, where it is set back between them.
fn moments<Z: TimeZone>(zone: &Z, wall: NaiveDateTime) -> Option<[DateTime<Utc>; 2]> {
    // A gap is at most a day long (Samoa skipped one); steps of a quarter hour find its end.
    (0..=96)
        .filter_map(|quarters| wall.checked_add_signed(TimeDelta::minutes(15 * quarters)))
        .find_map(|wall| {
            let found = zone.from_local_datetime(&wall);
            Some([found.clone().earliest()?, found.latest()?])
        })
        .map(|found| {
            let mut found = found.map(|moment| moment.with_timezone(&Utc));
            // `Local` names the later one first.
            found.sort_unstable();
            found
        })
}

/// Reads a clock time and what may stand round it: `2:33 AM`, `7pm (UTC)`, `2:51am
/// (Europe/Berlin)`, `Feb 24th, 2026 12:41 PM`.
///
/// The whole text must be of that form, but for a final period.
pub fn parse_wall_clock(text: &str) -> Option<ResetHint> {
    let text = text.trim().trim_end_matches('.').trim();
    let (text, zone) = match text.split_once('(') {
        Some((text, zone)) => (
            text.trim(),
            Some(zone.strip_suffix(')')?.trim().parse::<Tz>().ok()?),
        ),
        None => (text, None),
    };
    let (date, clock) = match text.rsplit_once(", ") {
        // `Feb 24th, 2026 12:41 PM`: the year stands before the time.
        Some((day, rest)) => match rest.split_once(' ') {
            Some((year, clock)) if year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()) => {
                (Some(parse_date(day, year)?), clock)
            }
            _ => return None,
        },
        None => (None, text),
    };
    Some(ResetHint::WallClock {
        date,
        time: parse_clock(clock)?,
        zone,
    })
}

/// Reads the wait with which a text begins: `2s.`, `30 seconds`, `1h 30m`, `1.898s`.
///
/// `None` where it begins with something else, or counts in a unit that is no unit of time.
pub fn parse_wait(text: &str) -> Option<ResetHint> {
    let mut rest = text.trim_start();
    let mut seconds = None;
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        rest = rest[number.len()..].trim_start();
        let unit = leading(rest, |c| c.is_ascii_alphabetic());
        rest = rest[unit.len()..].trim_start();
        let scale = match unit {
            "ms" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => return None,
        };
        seconds = Some(seconds.unwrap_or(0.0) + number.parse::<f64>().ok()? * scale);
    }
    Duration::try_from_secs_f64(seconds?)
        .ok()
        .map(ResetHint::After)
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !belongs(c)).unwrap_or(text.len())]
}

fn parse_date(day: &str, year: &str) -> Option<NaiveDate> {
    let day = day.trim_end_matches(|c: char| c.is_ascii_lowercase());
    NaiveDate::parse_from_str(&format!("{day} {year}"), "%b %d %Y").ok()
}

fn parse_clock(text: &str) -> Option<NaiveTime> {
    let lower = text.trim().to_ascii_lowercase().replace(' ', "");
    let (digits, afternoon) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(false)),
        (_, Some(digits)) => (digits, Some(true)),
        (None, None) => (lower.as_str(), None),
    };
    let (hour, minute) = digits.split_once(':').unwrap_or((digits, "0"));
    let (hour, minute) = (hour.parse::<u32>().ok()?, minute.parse::<u32>().ok()?);
    let hour = match afternoon {
        None if digits.contains(':') => hour,
        None => return None,
        Some(_) if hour == 0 || hour > 12 => return None,
        Some(pm) => hour % 12 + if pm { 12 } else { 0 },
    };
    NaiveTime::from_hms_opt(hour, minute, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn resolve(text: &str, now: &str, local: Tz) -> Option<String> {
        let moment = parse_wall_clock(text)?.resolve(at(now), &local)?;
        Some(moment.format("%F %R").to_string())
    }

    #[test]
    fn a_time_without_a_date_is_the_next_such_time_in_its_zone() {
        let berlin = chrono_tz::Europe::Berlin;
        let now = "2026-02-19T20:00:00Z";
        assert_eq!(
            resolve("2:33 AM", now, Tz::UTC).unwrap(),
            "2026-02-20 02:34"
        );
        assert_eq!(
            resolve("2:33 AM.", now, berlin).unwrap(),
            "2026-02-20 01:34"
        );
        assert_eq!(resolve("8pm", now, berlin), Some("2026-02-20 19:01".into()));
        assert_eq!(
            resolve("10pm (Europe/Berlin)", now, Tz::UTC).unwrap(),
            "2026-02-19 21:01"
        );
        assert_eq!(
            resolve("7pm (UTC)", now, berlin).unwrap(),
            "2026-02-20 19:01"
        );
        assert_eq!(
            resolve("12:00am (UTC)", now, berlin).unwrap(),
            "2026-02-20 00:01"
        );
    }

    #[test]
    fn a_time_that_is_just_over_is_not_tomorrows() {
        for (now, expected) in [
            ("2026-02-19T23:58:59Z", "2026-02-20 00:00:00"),
            ("2026-02-19T23:59:40Z", "2026-02-20 00:00:00"),
            ("2026-02-20T00:01:40Z", "2026-02-20 00:01:40"),
            ("2026-02-20T00:02:01Z", "2026-02-21 00:00:00"),
        ] {
            let hint = parse_wall_clock("11:59 PM").unwrap();
            let moment = hint.resolve(at(now), &Tz::UTC).unwrap();
            assert_eq!(moment.format("%F %T").to_string(), expected, "{now}");
        }
    }

    #[test]
    fn a_hint_means_what_it_meant_when_it_was_told() {
        let (early, late) = (at("2026-02-20T00:40:00Z"), at("2026-02-20T01:40:00Z"));
        let mut told = ToldResets::default();
        let clock = parse_wall_clock("12:51 AM").unwrap();
        let wait = ResetHint::After(Duration::from_secs(60));
        for now in [early, late] {
            let clock = told.hear(&clock, now, &Tz::UTC);
            assert_eq!(clock, Some(at("2026-02-20T00:52:00Z")));
            let wait = told.hear(&wait, now, &Tz::UTC);
            assert_eq!(wait, Some(now + TimeDelta::seconds(60)));
        }
        let end = at("2026-02-20T03:00:00Z");
        let moment = at("2026-02-20T00:52:00Z");
        assert_eq!(told.meant(&clock, end, &Tz::UTC), Some(moment));
        assert_eq!(
            told.meant(&wait, end, &Tz::UTC),
            Some(at("2026-02-20T01:41:00Z"))
        );
        let unheard = ResetHint::After(Duration::ZERO);
        assert_eq!(told.meant(&unheard, end, &Tz::UTC), Some(end));
    }

    #[test]
    fn a_date_is_taken_as_told_and_as_eight_days_ahead_when_it_is_further() {
        let now = "2026-02-19T20:00:00Z";
        let text = "Feb 24th, 2026 12:41 PM";
        assert_eq!(resolve(text, now, Tz::UTC).unwrap(), "2026-02-24 12:41");
        let text = "Mar 24th, 2026 12:41 PM";
        assert_eq!(resolve(text, now, Tz::UTC).unwrap(), "2026-02-27 20:00");
        assert_eq!(resolve("Apr 24th, 2026 12:41 PM", now, Tz::UTC), None);
    }

    #[test]
    fn a_time_that_daylight_saving_skips_is_the_end_of_the_gap() {
        // 02:30 does not exist in Berlin on 2027-03-28; the clock goes from 02:00 to 03:00.
        let now = "2027-03-28T00:00:00Z";
        assert_eq!(
            resolve("2:30am", now, chrono_tz::Europe::Berlin).unwrap(),
            "2027-03-28 01:01"
        );
    }

    #[test]
    fn a_time_that_the_clock_shows_twice_is_the_next_of_both() {
        // In Berlin 02:30 came at 00:30 UTC and again at 01:30 on 2026-10-25.
        let berlin = chrono_tz::Europe::Berlin;
        for (now, expected) in [
            ("2026-10-25T00:00:00Z", "2026-10-25 00:31"),
            ("2026-10-25T01:00:00Z", "2026-10-25 01:31"),
            ("2026-10-25T02:00:00Z", "2026-10-26 01:31"),
        ] {
            assert_eq!(resolve("2:30am", now, berlin).unwrap(), expected, "{now}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_zone_or_where_the_clock_skips_it_behind_the_gap() {
        for (zone, now, began) in [
            (
                chrono_tz::Europe::Berlin,
                "2026-02-19T22:59:59Z",
                "2026-02-18 23:00",
            ),
            (
                chrono_tz::Europe::Berlin,
                "2026-02-19T23:00:00Z",
                "2026-02-19 23:00",
            ),
            // The days on which the clock was set forward and back.
            (
                chrono_tz::Europe::Berlin,
                "2026-03-29T20:00:00Z",
                "2026-03-28 23:00",
            ),
            (
                chrono_tz::Europe::Berlin,
                "2026-10-25T20:00:00Z",
                "2026-10-24 22:00",
            ),
            // There was no midnight.
            (
                chrono_tz::America::Sao_Paulo,
                "2018-11-04T12:00:00Z",
                "2018-11-04 03:00",
            ),
        ] {
            let found = day_began(at(now), &zone).format("%F %R").to_string();
            assert_eq!(found, began, "{now}");
        }
    }

    #[test]
    fn a_wait_is_read_from_the_beginning_of_a_text() {
        for (text, millis) in [
            ("2s. Visit the page.", 2_000),
            ("3600s.]", 3_600_000),
            ("30 seconds.", 30_000),
            ("1h 30m", 5_400_000),
            ("3 days 4 hours 9 minutes.", 274_140_000),
            ("1.898s", 1_898),
            ("20ms", 20),
        ] {
            let wait = ResetHint::After(Duration::from_millis(millis));
            assert_eq!(parse_wait(text), Some(wait), "{text:?}");
        }
        for text in [
            "",
            "a while",
            "5 apples",
            "2",
            "1.2.3s",
            "99999999999999999999d",
        ] {
            assert_eq!(parse_wait(text), None, "{text:?}");
        }
    }

    #[test]
    fn other_texts_are_no_time() {
        for text in [
            "",
            "soon",
            "25:00",
            "13pm",
            "7",
            "7pm (Nowhere/Land)",
            "7pm (UTC",
            "in 5 minutes",
        ] {
            assert_eq!(parse_wall_clock(text), None, "{text:?}");
        }
    }
}
