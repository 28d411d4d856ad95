//! Expressions in the words of systemd's timers.

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
        let zoned = Expression::parse("@weekly")
            .unwrap()
            .calendars(Some("Asia/Tokyo"));
        assert_eq!(zoned, ["Sun *-*-* 00:00:00 Asia/Tokyo"]);
    }
}
