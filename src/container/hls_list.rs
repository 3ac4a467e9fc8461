//! Playlists that were written: read back, and listed anew as clips.
use super::hls::{ENDLIST, Segment, SegmentContainer, header, push_part, push_segment};
use crate::units::WallTime;

/// A segment as a playlist of ours lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedSegment {
    pub uri: String,
    /// Its init segment.
    pub map_uri: Option<String>,
    pub offset: u64,
    pub bytes: u64,
    /// From the begin of the playlist.
    pub start_ms: u64,
    pub duration_ms: u64,
    pub starts_at: Option<WallTime>,
    pub discontinuity: bool,
    /// The line that names its key, if it is encrypted.
    pub key_line: Option<String>,
}

/// Reads a media playlist that we wrote; what it does not understand it passes over.
pub fn parse(text: &str) -> Vec<ListedSegment> {
    let mut segments = Vec::new();
    let (mut map_uri, mut start_ms, mut key_line) = (None, 0, None);
    let (mut duration_ms, mut range, mut starts_at, mut discontinuity) = (0, None, None, false);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("#EXTINF:") {
            let seconds: f64 = rest.split(',').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
            duration_ms = (seconds.clamp(0.0, 1e6) * 1_000.0).round() as u64;
        } else if let Some(rest) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            range = rest.split_once('@').and_then(|(bytes, offset)| Some((bytes.parse::<u64>().ok()?, offset.parse::<u64>().ok()?)));
        } else if let Some(rest) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
            map_uri = rest.split('"').next().map(str::to_owned);
        } else if let Some(rest) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            starts_at = rest.parse::<jiff::Timestamp>().ok().map(|time| WallTime::from_unix_micros(time.as_microsecond()));
        } else if line.starts_with("#EXT-X-KEY:") {
            key_line = Some(line.to_owned());
        } else if line == "#EXT-X-DISCONTINUITY" {
            discontinuity = true;
        } else if !line.starts_with('#') && !line.is_empty() {
            if let Some((bytes, offset)) = range.take() {
                let (uri, map_uri, key_line) = (line.to_owned(), map_uri.clone(), key_line.clone());
                segments.push(ListedSegment { uri, map_uri, offset, bytes, start_ms, duration_ms, starts_at, discontinuity, key_line });
                start_ms += duration_ms;
            }
            (starts_at, discontinuity) = (None, false);
        }
    }
    segments
}

/// A finished playlist of segments that are listed elsewhere. `prefix`: what to put before the names of a segment's files, by its place in `segments`.
pub fn relist(segments: &[ListedSegment], prefix: impl Fn(usize) -> String) -> String {
    let container = if segments.iter().any(|segment| segment.map_uri.is_some()) { SegmentContainer::Fmp4 } else { SegmentContainer::Ts };
    let longest = segments.iter().map(|segment| segment.duration_ms).max().unwrap_or(0);
    let mut text = header(container, longest.div_ceil(2), false);
    let mut last: Option<(String, Option<String>)> = None;
    for (index, segment) in segments.iter().enumerate() {
        let prefix = prefix(index);
        let names = (format!("{prefix}{}", segment.uri), segment.map_uri.as_ref().map(|map| format!("{prefix}{map}")));
        let is_new = last.as_ref().is_none_or(|last| last.1 != names.1);
        if index > 0 && (segment.discontinuity || (is_new && last.is_some())) {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let (Some(map), true) = (&names.1, is_new) {
            push_part(&mut text, Some(map), false);
        }
        let listed = Segment {
            offset: segment.offset,
            bytes: segment.bytes,
            start_ms: segment.start_ms as i64,
            duration_ms: segment.duration_ms,
            key: true,
            discontinuity: false,
        };
        if let Some(line) = &segment.key_line {
            text.push_str(line);
            text.push('\n');
        }
        push_segment(&mut text, &listed, &names.0, segment.starts_at);
        last = Some(names);
    }
    text + ENDLIST
}

/// Any text as a playlist: what is read of it lists back to the same.
pub fn fuzz_playlist(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let read = parse(text);
        assert_eq!(parse(&relist(&read, |_| String::new())).len(), read.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n\
        #EXT-X-MAP:URI=\"init-1.m4s\"\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.040Z\n#EXTINF:4.000,\n#EXT-X-BYTERANGE:200@4096\nmedia-1.m4s\n\
        #EXTINF:2.500,\n#EXT-X-BYTERANGE:100@4296\nmedia-1.m4s\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-3.m4s\"\n#EXTINF:1.234,\n#EXT-X-BYTERANGE:100@4096\nmedia-3.m4s\n#EXT-X-ENDLIST\n";

    #[test]
    fn lists_read_back() {
        let read = parse(LIST);
        let times: Vec<_> = read.iter().map(|segment| (segment.start_ms, segment.duration_ms, segment.offset, segment.discontinuity)).collect();
        assert_eq!(times, [(0, 4_000, 4_096, false), (4_000, 2_500, 4_296, false), (6_500, 1_234, 4_096, true)]);
        assert_eq!((read[0].starts_at, read[2].map_uri.as_deref()), (Some(WallTime::from_unix_millis(1_700_000_000_040)), Some("init-3.m4s")));
        let again = relist(&read[1..], |index| if index == 0 { "../7/".to_owned() } else { String::new() });
        let playlist = m3u8_rs::parse_media_playlist_res(again.as_bytes()).unwrap();
        assert!(playlist.end_list && playlist.segments.len() == 2 && playlist.segments[1].discontinuity);
        assert_eq!(playlist.segments[0].uri, "../7/media-1.m4s");
        assert_eq!(playlist.segments[0].map.as_ref().map(|map| map.uri.as_str()), Some("../7/init-1.m4s"));
    }

    proptest::proptest! {
        #[test]
        fn any_list_is_read(lines in proptest::collection::vec("(#EXTINF:|#EXT-X-BYTERANGE:|#EXT-X-MAP:URI=\"|#EXT-X-DISCONTINUITY)?[0-9.@a-z\"]{0,8}", 0..12)) {
            fuzz_playlist(lines.join("\n").as_bytes());
        }
    }
}
