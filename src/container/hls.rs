//! HLS playlists (RFC 8216): byte ranges into the very files that are recorded, growing as EVENT playlists.

use std::fmt::Write;

use super::SmallFile;
pub use super::hls_list::{ListedSegment, parse, relist};
use super::mp4::{FRAGMENT_MS, Fragment, SAMPLE_MS_MAX};
use crate::domain::sealing::Sealing;
use crate::units::{FileId, WallTime};

/// No segment is longer, whatever the key-frame interval, unless twice the wanted length is more: EXT-X-TARGETDURATION never changes (RFC 8216, 6.2.1).
pub const TARGET_MS_MIN: u64 = 10_000;
/// A key frame this little before the wanted length ends the segment: timestamps jitter by some milliseconds, and one more group would double it.
const CUT_EARLY_MS: u64 = 100;
/// Segments of MPEG-TS or MP4 with byte ranges (EXT-X-BYTERANGE): RFC 8216, 7.
const VERSION_TS: u32 = 4;
const VERSION_FMP4: u32 = 7;

// A segment is whole fragments, so that one alone must fit.
const _: () = assert!(FRAGMENT_MS + SAMPLE_MS_MAX <= TARGET_MS_MIN);

/// The playlist that grows inside an open HLS recording's folder: written by the recorder, replaced when the recording is finished.
pub const LIVE_PLAYLIST_NAME: &str = "index.m3u8";

pub const ENDLIST: &str = "#EXT-X-ENDLIST\n";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentContainer {
    /// Fragments of the hybrid MP4, with an init segment (EXT-X-MAP).
    Fmp4,
    Ts,
}

/// One segment: a byte range of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub offset: u64,
    pub bytes: u64,
    /// Relative to the publication's zero.
    pub start_ms: i64,
    /// What EXTINF says; never above the target duration.
    pub duration_ms: u64,
    /// Begins with a key frame.
    pub key: bool,
    /// Time does not go on from the segment before.
    pub discontinuity: bool,
}

/// Where a key frame, or any other place to begin a segment, lies in an MPEG-TS file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TsStart {
    pub offset: u64,
    pub start_ms: i64,
    pub key: bool,
}

impl TsStart {
    /// The stretch from here to the next start, or to the end of the file, as the [`Segmenter`] takes it.
    pub fn until(&self, end_offset: u64, end_ms: i64) -> Fragment {
        Fragment {
            offset: self.offset,
            bytes: end_offset.saturating_sub(self.offset),
            start_ms: self.start_ms,
            duration_ms: end_ms.saturating_sub(self.start_ms).max(0) as u64,
            key: self.key,
        }
    }
}

impl From<Fragment> for Segment {
    fn from(fragment: Fragment) -> Self {
        let Fragment { offset, bytes, start_ms, duration_ms, key } = fragment;
        Self { offset, bytes, start_ms, duration_ms, key, discontinuity: false }
    }
}

/// The target duration for a wanted segment length, whole seconds in milliseconds.
pub fn target_ms(segment_ms: u64) -> u64 {
    segment_ms.saturating_mul(2).max(TARGET_MS_MIN).div_ceil(1_000) * 1_000
}

/// Groups fragments of one file after the other into segments: a segment ends before the first key fragment at its wanted length, or at any fragment before it
/// would exceed the target duration.
#[derive(Debug, Clone)]
pub struct Segmenter {
    segment_ms: u64,
    target_ms: u64,
    open: Option<Segment>,
}

impl Segmenter {
    pub fn new(segment_ms: u64) -> Self {
        Self { segment_ms, target_ms: target_ms(segment_ms), open: None }
    }

