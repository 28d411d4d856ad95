//! Durations and sizes as people write and read them.

use std::time::Duration;

use thiserror::Error;

/// Why a text is no duration.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{text}` is no duration: write `90s`, `15m` or `1h30m`; a bare number is seconds")]
pub struct DurationError {
    text: String,
}

/// Reads `90s`, `15m`, `1h30m`, or a bare number of seconds.
///
/// # Errors
/// When the text is none of these, or too large to be a duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let refused = || DurationError {
        text: text.to_owned(),
    };
    if text.is_empty() {
        return Err(refused());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .map(Duration::from_secs)
            .map_err(|_source| refused());
    }
    humantime::parse_duration(text).map_err(|_source| refused())
}

/// Writes a duration in words of at most two units: `4m 5s`, `1h 30m`, `250ms`.
pub fn words(duration: Duration) -> String {
    let whole = if duration >= Duration::from_secs(3600) {
        Duration::from_secs(duration.as_secs() / 60 * 60)
    } else if duration >= Duration::from_secs(1) {
        Duration::from_secs(duration.as_secs())
    } else {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    humantime::format_duration(whole).to_string()
}

/// Writes elapsed time as the original records do: `MMmSSs` with minutes unbounded, `7m17s`.
pub fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}m{:02}s", seconds / 60, seconds % 60)
}

/// Reads `64MiB`, `5 GiB`, or a bare number of bytes.
///
/// # Errors
/// When the text is none of these, or zero; the error says what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = match text[digits.len()..].trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    if number == Some(0) && unit.is_some() {
        return Err(format!("`{text}` is too little: at least 1 byte is needed"));
    }
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or_else(|| format!("`{text}` is no size: write `5GiB`, `512MiB` or a number of bytes"))
}

/// Writes a size with a binary unit: `812 B`, `3.1 KiB`, `64 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = bytes;
    let mut tenths = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        tenths = (scaled % 1024) * 10 / 1024;
        scaled /= 1024;
        unit += 1;
    }
    if tenths == 0 || scaled >= 100 {
        format!("{scaled} {}", UNITS[unit])
    } else {
        format!("{scaled}.{tenths} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_nothing_is_told_to_be_too_little() {
        for text in ["0", "0 GiB"] {
            assert!(parse_size(text).unwrap_err().contains("at least 1 byte"));
        }
    }

    #[test]
    fn durations_are_read_in_the_three_documented_forms() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse(" 900 "), Ok(Duration::from_secs(900)));
        for text in ["", "abc", "-5", "2 parsecs", "99999999999999999999"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_and_sizes_are_written_for_people() {
        assert_eq!(words(Duration::from_millis(245_900)), "4m 5s");
        assert_eq!(words(Duration::from_secs(5430)), "1h 30m");
        assert_eq!(words(Duration::from_millis(250)), "250ms");
        assert_eq!(elapsed(Duration::from_secs(437)), "7m17s");
        assert_eq!(elapsed(Duration::from_secs(6000)), "100m00s");
        assert_eq!(size(812), "812 B");
        assert_eq!(size(3200), "3.1 KiB");
        assert_eq!(size(64 << 20), "64 MiB");
    }
}
