//! Date ranges in playlists (RFC 8216, 4.3.2.7): cue points and splices of SCTE-35 that the publisher sends, at the time of day where they stand.

use std::collections::VecDeque;
use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::hls::ENDLIST;
use crate::media::note::Note;
use crate::units::WallTime;

const TAG: &str = "#EXT-X-DATERANGE:";
/// A cue point's content beyond this is in the stream's own messages alone.
const CUE_BYTES_MAX: usize = 4 << 10;
/// Breaks that have begun and not ended: the oldest is forgotten.
const BREAKS_MAX: usize = 16;
/// `splice_insert` (SCTE 35, 9.7.3) and where it begins in a section: behind the 13 bytes and the type of the command.
const SPLICE_INSERT: u8 = 5;
const COMMAND_AT: usize = 14;

/// The date ranges of one playlist so far.
#[derive(Debug, Default)]
pub struct DateRanges {
    count: u64,
    /// Breaks that have begun: event, and what their range says of its begin.
    breaks: VecDeque<(u32, String)>,
}

impl DateRanges {
    /// The line of a message that stands at `at`; `None`: it marks nothing.
    pub fn line(&mut self, at: WallTime, note: &Note) -> Option<String> {
        let start = jiff::Timestamp::from_microsecond(at.unix_micros()).ok().map(|at| format!("{at:.3}"))?;
        if let Some(section) = &note.splice {
            return Some(self.splice(&start, section));
        }
        if note.name != "onCuePoint" {
            return None;
        }
        let id = self.id("cue", at);
        let mut line = format!("{TAG}ID=\"{id}\",CLASS=\"onCuePoint\",START-DATE=\"{start}\",DURATION=0.000");
        if note.json.len() <= CUE_BYTES_MAX {
            let _ = write!(line, ",X-MESSAGE=\"{}\"", STANDARD.encode(&note.json));
        }
        line.push('\n');
        Some(line)
    }

    /// Unique in the playlist, also where the publication goes on with that of another.
    fn id(&mut self, kind: &str, at: WallTime) -> String {
        self.count += 1;
        format!("{kind}-{}-{}", at.unix_millis(), self.count)
    }

    fn splice(&mut self, start: &str, section: &[u8]) -> String {
        let hex = section.iter().fold(String::from("0x"), |mut hex, byte| {
            let _ = write!(hex, "{byte:02X}");
            hex
        });
        let class = "CLASS=\"urn:scte:scte35:2013:bin\"";
        match insert(section) {
            Some(Insert { event, out: true, duration_ms }) => {
                let id = format!("splice-{event}-{}", self.count);
                self.count += 1;
                let begin = format!("ID=\"{id}\",{class},START-DATE=\"{start}\"");
                self.breaks.retain(|(known, _)| *known != event);
                if self.breaks.len() >= BREAKS_MAX {
                    self.breaks.pop_front();
                }
                self.breaks.push_back((event, begin.clone()));
                let planned = duration_ms.map(|ms| format!(",PLANNED-DURATION={}.{:03}", ms / 1_000, ms % 1_000)).unwrap_or_default();
                format!("{TAG}{begin}{planned},SCTE35-OUT={hex}\n")
            }
            // The end of a break has what its begin said (4.3.2.7.1).
            Some(Insert { event, out: false, .. }) if self.breaks.iter().any(|(known, _)| *known == event) => {
                let at = self.breaks.iter().position(|(known, _)| *known == event).and_then(|at| self.breaks.remove(at));
                let begin = at.map(|(_, begin)| begin).unwrap_or_default();
                format!("{TAG}{begin},END-DATE=\"{start}\",SCTE35-IN={hex}\n")
            }
            insert => {
                self.count += 1;
                let attribute = if insert.is_some() { "SCTE35-IN" } else { "SCTE35-CMD" };
                let stamp: String = start.chars().filter(char::is_ascii_digit).collect();
                format!("{TAG}ID=\"splice-{stamp}-{}\",{class},START-DATE=\"{start}\",{attribute}={hex}\n", self.count)
            }
        }
    }
}

/// A `splice_insert`.
struct Insert {
    event: u32,
    /// Away from the network: a break begins.
    out: bool,
    duration_ms: Option<u64>,
}

/// `None`: the section is another command, encrypted, or it takes one back.
fn insert(section: &[u8]) -> Option<Insert> {
    let encrypted = *section.get(4)? & 0x80 != 0;
    if encrypted || *section.get(COMMAND_AT - 1)? != SPLICE_INSERT {
        return None;
    }
    let command = section.get(COMMAND_AT..)?;
    let event = u32::from_be_bytes(command.get(..4)?.try_into().ok()?);
    if command.get(4)? & 0x80 != 0 {
        return None;
    }
    let flags = *command.get(5)?;
    let (out, program, has_duration, immediate) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 0x20 != 0, flags & 0x10 != 0);
    // splice_time: five bytes with a time, one without; only of a whole program is it looked for.
    let time_bytes = match (program, immediate) {
        (true, true) => Some(0),
        (true, false) => command.get(6).map(|byte| if byte & 0x80 != 0 { 5 } else { 1 }),
        (false, _) => None,
    };
    let duration = time_bytes.filter(|_| has_duration).and_then(|bytes| command.get(6 + bytes..)?.first_chunk::<5>());
    let duration_ms = duration.map(|[a, b, c, d, e]| u64::from_be_bytes([0, 0, 0, a & 1, *b, *c, *d, *e]) / 90);
    Some(Insert { event, out, duration_ms })
}

