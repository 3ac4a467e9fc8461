//! Times and lengths as people type them.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::ClientError;

fn bad(what: &str, text: &str, forms: &str) -> ClientError {
    ClientError::Usage(format!("\"{text}\" is no {what}; it may be {forms}"))
}

/// Seconds of a length: `90m`, `2h`, `3d`, `1h30m`, `45s`.
pub fn read_length(text: &str) -> Result<i64, ClientError> {
    let wrong = || bad("length", text, "90m, 2h, 1h30m or 3d");
    let (mut total, mut digits) = (0_i64, String::new());
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' if digits.len() < 9 => {
                digits.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        total += digits.parse::<i64>().map_err(|_| wrong())? * unit;
        digits.clear();
    }
    if digits.is_empty() && total > 0 { Ok(total) } else { Err(wrong()) }
}

/// Unix seconds of a moment, in the zone of this machine: `2026-01-31`, `2026-01-31T14:00`, `14:00` (today), `now`, an age (`2h`), or with an offset (`...Z`).
pub fn read_moment(text: &str, now: &Zoned) -> Result<i64, ClientError> {
    let zone: &TimeZone = now.time_zone();
    let local = |time: DateTime| time.to_zoned(zone.clone()).map(|time| time.timestamp().as_second()).ok();
    if text == "now" {
        return Ok(now.timestamp().as_second());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_second());
    }
    let found = if text.len() <= 8 && text.contains(':') {
        text.parse::<Time>().ok().and_then(|time| local(now.date().to_datetime(time)))
    } else if text.contains(['T', ' ']) {
        text.parse::<DateTime>().ok().and_then(local)
    } else {
        text.parse::<Date>().ok().and_then(|date| local(date.to_datetime(Time::midnight())))
    };
    if let Some(seconds) = found {
        return Ok(seconds);
    }
    read_length(text)
        .map(|age| now.timestamp().as_second() - age)
        .map_err(|_| bad("time", text, "2026-01-31, 2026-01-31T14:00, 14:00, now, or an age such as 2h"))
}

/// Seconds within a recording: `75`, `75.5`, `1:15`, `1:02:03.5`.
pub fn read_offset(text: &str) -> Result<f64, ClientError> {
    let wrong = || bad("place in a recording", text, "75.5, 1:15 or 1:02:03");
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit() || (is_last && byte == b'.'));
        let value: f64 = if is_number { part.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
        seconds = seconds * 60.0 + value;
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_people() {
        let now: Zoned = "2026-01-31T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        for (text, expected) in [
            ("now", "2026-01-31T11:00:00Z"),
            ("14:00", "2026-01-31T13:00:00Z"),
            ("2026-01-30", "2026-01-29T23:00:00Z"),
            ("2026-01-30T14:05", "2026-01-30T13:05:00Z"),
            ("2026-07-30 14:05:09", "2026-07-30T12:05:09Z"),
            ("2026-01-30T14:05:00Z", "2026-01-30T14:05:00Z"),
            ("90m", "2026-01-31T09:30:00Z"),
            ("1d", "2026-01-30T11:00:00Z"),
        ] {
            assert_eq!(read_moment(text, &now).unwrap(), at(expected), "{text}");
        }
        for text in ["", "yesterday", "25:00", "2026-02-30", "12", "h"] {
            assert!(read_moment(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_and_places() {
        for (text, expected) in [("45s", 45), ("90m", 5_400), ("1h30m", 5_400), ("2d", 172_800)] {
            assert_eq!(read_length(text).unwrap(), expected);
        }
        for text in ["", "5", "h", "0m", "-1h", "1x", "99999999999h"] {
            assert!(read_length(text).is_err(), "{text}");
        }
        for (text, expected) in [("75.5", 75.5), ("1:15", 75.0), ("1:02:03.5", 3_723.5), ("0", 0.0)] {
            assert!((read_offset(text).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        for text in ["", "-1", "1:", "1:2:3:4", "1.5:2", "a", "1e3", "inf"] {
            assert!(read_offset(text).is_err(), "{text}");
        }
    }
}
