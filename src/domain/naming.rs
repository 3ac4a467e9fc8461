//! Names made from what publishers and templates say: the catalog name of a file and its name on disk.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::units::WallTime;

use super::RecordingIdentity;

/// The vendor's default `VodFileName`.
pub const DEFAULT_PATTERN: &str = "{StreamID}_{StartYear}-{StartMonth}-{StartDay}-{StartHour}-{StartMinute}-{StartSecond}_\
     {EndYear}-{EndMonth}-{EndDay}-{EndHour}-{EndMinute}-{EndSecond}";
/// Longest catalog name. File systems and the vendor's console stop there too.
pub const CATALOG_NAME_BYTES_MAX: usize = 255;
/// Longest pattern a template may hold, bytes.
pub const PATTERN_BYTES_MAX: usize = 255;
/// Longest name on disk before the extension: leaves room for the extension in the 255 bytes that file systems allow, and stays readable.
pub const DISK_SLUG_BYTES_MAX: usize = 80;

/// Why a `VodFileName` is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the name pattern is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    #[error("the name pattern holds the character {0:?}")]
    Character(char),
    #[error("the name pattern holds the unknown placeholder {{{0}}}")]
    UnknownPlaceholder(String),
    #[error("a brace of the name pattern has no partner")]
    Brace,
}

/// Checks a `VodFileName` as CreateLiveRecordTemplate gives it. Empty text is right: it means [`DEFAULT_PATTERN`].
///
/// # Errors
/// [`PatternError`]: too long, `/` or a control character, an unknown placeholder, a brace that opens or closes nothing.
pub fn check_pattern(pattern: &str) -> Result<(), PatternError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternError::TooLong);
    }
    if let Some(bad) = pattern.chars().find(|c| is_forbidden(*c)) {
        return Err(PatternError::Character(bad));
    }
    for piece in pieces(pattern) {
        match piece {
            Piece::Unknown(name) => return Err(PatternError::UnknownPlaceholder(name.to_owned())),
            Piece::Text(text) if text.contains(['{', '}']) => return Err(PatternError::Brace),
            Piece::Text(_) | Piece::Known(_) => {}
        }
    }
    Ok(())
}

/// The catalog name (`BasicInfo.Name`, without extension) of a recording that ended at `end`: its `vod_file_name` with the placeholders filled in.
///
/// Two digits for parts of dates and times, four for the year, three for milliseconds, in `time_zone`. At most [`CATALOG_NAME_BYTES_MAX`] bytes, cut at a
/// character; never empty, never with `/` or control characters. A pattern that [`check_pattern`] refuses (an older or edited template) keeps its
/// unknown placeholders as text.
pub fn catalog_name(identity: &RecordingIdentity, end: WallTime, time_zone: &TimeZone) -> String {
    let pattern = if identity.vod_file_name.is_empty() { DEFAULT_PATTERN } else { &identity.vod_file_name };
    let name = expand(pattern, identity, end, time_zone);
    // A pattern may consist of nothing but a part that is empty for this stream.
    if name.is_empty() { identity.file_id.to_string() } else { name }
}

fn expand(pattern: &str, identity: &RecordingIdentity, end: WallTime, time_zone: &TimeZone) -> String {
    let start = local(identity.start, time_zone);
    let end = local(end, time_zone);
    let mut name = String::with_capacity(128);
    for piece in pieces(pattern) {
        match piece {
            Piece::Text(text) => name.push_str(text),
            Piece::Unknown(text) => {
                name.push('{');
                name.push_str(text);
                name.push('}');
            }
            Piece::Known(placeholder) => placeholder.write(&mut name, identity, start, end),
        }
    }
    // App names may hold slashes; texts from the network are not trusted to be free of control characters.
    let mut name: String = name.chars().map(|c| if is_forbidden(c) { '_' } else { c }).collect();
    name.truncate(name.floor_char_boundary(CATALOG_NAME_BYTES_MAX));
    name
}

