//! Playlists of results: reading those that the encoder wrote, encrypting what they name, and writing the one that joins them (RFC 8216).

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::domain::content_key::{self, ContentKey};

/// A media playlist of ours is small: a day of one-second segments is below 10 MiB.
const PLAYLIST_BYTES_MAX: u64 = 32 << 20;

/// What a media playlist names.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct MediaPlaylist {
    pub text: String,
    pub segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Segment {
    pub duration_s: f64,
    pub uri: String,
    /// Of a byte range; `None`: the whole file.
    pub bytes: Option<u64>,
}

/// Reads a playlist that the encoder wrote.
///
/// # Errors
/// If there is none, or it has no end: the encoder did not finish it.
pub fn read(path: &Path) -> io::Result<MediaPlaylist> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the playlist {} {what}", path.display()));
    if std::fs::metadata(path)?.len() > PLAYLIST_BYTES_MAX {
        return Err(bad("is too long"));
    }
    let playlist = parse(std::fs::read_to_string(path)?);
    if !playlist.text.contains("#EXT-X-ENDLIST") || playlist.segments.is_empty() {
        return Err(bad("is not complete"));
    }
    Ok(playlist)
}

fn parse(text: String) -> MediaPlaylist {
    let (mut segments, mut duration_s, mut bytes) = (Vec::new(), 0.0, None);
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("#EXTINF:") {
            duration_s = info.split(',').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
        } else if let Some(range) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            bytes = range.split('@').next().and_then(|number| number.parse().ok());
        } else if !line.is_empty() && !line.starts_with('#') {
            segments.push(Segment { duration_s, uri: line.to_owned(), bytes: bytes.take() });
        }
    }
    MediaPlaylist { text, segments }
}

/// Bits a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Of the densest segment.
    pub peak: u64,
    pub average: u64,
}

impl MediaPlaylist {
    pub fn duration_ms(&self) -> u64 {
        (self.segments.iter().map(|segment| segment.duration_s).sum::<f64>() * 1_000.0).round() as u64
    }

    /// Rates of the segments in `folder`.
    pub fn rates(&self, folder: &Path) -> io::Result<Rates> {
        let (mut peak, mut bytes, mut seconds) = (0.0_f64, 0, 0.0);
        let longest = self.segments.iter().map(|segment| segment.duration_s).fold(0.0, f64::max);
        for segment in &self.segments {
            let size = match segment.bytes {
                Some(bytes) => bytes,
                None => std::fs::metadata(folder.join(&segment.uri))?.len(),
            };
            // A last bit of a few frames says nothing of what a line has to carry.
            if segment.duration_s * 2.0 >= longest {
                peak = peak.max(size as f64 * 8.0 / segment.duration_s.max(0.001));
            }
            bytes += size;
            seconds += segment.duration_s;
        }
        let average = (bytes as f64 * 8.0 / seconds.max(0.001)).ceil() as u64;
        Ok(Rates { peak: (peak.ceil() as u64).max(average), average })
    }
}

