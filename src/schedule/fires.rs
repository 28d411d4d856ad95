//! The moments at which an expression is due, as an always running cron sees them.
//!
//! Cron looks at the clock of the zone each minute. Where that clock jumps by at most three hours,
//! as twice a year, an expression with a fixed time of the day is due once: what lies in a gap
//! right after it, what the clock shows twice the first time. Expressions that follow the clock
//! (`*` in minute or hour) are due whenever it shows their time. See cron(8). Of several times in a
//! gap Debian's cron starts each, one after another; here they count as one, since they are one
//! start that is late.

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::schedule::Zone;
use crate::schedule::expression::Expression;

/// A larger jump of the clock is a clock that is set.
const MAX_JUMP_MINUTES: i64 = 180;
/// Long enough before a moment for every jump that still matters then.
const RUN_UP_MINUTES: i64 = 2 * MAX_JUMP_MINUTES;
/// February 29th may be eight years off.
const HORIZON_MINUTES: i64 = 9 * 366 * 24 * 60;

impl Expression {
    /// The moments at which it is due, after `after` and not after `until`.
    pub fn fires(
        &self,
        zone: Zone,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let last = until.timestamp().div_euclid(60);
        let first = after.timestamp().div_euclid(60) + 1;
        let start = (first - RUN_UP_MINUTES).div_euclid(60) * 60;
        let walk = Walk {
            expression: *self,
            zone,
            minute: start,
            last,
            offset: offset(zone, start - 1),
            done: i64::MIN,
        };
        walk.skip_while(move |minute| *minute < first)
            .filter_map(|minute| DateTime::from_timestamp(minute * 60, 0))
    }

    /// The next moment at which it is due; `None` when there is none, as for February 30th.
    pub fn next(&self, zone: Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let horizon = chrono::TimeDelta::minutes(HORIZON_MINUTES);
        self.fires(zone, after, after.checked_add_signed(horizon)?)
            .next()
    }
}

/// Minutes east of UTC.
fn offset(zone: Zone, minute: i64) -> i64 {
    DateTime::from_timestamp(minute.saturating_mul(60), 0)
        .map_or(0, |at| zone.offset(at).div_euclid(60))
}

/// Minute by minute; all times are minutes since 1970, in UTC or by the zone's clock.
struct Walk {
    expression: Expression,
    zone: Zone,
    minute: i64,
    last: i64,
    /// Before `minute`.
    offset: i64,
    /// Fixed times up to this one have had their turn before the clock went back.
    done: i64,
}

impl Walk {
    fn shows(&self, local: i64, test: fn(&Expression, NaiveDateTime) -> bool) -> bool {
        let at = DateTime::from_timestamp(local * 60, 0);
        at.is_some_and(|at| test(&self.expression, at.naive_utc()))
    }

    fn is_due(&self, local: i64) -> bool {
        (self.expression.is_wild() || local > self.done) && self.shows(local, Expression::matches)
    }

    /// Whether nothing can be due in the hour from `minute` on.
    fn is_dull_hour(&self) -> bool {
        let end = self.minute + 59;
        let may_match = |local| self.shows(local, Expression::matches_hour);
        self.minute % 60 == 0
            && !may_match(self.minute + self.offset)
            && !may_match(end + self.offset)
            && offset(self.zone, end) == self.offset
    }
}

impl Iterator for Walk {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        while self.minute <= self.last {
            if self.is_dull_hour() {
                self.minute += 60;
                continue;
            }
            let minute = self.minute;
            let before = minute - 1 + self.offset;
            let jump = offset(self.zone, minute) - self.offset;
            let local = before + 1 + jump;
            self.offset += jump;
            self.minute += 1;
            if jump.abs() > MAX_JUMP_MINUTES {
                self.done = i64::MIN;
            } else if jump < 0 {
                self.done = self.done.max(before);
            }
            let is_due = if (1..=MAX_JUMP_MINUTES).contains(&jump) && !self.expression.is_wild() {
                (before + 1..=local).any(|local| self.is_due(local))
            } else {
                self.is_due(local)
            };
            if is_due {
                return Some(minute);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(expression: &str, zone: &str, day: &str, expected: &[&str]) {
        let zone = Zone::of(Some(zone));
        let after = at(&format!("{day}T00:00:00Z")) - TimeDelta::seconds(1);
        let fires = Expression::parse(expression)
            .unwrap()
            .fires(zone, after, after + TimeDelta::hours(22))
            .map(|fire| zone.shows(fire)[11..].to_owned());
        assert_eq!(fires.collect::<Vec<_>>(), expected, "{expression}");
    }

    #[test]
    fn a_fixed_time_in_a_gap_is_due_once_after_it() {
        let spring = |expression, expected: &[&str]| {
            check(expression, "Europe/Berlin", "2027-03-28", expected);
        };
        spring("30 2 * * *", &["03:00 +02:00"]);
        spring("0,20,40 2 * * *", &["03:00 +02:00"]);
        spring("0 3 * * *", &["03:00 +02:00"]);
        spring("0 2,3 * * *", &["03:00 +02:00"]);
        spring("10 1,4 * * *", &["01:10 +01:00", "04:10 +02:00"]);
        spring(
            "*/30 1-3 * * *",
            &[
                "01:00 +01:00",
                "01:30 +01:00",
                "03:00 +02:00",
                "03:30 +02:00",
            ],
        );
        spring(
            "30 */2 28 3 *",
            &[
                "04:30 +02:00",
                "06:30 +02:00",
                "08:30 +02:00",
                "10:30 +02:00",
                "12:30 +02:00",
                "14:30 +02:00",
                "16:30 +02:00",
                "18:30 +02:00",
                "20:30 +02:00",
                "22:30 +02:00",
            ],
        );
    }

    #[test]
    fn a_fixed_time_that_the_clock_shows_twice_is_due_once() {
        let autumn = |expression, expected: &[&str]| {
            check(expression, "Europe/Berlin", "2027-10-31", expected);
        };
        autumn("30 2 * * *", &["02:30 +02:00"]);
        autumn("0 3 * * *", &["03:00 +01:00"]);
        autumn(
            "*/30 2 * * *",
            &[
                "02:00 +02:00",
                "02:30 +02:00",
                "02:00 +01:00",
                "02:30 +01:00",
            ],
        );
        // Half an hour, and south of the equator.
        check(
            "45 1 4 4 *",
            "Australia/Lord_Howe",
            "2027-04-03",
            &["01:45 +11:00"],
        );
        check(
            "15 2 3 10 *",
            "Australia/Lord_Howe",
            "2027-10-02",
            &["02:30 +11:00"],
        );
    }

    #[test]
    fn a_day_that_a_zone_left_out_is_no_gap_to_catch_up() {
        check("0 12 30 12 *", "Pacific/Apia", "2011-12-29", &[]);
        check("0 12 30 12 *", "Pacific/Apia", "2011-12-30", &[]);
    }

    #[test]
    fn the_next_fire_is_found_years_ahead_and_not_where_there_is_none() {
        let next = |expression: &str, after: &str| {
            let expression = Expression::parse(expression).unwrap();
            let next = expression.next(Zone::of(Some("UTC")), at(after));
            next.map(|next| next.to_string())
        };
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(
            next("0 0 29 2 *", "2096-03-01T00:00:00Z"),
            found("2104-02-29 00:00:00 UTC")
        );
        assert_eq!(next("0 0 30 2 *", "2026-01-01T00:00:00Z"), None);
        assert_eq!(
            next("@hourly", "2026-01-01T05:00:00Z"),
            found("2026-01-01 06:00:00 UTC")
        );
        assert_eq!(
            next("* * * * *", "2026-01-01T05:00:59.5Z"),
            found("2026-01-01 05:01:00 UTC")
        );
        // The ends of time are no reason to panic.
        for far in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            Expression::parse("@hourly")
                .unwrap()
                .next(Zone::of(Some("UTC")), far);
        }
    }