fn is_forbidden(c: char) -> bool {
    c == '/' || c.is_control()
}

fn local(time: WallTime, time_zone: &TimeZone) -> DateTime {
    // A clock far outside of the calendar (year 9999) gives the epoch rather than a panic; the name is a label, not a key.
    let timestamp = Timestamp::from_microsecond(time.unix_micros()).unwrap_or(Timestamp::UNIX_EPOCH);
    timestamp.to_zoned(time_zone.clone()).datetime()
}

#[derive(Clone, Copy)]
enum Placeholder {
    StreamId,
    AppName,
    Domain,
    RecordSource,
    RecordId,
    RandomId,
    Start(TimePart),
    End(TimePart),
}

#[derive(Clone, Copy)]
enum TimePart {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
}

impl Placeholder {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "StreamID" => Some(Self::StreamId),
            "AppName" => Some(Self::AppName),
            "Domain" => Some(Self::Domain),
            "RecordSource" => Some(Self::RecordSource),
            "RecordId" => Some(Self::RecordId),
            "RandomID" => Some(Self::RandomId),
            _ => match name.strip_prefix("Start") {
                Some(part) => TimePart::parse(part).map(Self::Start),
                None => TimePart::parse(name.strip_prefix("End")?).map(Self::End),
            },
        }
    }

    fn write(self, name: &mut String, identity: &RecordingIdentity, start: DateTime, end: DateTime) {
        let written = match self {
            Self::StreamId => name.write_str(&identity.key.stream),
            Self::AppName => name.write_str(&identity.key.app),
            Self::Domain => name.write_str(&identity.key.domain),
            // Always the stream as it was published: nothing is transcoded before it is recorded.
            Self::RecordSource => name.write_str("origin"),
            Self::RecordId => write!(name, "{}", identity.file_id),
            // Pure code has no dice: the mixed id differs for every file and gives the same name when a file is entered again.
            Self::RandomId => write!(name, "{:016x}", mix(identity.file_id.get())),
            Self::Start(part) => part.write(name, start),
            Self::End(part) => part.write(name, end),
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
}

impl TimePart {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Year" => Self::Year,
            "Month" => Self::Month,
            "Day" => Self::Day,
            "Hour" => Self::Hour,
            "Minute" => Self::Minute,
            "Second" => Self::Second,
            "Millisecond" => Self::Millisecond,
            _ => return None,
        })
    }

    fn write(self, name: &mut String, time: DateTime) -> std::fmt::Result {
        match self {
            Self::Year => write!(name, "{:04}", time.year()),
            Self::Month => write!(name, "{:02}", time.month()),
            Self::Day => write!(name, "{:02}", time.day()),
            Self::Hour => write!(name, "{:02}", time.hour()),
            Self::Minute => write!(name, "{:02}", time.minute()),
            Self::Second => write!(name, "{:02}", time.second()),
            Self::Millisecond => write!(name, "{:03}", time.millisecond()),
        }
    }
}

/// The finalizer of SplitMix64: a bijection, so different ids stay different.
fn mix(id: u64) -> u64 {
    let id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

enum Piece<'a> {
    Text(&'a str),
    Known(Placeholder),
    /// The text between the braces.
    Unknown(&'a str),
}

/// Cuts a pattern into text and placeholders; every piece takes at least one byte, so the length of the pattern bounds the loop.
fn pieces(pattern: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = pattern;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(inside) = rest.strip_prefix('{') {
            // A brace that nothing closes, or that another one follows first, is text of its own.
            let Some(close) = inside.find(['{', '}']).filter(|at| inside.as_bytes()[*at] == b'}') else {
                let (text, tail) = rest.split_at(1);
                rest = tail;
                return Some(Piece::Text(text));
            };
            let name = &inside[..close];
            rest = &inside[close + 1..];
            return Some(Placeholder::parse(name).map_or(Piece::Unknown(name), Piece::Known));
        }
        let (text, tail) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        rest = tail;
        Some(Piece::Text(text))
    })
}

