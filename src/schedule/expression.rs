//! A cron expression: five fields, or a word such as `@daily`.
//!
//! ```text
//! */15 0-6/2 1,15 jan-mar mon     minute, hour, day of the month, month, day of the week
//! ```

use chrono::{Datelike as _, NaiveDateTime, Timelike as _};

use crate::model::text;

/// The words that stand for an expression. `@reboot` is no time and so no schedule.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field of a cron expression: its name, its range, and the words for its first numbers.
struct Form {
    name: &'static str,
    least: u32,
    most: u32,
    words: &'static [&'static str],
}

const FORMS: [Form; 5] = [
    form("minute", 0, 59, &[]),
    form("hour", 0, 23, &[]),
    form("day of the month", 1, 31, &[]),
    form("month", 1, 12, MONTHS),
    form("day of the week", 0, 7, DAYS),
];

const fn form(name: &'static str, least: u32, most: u32, words: &'static [&'static str]) -> Form {
    Form {
        name,
        least,
        most,
        words,
    }
}

/// The values of a field that are due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Field {
    bits: u64,
    /// It begins with `*`, which is what cron looks at, be it `*/2`.
    star: bool,
}

impl Field {
    pub(crate) fn has(self, value: u32) -> bool {
        self.bits & (1 << value) != 0
    }

    /// The field with these values, each below 64.
    pub(crate) fn of(values: impl Iterator<Item = u32>, star: bool) -> Self {
        let bits = values.fold(0, |bits, value| bits | 1_u64 << value);
        Self { bits, star }
    }

    fn parse(text: &str, form: &Form) -> Option<Self> {
        let mut bits = 0;
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                // A step needs a range: `5/10` is read differently by every cron.
                Some((range, _)) if range != "*" && !range.contains('-') => return None,
                Some((range, step)) => (range, digits(step).filter(|step| *step > 0)?),
                None => (item, 1),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (form.least, form.most),
                Some((first, last)) => (form.number(first)?, form.number(last)?),
                None => {
                    let number = form.number(range)?;
                    (number, number)
                }
            };
            if first > last {
                return None;
            }
            let step = usize::try_from(step).ok()?;
            for value in (first..=last).step_by(step) {
                bits |= 1_u64 << value;
            }
        }
        let star = text.starts_with('*');
        Some(Self { bits, star })
    }
}

fn digits(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_number| plain)
}

impl Form {
    fn number(&self, text: &str) -> Option<u32> {
        let mut words = (self.least..).zip(self.words);
        words
            .find_map(|(number, word)| text.eq_ignore_ascii_case(word).then_some(number))
            .or_else(|| digits(text))
            .filter(|number| (self.least..=self.most).contains(number))
    }
}

/// When something is due, by the clock of some zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expression {
    pub(crate) minute: Field,
    pub(crate) hour: Field,
    pub(crate) day: Field,
    pub(crate) month: Field,
    /// Sunday is 0.
    pub(crate) weekday: Field,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields = match WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, fields)) => fields,
            None if text.starts_with('@') => {
                let known = text::suggest(text, WORDS.iter().map(|(word, _)| *word));
                return Err(format!("`{text}` is unknown; {known}"));
            }
            None => text,
        };
        let parts: Vec<&str> = fields.split(' ').filter(|part| !part.is_empty()).collect();
        if parts.len() != FORMS.len() {
            return Err(format!(
                "`{text}` is no cron expression: it has five fields, as in `30 6 * * 1-5`"
            ));
        }
        let field = |at: usize| {
            let form = &FORMS[at];
            Field::parse(parts[at], form).ok_or_else(|| {
                let (part, name) = (parts[at], form.name);
                let (least, most) = (form.least, form.most);
                format!("`{part}` is no {name}: {least} to {most}, `*`, `a-b`, `a,b` or `*/n`")
            })
        };
        let (minute, hour, day, month) = (field(0)?, field(1)?, field(2)?, field(3)?);
        let mut weekday = field(4)?;
        weekday.bits |= weekday.bits >> 7 & 1;
        Ok(Self {
            minute,
            hour,
            day,
            month,
            weekday,
        })
    }

    /// Whether it follows the clock wherever that jumps, as cron treats expressions whose minute or
    /// hour begins with `*`. The others are due once a time of the day, even if the clock shows that
    /// twice or not at all.
    pub(crate) fn is_wild(&self) -> bool {
        self.minute.star || self.hour.star
    }

    /// Whether either day is enough: so where both are restricted.
    pub(crate) fn either_day(&self) -> bool {
        !self.day.star && !self.weekday.star
    }

    /// Whether some year has a day for it: none has a February 30th.
    pub fn has_a_day(&self) -> bool {
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut months = (1..=12).filter(|month| self.month.has(*month));
        self.either_day() || months.any(|month| (1..=longest(month)).any(|day| self.day.has(day)))
    }

    pub(crate) fn matches(&self, local: NaiveDateTime) -> bool {
        self.minute.has(local.minute()) && self.matches_hour(local)
    }

    /// Whether some minute of this hour may match.
    pub(crate) fn matches_hour(&self, local: NaiveDateTime) -> bool {
        let day = self.day.has(local.day());
        let weekday = self.weekday.has(local.weekday().num_days_from_sunday());
        let is_day = if self.either_day() {
            day || weekday
        } else {
            day && weekday
        };
        is_day && self.month.has(local.month()) && self.hour.has(local.hour())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_expressions_are_accepted_and_nonsense_is_refused() {
        for text in [
            "* * * * *",
            "30 6 * * 1-5",
            "*/15 0-6/2 1,15,31 jan,MAR-dec 7",
            " 0  0 1 1 Sun ",
            "@daily",
        ] {
            assert!(Expression::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "*",
            "@reboot",
            "@",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "*/+5 * * * *",
            "5-x * * * *",
            "x-5 * * * *",
            "5/10 * * * *",
            "9-5 * * * *",
            "1, * * * *",
            "-1 * * * *",
            "+1 * * * *",
            "* * * mon *",
            "% * * * *",
            "*\n* * * *",
            "1-2-3 * * * *",
        ] {
            assert!(Expression::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_expression_without_a_day_in_any_year_is_known() {
        for (text, has_a_day) in [
            ("0 0 29 2 *", true),
            ("0 0 30 2 *", false),
            ("0 0 31 2,4,6,9,11 *", false),
            ("0 0 31 2,5 *", true),
            ("0 0 30,31 2 */2", false),
            ("0 0 31 2 mon", true),
        ] {
            let expression = Expression::parse(text).unwrap();
            assert_eq!(expression.has_a_day(), has_a_day, "{text}");
        }
    }

    #[test]
    fn either_day_is_enough_where_both_are_restricted() {
        let is_due = |text: &str, day: u32| {
            let date = chrono::NaiveDate::from_ymd_opt(2026, 2, day).unwrap();
            let expression = Expression::parse(text).unwrap();
            expression.matches(date.and_hms_opt(0, 0, 0).unwrap())
        };
        // 2026-02-13 is a Friday.
        for (text, due) in [
            ("0 0 13 * fri", [6, 13].as_slice()),
            ("0 0 13 * *", &[13]),
            ("0 0 * * 5", &[6, 13]),
            ("0 0 * * 7", &[1, 8]),
            ("0 0 */2 * fri", &[13]),
        ] {
            for day in 1..=13 {
                assert_eq!(is_due(text, day), due.contains(&day), "{text} on day {day}");
            }
        }
    }
}