    /// Takes the next fragment; returns the segment that it ends.
    pub fn push(&mut self, fragment: &Fragment) -> Option<Segment> {
        let Some(open) = &mut self.open else {
            self.open = Some(self.begin(fragment, false));
            return None;
        };
        let advance_ms = fragment.start_ms.saturating_sub(open.start_ms);
        let end_ms = fragment.start_ms.saturating_add_unsigned(fragment.duration_ms).saturating_sub(open.start_ms);
        let full = fragment.key && advance_ms.saturating_add_unsigned(CUT_EARLY_MS) >= self.segment_ms as i64;
        let goes_on = advance_ms >= 0 && end_ms <= self.target_ms as i64 && open.offset + open.bytes == fragment.offset;
        if goes_on && !full {
            open.bytes += fragment.bytes;
            open.duration_ms = end_ms.max(0) as u64;
            return None;
        }
        // The next start is exact, the last duration before it was an estimate.
        let continuous = (1..=self.target_ms as i64).contains(&advance_ms);
        let mut ended = *open;
        if continuous {
            ended.duration_ms = advance_ms as u64;
        }
        self.open = Some(self.begin(fragment, !continuous));
        Some(ended)
    }

    /// For a writer that must know beforehand (MPEG-TS begins a segment with its tables): does a segment of `length_ms` end before this frame?
    /// `key`: a segment may begin with it.
    pub fn is_due(&self, length_ms: i64, key: bool) -> bool {
        let full = key && length_ms.saturating_add_unsigned(CUT_EARLY_MS) >= self.segment_ms as i64;
        full || length_ms.saturating_add_unsigned(FRAGMENT_MS) >= self.target_ms as i64
    }

    /// The running segment, if it ends at `from`, goes on to `end` without media: data messages behind its last fragment.
    pub fn extend(&mut self, (from, end): (u64, u64)) {
        if let Some(open) = self.open.as_mut().filter(|open| open.offset + open.bytes == from) {
            open.bytes += end - from;
        }
    }

    /// The running segment: the file or the recording ends here.
    pub fn finish(&mut self) -> Option<Segment> {
        self.open.take()
    }

    fn begin(&self, fragment: &Fragment, discontinuity: bool) -> Segment {
        let duration_ms = fragment.duration_ms.min(self.target_ms);
        Segment { offset: fragment.offset, bytes: fragment.bytes, start_ms: fragment.start_ms, duration_ms, key: fragment.key, discontinuity }
    }
}

/// The first lines of an EVENT playlist. `independent`: every segment begins with a key frame, which holds for audio alone and is else known at the end.
pub fn header(container: SegmentContainer, segment_ms: u64, independent: bool) -> String {
    let version = match container {
        SegmentContainer::Fmp4 => VERSION_FMP4,
        SegmentContainer::Ts => VERSION_TS,
    };
    let target_s = target_ms(segment_ms) / 1_000;
    let mut text =
        format!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target_s}\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n");
    if independent {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    text
}

/// A new file begins: its init segment (fMP4), and whether its time or its tracks do not go on from the file before.
pub fn push_part(text: &mut String, map_uri: Option<&str>, discontinuity: bool) {
    if discontinuity {
        text.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if let Some(map_uri) = map_uri {
        let _ = writeln!(text, "#EXT-X-MAP:URI=\"{map_uri}\"");
    }
}

/// The lines of one segment of the file `uri`. `starts_at`: wall-clock time of its first frame, where the playlist shall tell.
pub fn push_segment(text: &mut String, segment: &Segment, uri: &str, starts_at: Option<WallTime>) {
    if segment.discontinuity {
        text.push_str("#EXT-X-DISCONTINUITY\n");
    }
    // Writing to a String does not fail.
    if let Some(starts_at) = starts_at.and_then(|time| jiff::Timestamp::from_microsecond(time.unix_micros()).ok()) {
        let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{starts_at:.3}");
    }
    let (seconds, millis) = (segment.duration_ms / 1_000, segment.duration_ms % 1_000);
    let _ = writeln!(text, "#EXTINF:{seconds}.{millis:03},\n#EXT-X-BYTERANGE:{}@{}\n{uri}", segment.bytes, segment.offset);
}

/// What says when a part began that does not follow the one before at once: `part-<n>.json`.
pub fn part_start_file(folder: FileId, part: u32, start: WallTime) -> SmallFile {
    SmallFile { folder, name: part_start_name(part), bytes: start.unix_micros().to_string().into_bytes() }
}

pub fn part_start_name(part: u32) -> String {
    format!("part-{part}.json")
}

/// Reads what [`part_start_file`] says.
pub fn read_part_start(bytes: &[u8]) -> Option<WallTime> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok().map(WallTime::from_unix_micros)
}