/// The name on disk, without extension, for files of this stream: `[A-Za-z0-9._-]` stay, every other byte becomes `_xx` (hexadecimal).
///
/// 1 to [`DISK_SLUG_BYTES_MAX`] bytes; never begins or ends with a dot, never holds two dots in a row, so it is a harmless path component with any
/// extension; never begins with `-`, so that no program takes it for an option. Two streams may get the same one: the folder, not the name, tells files apart.
pub fn disk_slug(stream: &str) -> String {
    let mut slug = String::with_capacity(stream.len().min(DISK_SLUG_BYTES_MAX));
    let mut bytes = stream.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let keep = match byte {
            b'.' => !slug.is_empty() && !slug.ends_with('.') && bytes.peek().is_some(),
            b'-' => !slug.is_empty(),
            _ => byte.is_ascii_alphanumeric() || byte == b'_',
        };
        let width = if keep { 1 } else { 3 };
        if slug.len() + width > DISK_SLUG_BYTES_MAX {
            break;
        }
        if keep {
            slug.push(char::from(byte));
        } else {
            let written = write!(slug, "_{byte:02x}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
    }
    // The cut may have left a dot at the end.
    if slug.ends_with('.') {
        slug.pop();
    }
    if slug.is_empty() {
        slug.push_str("stream");
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::units::{FileId, Format, StreamKey};
    use proptest::prelude::*;

    /// 2026-03-04T05:06:07.089012Z
    const START: WallTime = WallTime::from_unix_micros(1_772_600_767_089_012);

    fn identity(pattern: &str, app: &str, stream: &str) -> RecordingIdentity {
        let file_id = FileId::new(387_702_290_000_000_001).expect("a file id");
        RecordingIdentity {
            start: START,
            vod_file_name: pattern.to_owned(),
            ..RecordingIdentity::example(file_id, Format::Mp4, StreamKey::new("push.example.com", app, stream))
        }
    }

    fn name(pattern: &str, app: &str, stream: &str, zone: &TimeZone) -> String {
        catalog_name(&identity(pattern, app, stream), WallTime::from_unix_micros(START.unix_micros() + 86_400_000_000), zone)
    }

    #[test]
    fn names_by_pattern() {
        let utc = TimeZone::UTC;
        let shanghai = TimeZone::fixed(jiff::tz::offset(8));
        let west = TimeZone::fixed(jiff::tz::offset(-6));
        for (pattern, app, stream, zone, expected) in [
            ("", "live", "cam", &utc, "cam_2026-03-04-05-06-07_2026-03-05-05-06-07"),
            ("", "live", "cam", &shanghai, "cam_2026-03-04-13-06-07_2026-03-05-13-06-07"),
            ("", "live", "cam", &west, "cam_2026-03-03-23-06-07_2026-03-04-23-06-07"),
            ("{StartMillisecond}.{EndMillisecond}", "live", "cam", &utc, "089.089"),
            ("{Domain} {AppName} {StreamID}", "live", "камера 1", &utc, "push.example.com live камера 1"),
            ("{AppName}", "a/b", "cam", &utc, "a_b"),
            ("{AppName}", "", "cam", &utc, "387702290000000001"),
            ("{StreamID}", "live", "a/../b\n", &utc, "a_.._b_"),
            ("{RecordSource}-{RecordId}", "live", "cam", &utc, "origin-387702290000000001"),
            ("plain text 文", "live", "cam", &utc, "plain text 文"),
            // What a refused pattern gives if it is there all the same.
            ("{Unknown}{StreamID", "live", "cam", &utc, "{Unknown}{StreamID"),
            // A stream name is not a pattern.
            ("{StreamID}", "live", "{StartYear}", &utc, "{StartYear}"),
        ] {
            assert_eq!(name(pattern, app, stream, zone), expected, "{pattern} for {app}/{stream}");
        }
        assert_eq!(name("{RandomID}", "live", "cam", &utc).len(), 16);
    }

    #[test]
    fn names_are_cut_at_a_character() {
        let long = "ж".repeat(127);
        assert_eq!(name("{StreamID}", "live", &long, &TimeZone::UTC), long, "254 bytes fit");
        assert_eq!(name("x{StreamID}yz", "live", &long, &TimeZone::UTC), format!("x{long}"), "255 bytes fit");
        assert_eq!(name("xx{StreamID}", "live", &long, &TimeZone::UTC).len(), 254);
        for time in [i64::MIN, i64::MAX] {
            let mut identity = identity("", "live", "cam");
            identity.start = WallTime::from_unix_micros(time);
            assert!(catalog_name(&identity, identity.start, &TimeZone::UTC).starts_with("cam_1970-"), "a clock beyond the calendar");
        }
    }

    #[test]
    fn patterns_are_checked() {
        for good in ["", "x", DEFAULT_PATTERN, "{RecordSource}{RecordId}{RandomID}{Domain}{AppName}", "日本 {EndMillisecond}", "..", "a%20b"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("a/b", PatternError::Character('/')),
            ("a\nb", PatternError::Character('\n')),
            ("a\u{85}", PatternError::Character('\u{85}')),
            ("{streamid}", PatternError::UnknownPlaceholder("streamid".to_owned())),
            ("{}", PatternError::UnknownPlaceholder(String::new())),
            ("{Start}", PatternError::UnknownPlaceholder("Start".to_owned())),
            ("{ StreamID}", PatternError::UnknownPlaceholder(" StreamID".to_owned())),
            ("{StreamID", PatternError::Brace),
            ("StreamID}", PatternError::Brace),
            ("{StreamID}}", PatternError::Brace),
            ("{{StreamID}", PatternError::Brace),
            (&"x".repeat(256), PatternError::TooLong),
        ] {
            assert_eq!(check_pattern(bad), Err(error), "{bad}");
        }
        assert_eq!(check_pattern(&"x".repeat(255)), Ok(()));
    }

    #[test]
    fn slugs() {
        for (stream, expected) in [
            ("camera-1", "camera-1"),
            ("Cam_1.main", "Cam_1.main"),
            (".hidden", "_2ehidden"),
            ("..", "_2e_2e"),
            ("...", "_2e._2e"),
            ("../../etc/passwd", "_2e._2f._2e_2fetc_2fpasswd"),
            ("a..b", "a._2eb"),
            ("a.", "a_2e"),
            ("a b", "a_20b"),
            ("-rf", "_2drf"),
            ("--", "_2d-"),
            ("a-", "a-"),
            ("é", "_c3_a9"),
            ("", "stream"),
            ("nul\0", "nul_00"),
        ] {
            assert_eq!(disk_slug(stream), expected, "{stream:?}");
        }
        assert_eq!(disk_slug(&"a".repeat(300)).len(), 80);
        assert_eq!(disk_slug(&"é".repeat(100)), "_c3_a9".repeat(13), "no half escape at the cut");
        assert_eq!(disk_slug(&format!("{}.b", "a".repeat(79))), "a".repeat(79), "no dot at the cut");
    }

    proptest! {
        #[test]
        fn any_stream_gives_a_harmless_slug(stream in "[-._ a]{0,20}|.{0,100}") {
            let slug = disk_slug(&stream);
            prop_assert!(!slug.is_empty() && slug.len() <= DISK_SLUG_BYTES_MAX);
            prop_assert!(slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            prop_assert!(!slug.starts_with(['.', '-']) && !slug.ends_with('.') && !slug.contains(".."));
        }

        #[test]
        fn any_pattern_and_stream_give_a_harmless_name(pattern in "[{}a-zA-Z/ж\n]{0,40}|.{0,300}", stream in any::<String>()) {
            let name = name(&pattern, "live", &stream, &TimeZone::UTC);
            prop_assert!(!name.is_empty() && name.len() <= CATALOG_NAME_BYTES_MAX);
            prop_assert!(!name.contains('/') && !name.chars().any(char::is_control));
        }
    }
}
