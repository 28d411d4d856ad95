//! Whether a text is a cron expression: five fields, or a word such as `@daily`.
//!
//! Only the form is checked here; when a task is due is not this room's business. `@reboot` is no
//! time and so no schedule.

use crate::config::value::choose;

const SHORTHANDS: [&str; 7] = [
    "@hourly",
    "@daily",
    "@midnight",
    "@weekly",
    "@monthly",
    "@yearly",
    "@annually",
];
const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field of a cron expression: its name, its range, and the words for its first numbers.
const FIELDS: [(&str, usize, usize, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, DAYS),
];

/// Says what is wrong with a cron expression.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.starts_with('@') {
        return choose(text, &SHORTHANDS.map(|word| (word, ())));
    }
    let parts: Vec<&str> = text.split(' ').filter(|part| !part.is_empty()).collect();
    if parts.len() != FIELDS.len() {
        return Err(format!(
            "`{text}` is no cron expression: it has five fields, as in `30 6 * * 1-5`"
        ));
    }
    for (part, (name, least, most, words)) in parts.into_iter().zip(FIELDS) {
        let digits = |text: &str| -> Option<usize> {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_number| plain)
        };
        let number = |text: &str| {
            let word = words
                .iter()
                .position(|word| text.eq_ignore_ascii_case(word));
            word.map(|at| at + least)
                .or_else(|| digits(text))
                .filter(|number| (least..=most).contains(number))
        };
        let range = |text: &str| match text.split_once('-') {
            Some((first, last)) => number(first) <= number(last) && number(first).is_some(),
            None => text == "*",
        };
        let item = |text: &str| match text.split_once('/') {
            Some((text, step)) => range(text) && digits(step).is_some_and(|step| step > 0),
            None => range(text) || number(text).is_some(),
        };
        if !part.split(',').all(item) {
            return Err(format!(
                "`{part}` is no {name}: {least} to {most}, `*`, `a-b`, `a,b` or `*/n`"
            ));
        }
    }
    Ok(())
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
            assert_eq!(check(text), Ok(()), "{text}");
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
            assert!(check(text).is_err(), "{text:?}");
        }
    }
}