/// The playlist with all byte ranges of a file moved back by what `shift_bytes` says of its name: as they were while it was recorded, before room was made
/// in front of the media. `None`: nothing has moved.
pub fn unshift_ranges(text: &str, shift_bytes: impl Fn(&str) -> u64) -> Option<String> {
    let mut unshifted = String::with_capacity(text.len());
    let (mut known, mut any): (Option<(&str, u64)>, bool) = (None, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let range = line.strip_prefix("#EXT-X-BYTERANGE:").and_then(|range| range.split_once('@'));
        let range = range.and_then(|(bytes, offset)| Some((bytes, offset.parse::<u64>().ok()?)));
        if let (Some((bytes, offset)), Some(uri)) = (range, lines.peek()) {
            let shift = match known {
                Some((name, shift)) if name == *uri => shift,
                _ => shift_bytes(uri),
            };
            known = Some((uri, shift));
            any |= shift > 0;
            let _ = writeln!(unshifted, "#EXT-X-BYTERANGE:{bytes}@{}", offset.saturating_sub(shift));
        } else {
            unshifted.push_str(line);
            unshifted.push('\n');
        }
    }
    any.then_some(unshifted)
}

/// One file of a recording, for [`rebuild`].
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Relative to the playlist.
    pub uri: &'a str,
    /// Its init segment; `None` for MPEG-TS.
    pub map_uri: Option<&'a str>,
    pub fragments: &'a [Fragment],
    /// Time or tracks do not go on from the part before.
    pub discontinuity: bool,
    /// Wall-clock time of its first frame.
    pub starts_at: Option<WallTime>,
    /// Each fragment is a segment that is encrypted by itself.
    pub sealing: Option<&'a Sealing>,
}

/// The fragments of an encrypted part: segments as they are, for none can be joined with another.
fn sealed_segments(fragments: &[Fragment], target_ms: u64) -> impl Iterator<Item = Segment> {
    let mut expected = None;
    fragments.iter().zip(fragments.iter().skip(1).map(Some).chain([None])).map(move |(fragment, next)| {
        let advance_ms = next.map(|next| next.start_ms.saturating_sub(fragment.start_ms)).filter(|ms| (1..=target_ms as i64).contains(ms));
        let duration_ms = advance_ms.map_or(fragment.duration_ms.min(target_ms), i64::unsigned_abs);
        let discontinuity = expected == Some(None);
        expected = Some(advance_ms);
        Segment { duration_ms, discontinuity, ..Segment::from(*fragment) }
    })
}