/// The playlist with the date ranges that the live one had, each in front of the segment where it stood.
pub fn carry(live: &str, rebuilt: &str) -> String {
    let mut marks: VecDeque<(usize, &str)> = VecDeque::new();
    let mut segments = 0;
    for line in live.lines() {
        if line.starts_with(TAG) {
            marks.push_back((segments, line));
        } else if is_segment(line) {
            segments += 1;
        }
    }
    if marks.is_empty() {
        return rebuilt.to_owned();
    }
    let mut out = String::with_capacity(rebuilt.len() + live.len());
    // The first tag of a segment says that it begins; the tags of the list itself come before them all.
    let (mut segments, mut inside) = (0, false);
    for line in rebuilt.lines() {
        let begins = ["#EXT-X-DISCONTINUITY", "#EXT-X-KEY", "#EXT-X-MAP", "#EXT-X-PROGRAM-DATE-TIME", "#EXTINF", ENDLIST.trim_end()]
            .iter()
            .any(|tag| line.starts_with(tag));
        if begins && !inside {
            inside = true;
            let is_end = line == ENDLIST.trim_end();
            while let Some((before, mark)) = marks.front()
                && (*before <= segments || is_end)
            {
                let _ = writeln!(out, "{mark}");
                marks.pop_front();
            }
        }
        if is_segment(line) {
            segments += 1;
            inside = false;
        }
        out.push_str(line);
        out.push('\n');
    }
    marks.iter().for_each(|(_, mark)| {
        let _ = writeln!(out, "{mark}");
    });
    out
}

fn is_segment(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, splice: Option<&str>) -> Note {
        Note { name: name.to_owned(), json: r#"{"name":"x"}"#.to_owned(), splice: splice.map(|text| STANDARD.decode(text).unwrap()) }
    }

    const AT: WallTime = WallTime::from_unix_millis(1_700_000_000_040);

    #[test]
    fn messages_mark_what_they_are() {
        let mut ranges = DateRanges::default();
        assert_eq!(ranges.line(AT, &note("onTextData", None)), None);
        let cue = ranges.line(AT, &note("onCuePoint", None)).unwrap();
        assert!(cue.starts_with("#EXT-X-DATERANGE:ID=\"cue-1700000000040-1\",CLASS=\"onCuePoint\",START-DATE=\"2023-11-14T22:13:20.040Z\""), "{cue}");
        // SCTE 35, 14.2: a splice_insert that goes out for 60.293 s; and 14.1, a time_signal.
        let out = "/DAvAAAAAAAA///wFAVIAACPf+/+c2nALv4AUsz1AAAAAAAKAAhDVUVJAAABNWLbowo=";
        let line = ranges.line(AT, &note("onSCTE35", Some(out))).unwrap();
        assert!(line.contains("ID=\"splice-1207959695-1\"") && line.contains(",PLANNED-DURATION=60.293,SCTE35-OUT=0xFC302F00"), "{line}");
        let signal = "/DA0AAAAAAAA///wBQb+cr0AUAAeAhxDVUVJSAAAjn/PAAGlmbAICAAAAAAsoKGKNAIAmsnRfg==";
        assert!(ranges.line(AT, &note("x", Some(signal))).unwrap().contains(",SCTE35-CMD=0xFC3034"));
        // The same event, back.
        let mut back = STANDARD.decode(out).unwrap();
        back[COMMAND_AT + 5] &= 0x5F;
        let later = WallTime::from_unix_millis(1_700_000_060_000);
        let line = ranges.line(later, &Note { splice: Some(back.clone()), ..note("x", None) }).unwrap();
        assert!(
            line.contains("ID=\"splice-1207959695-1\",CLASS=\"urn:scte:scte35:2013:bin\",START-DATE=\"2023-11-14T22:13:20.040Z\",END-DATE=\"2023-11-14T22:14:20.000Z\",SCTE35-IN=0xFC302F"),
            "{line}"
        );
        assert!(ranges.line(later, &Note { splice: Some(back.clone()), ..note("x", None) }).unwrap().contains("SCTE35-IN="));
        for cut in 0..back.len() {
            ranges.line(later, &Note { splice: Some(back[..cut].to_vec()), ..note("x", None) });
        }
    }

    #[test]
    fn marks_stay_where_they_stood() {
        let live = "#EXTM3U\n#EXT-X-MAP:URI=\"i\"\n#EXT-X-DATERANGE:ID=\"a\"\n#EXTINF:4,\nm\n#EXTINF:4,\nm\n#EXT-X-DATERANGE:ID=\"b\"\n";
        let rebuilt = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:4,\nm\n#EXTINF:4,\nm\n#EXTINF:2,\nm\n#EXT-X-ENDLIST\n";
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-DATERANGE:ID=\"a\"\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:4,\nm\n#EXTINF:4,\nm\n#EXT-X-DATERANGE:ID=\"b\"\n#EXTINF:2,\nm\n#EXT-X-ENDLIST\n";
        assert_eq!(carry(live, rebuilt), expected);
        assert_eq!(carry(expected, rebuilt), expected, "as often as it is built");
        assert_eq!(carry(rebuilt, rebuilt), rebuilt);
        let short = "#EXTM3U\n#EXTINF:4,\nm\n#EXT-X-ENDLIST\n";
        assert_eq!(carry(live, short), "#EXTM3U\n#EXT-X-DATERANGE:ID=\"a\"\n#EXTINF:4,\nm\n#EXT-X-DATERANGE:ID=\"b\"\n#EXT-X-ENDLIST\n");
        assert!(m3u8_rs::parse_media_playlist_res(expected.as_bytes()).is_ok());
    }
}
