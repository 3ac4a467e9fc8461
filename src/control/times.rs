//! Times as the API writes and reads them.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, offset};

use crate::units::WallTime;

/// What "never" looks like. The calendar library ends a day earlier, so it is handled as text.
pub const NEVER: &str = "9999-12-31T23:59:59Z";
const NEVER_UNIX_SECONDS: i64 = 253_402_300_799;

fn timestamp(time: WallTime) -> Timestamp {
    Timestamp::from_second(time.unix_seconds()).unwrap_or(if time.unix_seconds() < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// `2026-01-01T08:00:00Z`.
pub fn utc(time: WallTime) -> String {
    timestamp(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-01T08:00:00Z`, or [`NEVER`].
pub fn utc_or_never(time: Option<WallTime>) -> String {
    time.map_or_else(|| NEVER.to_owned(), utc)
}

/// `2026-01-01 16:00:00`, which is Beijing time (UTC+8).
pub fn beijing(time: WallTime) -> String {
    timestamp(time).to_zoned(TimeZone::fixed(offset(8))).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Reads `2026-01-01T08:00:00Z` and other offsets.
pub fn read_utc(text: &str) -> Option<WallTime> {
    if text == NEVER {
        return Some(WallTime::from_unix_seconds(NEVER_UNIX_SECONDS));
    }
    Timestamp::from_str(text).ok().map(|time| WallTime::from_unix_micros(time.as_microsecond()))
}

/// Reads Beijing time as [`beijing`] writes it.
pub fn read_beijing(text: &str) -> Option<WallTime> {
    let local = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    let time = local.to_zoned(TimeZone::fixed(offset(8))).ok()?.timestamp();
    Some(WallTime::from_unix_micros(time.as_microsecond()))
}

/// The UTC date of a Unix time: `2026-01-01`.
pub fn utc_date(unix_seconds: i64) -> String {
    timestamp(WallTime::from_unix_seconds(unix_seconds)).strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let time = WallTime::from_unix_micros(1_767_254_400_999_999);
        assert_eq!(utc(time), "2026-01-01T08:00:00Z");
        assert_eq!(beijing(time), "2026-01-01 16:00:00");
        assert_eq!(utc_or_never(None), NEVER);
        assert_eq!(utc_date(1_767_225_600), "2026-01-01");
        // Times no calendar has are shown as the nearest one.
        assert_eq!(utc(WallTime::from_unix_micros(i64::MAX)), "9999-12-30T22:00:00Z");
        assert_eq!(utc(WallTime::from_unix_micros(i64::MIN)), utc(WallTime::from_unix_micros(i64::MIN + 1)));
    }

    #[test]
    fn reading() {
        let time = Some(WallTime::from_unix_seconds(1_767_254_400));
        assert_eq!(read_utc("2026-01-01T08:00:00Z"), time);
        assert_eq!(read_utc("2026-01-01T16:00:00+08:00"), time);
        assert_eq!(read_utc(NEVER), Some(WallTime::from_unix_seconds(253_402_300_799)));
        assert_eq!(read_beijing("2026-01-01 16:00:00"), time);
        for bad in ["", "2026-01-01", "2026-01-01T16:00:00", "2026-13-01 16:00:00", "2026-01-01 25:00:00", "2026-01-01 16:00:00+08:00"] {
            assert_eq!(read_beijing(bad), None, "{bad}");
        }
        for bad in ["", "2026-01-01", "2026-01-01 08:00:00", "2026-13-01T00:00:00Z", "1767254400", "now"] {
            assert_eq!(read_utc(bad), None, "{bad}");
        }
    }
}