/// The playlist of a recording from what its files hold. It begins with the lines that the live one had. Parts without a fragment are left out.
///
/// `ended`: nothing will follow.
pub fn rebuild(container: SegmentContainer, segment_ms: u64, independent: bool, parts: &[Part<'_>], ended: bool) -> String {
    let mut body = String::new();
    for part in parts.iter().filter(|part| !part.fragments.is_empty()) {
        let discontinuity = part.discontinuity && !body.is_empty();
        push_part(&mut body, part.map_uri, discontinuity);
        let mut segmenter = Segmenter::new(segment_ms);
        let mut starts_at = part.starts_at;
        let mut number = 0;
        let mut put = |segment: Segment| {
            if let Some(sealing) = part.sealing {
                body.push_str(&sealing.key_line(number));
            }
            number += 1;
            push_segment(&mut body, &segment, part.uri, starts_at);
            starts_at = starts_at.map(|time| WallTime::from_unix_micros(time.unix_micros().saturating_add(segment.duration_ms as i64 * 1_000)));
        };
        if part.sealing.is_some() {
            sealed_segments(part.fragments, target_ms(segment_ms)).for_each(&mut put);
            continue;
        }
        part.fragments.iter().filter_map(|fragment| segmenter.push(fragment)).for_each(&mut put);
        segmenter.finish().into_iter().for_each(&mut put);
    }
    header(container, segment_ms, independent) + &body + if ended { ENDLIST } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fragments one after the other from byte 4096 on: start, duration, key; 100 bytes each.
    fn fragments(list: &[(i64, u64, bool)]) -> Vec<Fragment> {
        let place = |(index, (start_ms, duration_ms, key)): (usize, &(i64, u64, bool))| Fragment {
            offset: 4096 + 100 * index as u64,
            bytes: 100,
            start_ms: *start_ms,
            duration_ms: *duration_ms,
            key: *key,
        };
        list.iter().enumerate().map(place).collect()
    }

    fn segments(segment_ms: u64, list: &[(i64, u64, bool)]) -> Vec<(i64, u64, u64, bool, bool)> {
        let mut segmenter = Segmenter::new(segment_ms);
        let fragments = fragments(list);
        let mut segments: Vec<_> = fragments.iter().filter_map(|fragment| segmenter.push(fragment)).collect();
        segments.extend(segmenter.finish());
        assert_eq!(segmenter.finish(), None);
        // Every byte once, in order.
        let mut at = 4096;
        for segment in &segments {
            assert_eq!(segment.offset, at);
            assert!(segment.duration_ms <= target_ms(segment_ms), "{segment:?}");
            at += segment.bytes;
        }
        assert_eq!(at, 4096 + 100 * list.len() as u64);
        segments.into_iter().map(|segment| (segment.start_ms, segment.duration_ms, segment.bytes / 100, segment.key, segment.discontinuity)).collect()
    }

    #[test]
    fn segments_end_at_key_frames_or_before_the_target() {
        let second = |count: i64, gop: i64| (0..count).map(|i| (i * 1_000, 1_000, i % gop == 0)).collect::<Vec<_>>();
        type Ended = (i64, u64, u64, bool, bool);
        type Case<'a> = (&'a str, u64, Vec<(i64, u64, bool)>, &'a [Ended]);
        let cases: &[Case] = &[
            ("two groups each", 4_000, second(10, 2), &[(0, 4_000, 4, true, false), (4_000, 4_000, 4, true, false), (8_000, 2_000, 2, true, false)]),
            ("a group of 6 s", 4_000, second(8, 6), &[(0, 6_000, 6, true, false), (6_000, 2_000, 2, true, false)]),
            ("no second key frame", 4_000, second(12, 100), &[(0, 10_000, 10, true, false), (10_000, 2_000, 2, false, false)]),
            ("long segments", 20_000, second(45, 30), &[(0, 30_000, 30, true, false), (30_000, 15_000, 15, true, false)]),
            (
                "jitter at the cut",
                4_000,
                vec![(0, 2_000, true), (2_000, 1_990, true), (3_990, 2_000, true)],
                &[(0, 3_990, 2, true, false), (3_990, 2_000, 1, true, false)],
            ),
            (
                "the next start is exact",
                1_000,
                vec![(0, 980, true), (1_003, 1_000, true)],
                &[(0, 1_003, 1, true, false), (1_003, 1_000, 1, true, false)],
            ),
            ("a short pause", 4_000, vec![(0, 1_000, true), (5_000, 1_000, false)], &[(0, 6_000, 2, true, false)]),
            ("a long pause", 4_000, vec![(0, 1_000, true), (60_000, 1_000, true)], &[(0, 1_000, 1, true, false), (60_000, 1_000, 1, true, true)]),
            (
                "time goes back",
                4_000,
                vec![(9_000, 1_000, true), (500, 1_000, false)],
                &[(9_000, 1_000, 1, true, false), (500, 1_000, 1, false, true)],
            ),
        ];
        for (name, segment_ms, list, expected) in cases {
            assert_eq!(segments(*segment_ms, list), *expected, "{name}");
        }
    }

    #[test]
    fn playlists_read_as_a_player_reads_them() {
        let first = fragments(&[(0, 2_000, true), (2_000, 2_000, true), (4_000, 1_500, true)]);
        let second = fragments(&[(5_500, 1_234, true)]);
        let starts_at = Some(WallTime::from_unix_millis(1_700_000_000_040));
        let parts = [
            Part { uri: "media-1.m4s", map_uri: Some("init-1.m4s"), fragments: &first, discontinuity: true, starts_at, sealing: None },
            Part { uri: "media-2.m4s", map_uri: Some("init-2.m4s"), fragments: &[], discontinuity: true, starts_at: None, sealing: None },
            Part { uri: "media-3.m4s", map_uri: Some("init-3.m4s"), fragments: &second, discontinuity: true, starts_at: None, sealing: None },
        ];
        let text = rebuild(SegmentContainer::Fmp4, 4_000, true, &parts, true);
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n\
            #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init-1.m4s\"\n\
            #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.040Z\n#EXTINF:4.000,\n#EXT-X-BYTERANGE:200@4096\nmedia-1.m4s\n\
            #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:24.040Z\n#EXTINF:1.500,\n#EXT-X-BYTERANGE:100@4296\nmedia-1.m4s\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-3.m4s\"\n#EXTINF:1.234,\n#EXT-X-BYTERANGE:100@4096\nmedia-3.m4s\n#EXT-X-ENDLIST\n";
        assert_eq!(text, expected);

        let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        assert!(playlist.end_list && playlist.independent_segments && playlist.version == Some(7));
        let ranges: Vec<_> = playlist.segments.iter().map(|segment| segment.byte_range.as_ref().map(|range| (range.length, range.offset))).collect();
        assert_eq!(ranges, [Some((200, Some(4096))), Some((100, Some(4296))), Some((100, Some(4096)))]);
        assert!(playlist.segments[2].discontinuity);
    }

    #[test]
    fn a_shift_moves_one_file_only() {
        let segment = Segment { offset: 4096, bytes: 100, start_ms: 0, duration_ms: 2_000, key: true, discontinuity: false };
        let mut text = header(SegmentContainer::Ts, 30_000, false);
        assert!(text.contains("#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:60\n") && !text.contains("INDEPENDENT"));
        push_segment(&mut text, &segment, "media-1.m4s", None);
        push_segment(&mut text, &Segment { discontinuity: true, ..segment }, "media-2.m4s", None);
        let moved = text.replacen("100@4096", "100@12288", 1);
        let noted = |part: &str| if part == "media-1.m4s" { 8192 } else { 0 };
        assert_eq!(unshift_ranges(&moved, noted).as_deref(), Some(text.as_str()));
        assert_eq!(unshift_ranges(&text, |_| 0), None);
        // Lines that are none of ours stay as they are.
        let strange = "#EXT-X-BYTERANGE:7\nmedia-1.m4s\n#EXT-X-BYTERANGE:7@x\nmedia-1.m4s\n";
        assert_eq!(unshift_ranges(strange, |_| 1), None);
    }

    #[test]
    fn transport_stream_starts_become_fragments() {
        let start = TsStart { offset: 188, start_ms: -40, key: true };
        assert_eq!(start.until(564, 960), Fragment { offset: 188, bytes: 376, start_ms: -40, duration_ms: 1_000, key: true });
        assert_eq!(start.until(0, -100).duration_ms, 0);
    }
}