    const ZONES: &[&str] = &[
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "America/St_Johns",
        "Africa/Casablanca",
        "Pacific/Apia",
    ];

    fn fields() -> impl Strategy<Value = String> {
        (
            prop::sample::select(vec!["0", "30", "5,35", "10-50/20", "59"]),
            prop::sample::select(vec!["0", "1", "2", "3", "0-6/2", "23", "1,2,3"]),
            prop::sample::select(vec!["*", "1", "28-31"]),
            prop::sample::select(vec!["*", "3", "10", "1-6"]),
            prop::sample::select(vec!["*", "0", "mon-fri"]),
        )
            .prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
    }

    proptest! {
        /// Once a day that it names, whatever the clock does on that day.
        #[test]
        fn a_fixed_time_is_due_exactly_once_on_every_day(
            zone in prop::sample::select(ZONES), hour in 0_u32..24, minute in 0_u32..60,
            day in 0_i64..3650,
        ) {
            let zone = Zone::of(Some(zone));
            let text = format!("{minute} {hour} * * *");
            let expression = Expression::parse(&text).unwrap();
            let after = at("2012-02-01T11:30:30Z") + TimeDelta::days(day);
            let fires: Vec<_> = expression.fires(zone, after, after + TimeDelta::days(30)).collect();
            // Not counting the ends, where an hour may be gained or lost.
            prop_assert!((29..=31).contains(&fires.len()), "{fires:?}");
            for pair in fires.windows(2) {
                let apart = (pair[1] - pair[0]).num_minutes();
                prop_assert!((20 * 60..=28 * 60).contains(&apart), "{pair:?}");
            }
        }

        /// A window may be cut anywhere, and the next fire is the first of those to come.
        #[test]
        fn fires_do_not_depend_on_where_one_begins_to_look(
            zone in prop::sample::select(ZONES), text in fields(),
            start in 0_i64..5_000_000, cut in 0_i64..100_000, wild in any::<bool>(),
        ) {
            let zone = Zone::of(Some(zone));
            let text = if wild { format!("*/7 {}", text.split_once(' ').unwrap().1) } else { text };
            let expression = Expression::parse(&text).unwrap();
            let from = at("2020-01-01T00:00:00Z") + TimeDelta::minutes(start);
            let middle = from + TimeDelta::minutes(cut);
            let to = middle + TimeDelta::days(40);
            let fires = |after, until| expression.fires(zone, after, until).collect::<Vec<_>>();
            let mut both = fires(from, middle);
            both.extend(fires(middle, to));
            prop_assert_eq!(&both, &fires(from, to));
            if let Some(first) = both.first() {
                prop_assert_eq!(expression.next(zone, from), Some(*first));
            }
        }

        /// Another implementation agrees where the clock does not jump.
        #[test]
        fn a_second_opinion_agrees(text in fields(), start in 0_i64..5_000_000) {
            let from = at("2020-01-01T00:00:00Z") + TimeDelta::minutes(start);
            let to = from + TimeDelta::days(60);
            let theirs: Vec<_> = text
                .parse::<croner::Cron>()
                .unwrap()
                .iter_from(from, croner::Direction::Forward)
                .take_while(|fire| *fire <= to)
                .filter(|fire| *fire > from)
                .collect();
            let zone = Zone::of(Some("UTC"));
            let ours: Vec<_> = Expression::parse(&text).unwrap().fires(zone, from, to).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
