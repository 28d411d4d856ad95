//! Expressions in the words of systemd's timers, said and read.

use chrono_tz::Tz;

use crate::schedule::expression::{Expression, Field};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

impl Expression {
    /// The values for `OnCalendar=`, one a line: two where either day is enough. `zone` is put at
    /// their end. See systemd.time(7).
    pub fn calendars(&self, zone: Option<&str>) -> Vec<String> {
        let weekdays: Vec<&str> = (0_u32..)
            .zip(DAYS)
            .filter_map(|(day, name)| self.weekday.has(day).then_some(name))
            .collect();
        let weekdays = if weekdays.len() == DAYS.len() {
            String::new()
        } else {
            format!("{} ", weekdays.join(","))
        };
        let (days, months) = (list(self.day, 1, 31), list(self.month, 1, 12));
        let time = format!("{}:{}:00", list(self.hour, 0, 23), list(self.minute, 0, 59));
        let zone = zone.map_or(String::new(), |zone| format!(" {zone}"));
        let calendar =
            |weekdays: &str, days: &str| format!("{weekdays}*-{months}-{days} {time}{zone}");
        if self.either_day() {
            vec![calendar("", &days), calendar(&weekdays, "*")]
        } else {
            vec![calendar(&weekdays, &days)]
        }
    }
}

/// What a value of `OnCalendar=` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Calendar {
    /// When.
    pub expression: Expression,
    /// The zone at its end; `None` is the machine's.
    pub timezone: Option<String>,
}

/// The words that stand for a calendar.
const WORDS: [(&str, &str); 9] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];

impl Calendar {
    /// Reads a value of `OnCalendar=`; `None` where it has more than whole minutes of days of any
    /// year: seconds, years and days from the end of the month.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = text.split_whitespace().collect();
        let timezone = parts
            .pop_if(|last| last.parse::<Tz>().is_ok())
            .map(str::to_owned);
        let text = parts.join(" ");
        let known = WORDS
            .iter()
            .find(|(word, _)| text.eq_ignore_ascii_case(word));
        let text = known.map_or(text.as_str(), |(_, calendar)| calendar);
        let mut parts = text.split(' ').peekable();
        let is_day = |part: &&str| part.starts_with(|c: char| c.is_ascii_alphabetic());
        let weekday = parts.next_if(is_day);
        let date = parts.next_if(|part| part.contains('-'));
        let time = parts.next().unwrap_or("00:00");
        if parts.next().is_some() || text.is_empty() {
            return None;
        }
        let date: Vec<&str> = date.unwrap_or("*-*-*").split('-').collect();
        let (["*", month, day] | [month, day]) = date[..] else {
            return None;
        };
        let time: Vec<&str> = time.split(':').collect();
        let ([hour, minute] | [hour, minute, "0" | "00"]) = time[..] else {
            return None;
        };
        // Systemd wants both days; that is what cron makes of fields that begin with `*`.
        let any = |values: Vec<u32>| Field::of(values.into_iter(), true);
        let clock = |text, most| {
            let values = values(text, 0, most, number)?;
            Some(Field::of(values.into_iter(), text == "*"))
        };
        Some(Self {
            expression: Expression {
                minute: clock(minute, 59)?,
                hour: clock(hour, 23)?,
                day: any(values(day, 1, 31, number)?),
                month: any(values(month, 1, 12, number)?),
                weekday: any(match weekday {
                    // A week that begins on Monday, as systemd counts.
                    Some(days) => values(days, 1, 7, weekday_number)?
                        .into_iter()
                        .map(|day| day % 7)
                        .collect(),
                    None => (0..7).collect(),
                }),
            },
            timezone,
        })
    }
}

/// The values of a component: `*`, `a`, `a..b`, each with or without `/step`, and lists of them.
fn values(text: &str, least: u32, most: u32, number: fn(&str) -> Option<u32>) -> Option<Vec<u32>> {
    let mut values = Vec::new();
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse().ok().filter(|step| *step > 0)?)),
            None => (item, None),
        };
        let (first, last) = match range.split_once("..") {
            _ if range == "*" => (least, most),
            Some((first, last)) => (number(first)?, number(last)?),
            None if step.is_some() => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if first < least || last > most || first > last {
            return None;
        }
        values.extend((first..=last).step_by(step.unwrap_or(1)));
    }
    Some(values)
}

fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_number| plain)
}

/// Monday is 1 and Sunday 7.
fn weekday_number(text: &str) -> Option<u32> {
    const NAMES: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let text = text.to_ascii_lowercase();
    let is_named = |name: &&str| text == **name || text == name[..3];
    (1..)
        .zip(NAMES)
        .find_map(|(day, name)| is_named(&name).then_some(day))
}

fn list(field: Field, least: u32, most: u32) -> String {
    let values: Vec<String> = (least..=most)
        .filter(|value| field.has(*value))
        .map(|value| format!("{value:02}"))
        .collect();
    if values.len() == (least..=most).count() {
        "*".to_owned()
    } else {
        values.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_said_in_the_words_of_systemd() {
        for (expression, expected) in [
            ("0 * * * *", &["*-*-* *:00:00"] as &[_]),
            ("40 6 * * 1-5", &["Mon,Tue,Wed,Thu,Fri *-*-* 06:40:00"]),
            ("*/30 2 1 jan *", &["*-01-01 02:00,30:00"]),
            ("0 0 13 * fri", &["*-*-13 00:00:00", "Fri *-*-* 00:00:00"]),
        ] {
            assert_eq!(
                Expression::parse(expression).unwrap().calendars(None),
                expected
            );
        }
        for text in [
            "0 * * * *",
            "40 6 * * 1-5",
            "*/30 2 1 jan *",
            "@weekly",
            "7 0-23/3 * * 0",
            "0 0 13 * fri",
        ] {
            let expression = Expression::parse(text).unwrap();
            for said in expression.calendars(Some("Asia/Tokyo")) {
                let read = Calendar::parse(&said).unwrap();
                assert_eq!(read.timezone.as_deref(), Some("Asia/Tokyo"));
                let again = read.expression.calendars(Some("Asia/Tokyo"));
                assert_eq!(again, [said]);
            }
        }
        let zoned = Expression::parse("@weekly")
            .unwrap()
            .calendars(Some("Asia/Tokyo"));
        assert_eq!(zoned, ["Sun *-*-* 00:00:00 Asia/Tokyo"]);
    }
}