/// Encrypts all segments in place (AES-128, CBC, the initialization vector being the number of the segment: RFC 8216, 5.2), and gives the playlist that
/// names the keys. `next_key` makes a key and the address for it; every `rotation` segments there is a new one, 0: never.
pub fn encrypt(
    playlist: &MediaPlaylist,
    folder: &Path,
    rotation: u64,
    next_key: &mut dyn FnMut() -> io::Result<(ContentKey, String)>,
) -> io::Result<String> {
    let mut text = String::new();
    let (mut number, mut key) = (0_u64, None);
    for line in playlist.text.lines() {
        if line.starts_with("#EXTINF:") && (key.is_none() || (rotation > 0 && number.is_multiple_of(rotation))) {
            let (made, address) = next_key()?;
            let _ = writeln!(text, "#EXT-X-KEY:METHOD=AES-128,URI=\"{address}\"");
            key = Some(made);
        }
        if !line.is_empty() && !line.starts_with('#') {
            let path = folder.join(line);
            let key = key.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a segment without a duration"))?;
            let plain = std::fs::read(&path)?;
            std::fs::write(&path, content_key::encrypt_segment(key, number, &plain))?;
            number += 1;
        }
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

/// A line of the joining playlist.
#[derive(Clone, PartialEq, Debug)]
pub struct Variant {
    pub playlist: String,
    pub rates: Rates,
    pub codecs: Vec<String>,
    /// Pixels and frames a second; `None`: sound alone.
    pub video: Option<(u64, u64, f64)>,
    pub audio_group: Option<usize>,
}

/// Sound beside the video.
#[derive(Clone, PartialEq, Debug)]
pub struct AudioGroup {
    pub playlist: String,
    pub channels: u64,
}

/// The playlist that joins all: the version is that of byte ranges (TS) or of fragments (MP4).
pub fn master(variants: &[Variant], groups: &[AudioGroup], fmp4: bool) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{}\n#EXT-X-INDEPENDENT-SEGMENTS\n", if fmp4 { 7 } else { 4 });
    for (number, group) in groups.iter().enumerate() {
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio{number}\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"{}\",URI=\"{}\"",
            group.channels, group.playlist
        );
    }
    for variant in variants {
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}", variant.rates.peak, variant.rates.average);
        let _ = write!(text, ",CODECS=\"{}\"", variant.codecs.join(","));
        if let Some((width, height, fps)) = variant.video {
            let _ = write!(text, ",RESOLUTION={width}x{height},FRAME-RATE={fps:.3}");
        }
        if let Some(group) = variant.audio_group {
            let _ = write!(text, ",AUDIO=\"audio{group}\"");
        }
        let _ = write!(text, "\n{}\n", variant.playlist);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGES: &str = "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:6\n#EXTINF:6.000000,\n#EXT-X-BYTERANGE:1200@0\na.ts\n#EXTINF:2.000000,\n\
                          #EXT-X-BYTERANGE:1000@1200\na.ts\n#EXT-X-ENDLIST\n";

    #[test]
    fn rates_of_ranges() {
        let playlist = parse(RANGES.to_owned());
        assert_eq!((playlist.segments.len(), playlist.duration_ms()), (2, 8_000));
        // The second one is short: 4000 bit/s of it are no peak.
        assert_eq!(playlist.rates(Path::new("/nowhere")).unwrap(), Rates { peak: 2_200, average: 2_200 });
    }

    #[test]
    fn incomplete_playlists_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.m3u8");
        assert!(read(&path).is_err());
        std::fs::write(&path, RANGES.replace("#EXT-X-ENDLIST\n", "")).unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, RANGES).unwrap();
        assert_eq!(read(&path).unwrap().segments.len(), 2);
    }

    #[test]
    fn encrypted_segments_come_back_with_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let text = "#EXTM3U\n#EXT-X-MAP:URI=\"i.m4s\"\n#EXTINF:4,\n0.ts\n#EXTINF:4,\n1.ts\n#EXTINF:4,\n2.ts\n#EXT-X-ENDLIST\n";
        for number in 0..3 {
            std::fs::write(folder.path().join(format!("{number}.ts")), format!("segment {number}")).unwrap();
        }
        let mut keys = Vec::new();
        let mut next = || {
            let key = ContentKey([keys.len() as u8 + 1; 16]);
            keys.push(key.clone());
            Ok((key, format!("key?edk={}", keys.len())))
        };
        let encrypted = encrypt(&parse(text.to_owned()), folder.path(), 2, &mut next).unwrap();
        let expected = "#EXTM3U\n#EXT-X-MAP:URI=\"i.m4s\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"key?edk=1\"\n#EXTINF:4,\n0.ts\n#EXTINF:4,\n1.ts\n\
                        #EXT-X-KEY:METHOD=AES-128,URI=\"key?edk=2\"\n#EXTINF:4,\n2.ts\n#EXT-X-ENDLIST\n";
        assert_eq!(encrypted, expected);
        for number in 0..3_u64 {
            let bytes = std::fs::read(folder.path().join(format!("{number}.ts"))).unwrap();
            assert_eq!(bytes.len(), 16);
            let plain = content_key::decrypt_segment(&keys[number as usize / 2], number, &bytes).unwrap();
            assert_eq!(plain, format!("segment {number}").into_bytes());
        }
    }

    #[test]
    fn the_joining_playlist() {
        let variant = Variant {
            playlist: "p.1.m3u8".to_owned(),
            rates: Rates { peak: 500_000, average: 400_000 },
            codecs: vec!["avc1.64001e".to_owned(), "mp4a.40.2".to_owned()],
            video: Some((426, 240, 25.0)),
            audio_group: Some(0),
        };
        let group = AudioGroup { playlist: "p.a1.m3u8".to_owned(), channels: 2 };
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio0\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"p.a1.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=500000,AVERAGE-BANDWIDTH=400000,CODECS=\"avc1.64001e,mp4a.40.2\",RESOLUTION=426x240,FRAME-RATE=25.000,AUDIO=\"audio0\"\n\
            p.1.m3u8\n";
        let text = master(&[variant], &[group], true);
        assert_eq!(text, expected);
        assert!(matches!(m3u8_rs::parse_playlist_res(text.as_bytes()), Ok(m3u8_rs::Playlist::MasterPlaylist(_))));
    }
}
