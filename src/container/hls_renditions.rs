//! Playlists of recordings that hold several tracks of a kind: one that joins them (RFC 8216, 4.3.4), and one for each track, made out of the list of the
//! files that hold them all.

use std::fmt::Write;

use super::mp4::{InitTrack, Rendition, TrackShare};
use crate::media::TrackKind;

/// In front of the names of what is made for one track: `rendition.audio-2.NAME`.
const PREFIX: &str = "rendition.";
/// The group that joins all sounds.
const AUDIO_GROUP: &str = "audio";

/// The track and the name behind it.
pub fn split_name(name: &str) -> Option<(Rendition, &str)> {
    let (rendition, rest) = name.strip_prefix(PREFIX)?.split_once('.')?;
    Rendition::parse(rendition).map(|rendition| (rendition, rest))
}

/// A stretch of a media file, in front of that one's name: `4096-200.media-1.m4s`.
pub fn split_range(name: &str) -> Option<(u64, u64, &str)> {
    let (range, file) = name.split_once('.')?;
    let (offset, bytes) = range.split_once('-')?;
    Some((offset.parse().ok()?, bytes.parse().ok()?, file))
}

fn name_of(rendition: Rendition, name: &str) -> String {
    format!("{PREFIX}{rendition}.{name}")
}

/// Does a file hold more than one track of a kind?
pub fn are_several(tracks: &[InitTrack]) -> bool {
    [TrackKind::Video, TrackKind::Audio].iter().any(|kind| tracks.iter().filter(|track| track.kind == *kind).count() > 1)
}

/// Addresses of the init segments of a media playlist, each once, in their order.
pub fn maps(text: &str) -> Vec<&str> {
    let mut maps: Vec<&str> = Vec::new();
    for map in text.lines().filter_map(map_uri) {
        if !maps.contains(&map) {
            maps.push(map);
        }
    }
    maps
}

fn map_uri(line: &str) -> Option<&str> {
    line.strip_prefix("#EXT-X-MAP:URI=\"")?.split('"').next()
}

/// The list of one track from the list of the files. `has_track`: whether the files behind an init segment have a track for it; where they have none, their
/// segments are gaps.
pub fn of_track(text: &str, rendition: Rendition, has_track: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut range, mut gap) = (None, false);
    let alone = |uri: &str, range: Option<&str>| {
        let (folder, file) = uri.rsplit_once('/').map_or(("", uri), |(folder, file)| (&uri[..=folder.len()], file));
        let file = range.map_or_else(|| file.to_owned(), |range| format!("{range}.{file}"));
        format!("{folder}{}", name_of(rendition, &file))
    };
    for line in text.lines() {
        if let Some(map) = map_uri(line) {
            gap = !has_track(map);
            if !gap {
                let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}\"", alone(map, None));
            }
        } else if let Some((bytes, offset)) = line.strip_prefix("#EXT-X-BYTERANGE:").and_then(|range| range.split_once('@')) {
            range = Some(format!("{offset}-{bytes}"));
        } else if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(out, "{line}");
        } else {
            if gap {
                out.push_str("#EXT-X-GAP\n");
            }
            let _ = writeln!(out, "{}", alone(line, range.take().as_deref()));
        }
    }
    out
}

/// Bits a second of the whole files behind a playlist: of the densest segment, and on average.
pub fn rates(text: &str) -> (u64, u64) {
    let segments = super::hls::parse(text);
    let longest_ms = segments.iter().map(|segment| segment.duration_ms).max().unwrap_or(0);
    let rate = |bytes: u64, ms: u64| (u128::from(bytes) * 8_000 / u128::from(ms.max(1))) as u64;
    // A last bit of a few frames says nothing of what a line has to carry.
    let peak = segments.iter().filter(|segment| segment.duration_ms * 2 >= longest_ms).map(|segment| rate(segment.bytes, segment.duration_ms)).max();
    let average = rate(segments.iter().map(|segment| segment.bytes).sum(), segments.iter().map(|segment| segment.duration_ms).sum());
    (peak.unwrap_or(0).max(average), average)
}

/// The playlist that joins the tracks: every sound is a rendition of one group, of which the first is what plays by itself; every picture is a variant.
/// `name`: of the list of the files. `shares`: what each track has in some segment of them. `rates`: see [`rates`].
pub fn master(tracks: &[InitTrack], shares: &[TrackShare], (peak, average): (u64, u64), name: &str) -> String {
    let share = |track: &InitTrack| shares.iter().find(|share| share.id == track.id);
    let bytes = |track: &InitTrack| share(track).map_or(0, |share| share.bytes);
    let total = tracks.iter().map(bytes).sum::<u64>().max(1);
    let part = |rate: u64, bytes: u64| (u128::from(rate) * u128::from(bytes) / u128::from(total)) as u64;
    let of_kind = |kind| tracks.iter().filter(move |track| track.kind == kind);
    let loudest = of_kind(TrackKind::Audio).map(bytes).max().unwrap_or(0);
    let mut sound_codecs: Vec<&str> = Vec::new();
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    for (track, number) in of_kind(TrackKind::Audio).zip(1..) {
        if !sound_codecs.contains(&track.codecs.as_str()) {
            sound_codecs.push(&track.codecs);
        }
        let default = if number == 1 { "YES" } else { "NO" };
        let uri = name_of(Rendition { kind: TrackKind::Audio, number }, name);
        // Of sounds in one group alone some can be chosen by themselves: by language, which nobody tells.
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"Audio {number}\",DEFAULT={default},AUTOSELECT={default},CHANNELS=\"{}\",URI=\"{uri}\"",
            track.channels
        );
    }
    let mut variant = |track: &InitTrack, number: usize, sound: u64, codecs: &[&str]| {
        let bytes = bytes(track) + sound;
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}", part(peak, bytes).max(1), part(average, bytes).max(1));
        let _ = write!(text, ",CODECS=\"{}\"", codecs.join(","));
        if track.kind == TrackKind::Video {
            let _ = write!(text, ",RESOLUTION={}x{}", track.width, track.height);
            if let Some(share) = share(track).filter(|share| share.samples > 1 && share.duration_ms > 0) {
                let _ = write!(text, ",FRAME-RATE={:.3}", share.samples as f64 * 1_000.0 / share.duration_ms as f64);
            }
        }
        if !sound_codecs.is_empty() {
            let _ = write!(text, ",AUDIO=\"{AUDIO_GROUP}\"");
        }
        let _ = writeln!(text, "\n{}", name_of(Rendition { kind: track.kind, number }, name));
    };
    let mut has_picture = false;
    for (track, number) in of_kind(TrackKind::Video).zip(1..) {
        has_picture = true;
        let codecs: Vec<&str> = std::iter::once(track.codecs.as_str()).chain(sound_codecs.iter().copied()).collect();
        variant(track, number, loudest, &codecs);
    }
    if let (false, Some(track)) = (has_picture, of_kind(TrackKind::Audio).next()) {
        variant(track, 1, 0, &sound_codecs.clone());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n\
        #EXT-X-MAP:URI=\"init-1.m4s\"\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.040Z\n#EXTINF:4.000,\n#EXT-X-BYTERANGE:200000@4096\nmedia-1.m4s\n\
        #EXTINF:4.000,\n#EXT-X-BYTERANGE:100000@204096\nmedia-1.m4s\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"../7/init-3.m4s\"\n#EXTINF:1.000,\n#EXT-X-BYTERANGE:100000@4096\n../7/media-3.m4s\n#EXT-X-ENDLIST\n";

    fn track(id: u32, kind: TrackKind, codecs: &str) -> InitTrack {
        let (width, height, channels) = if kind == TrackKind::Video { (640, 360, 0) } else { (0, 0, 2) };
        InitTrack { id, kind, codecs: codecs.to_owned(), width, height, channels }
    }

    #[test]
    fn names_of_what_is_made() {
        let (rendition, rest) = split_name("rendition.audio-2.4096-200.media-1.m4s").unwrap();
        assert_eq!((rendition.to_string().as_str(), split_range(rest)), ("audio-2", Some((4096, 200, "media-1.m4s"))));
        for name in ["rendition.m3u8", "audio-2.x.m3u8", "rendition.audio-2", "rendition.audio-0.x", "rendition..x"] {
            assert!(split_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_track_has_a_list_of_its_own() {
        let rendition = Rendition { kind: TrackKind::Audio, number: 2 };
        let text = of_track(LIST, rendition, |_| true);
        let list = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        let uris: Vec<_> = list.segments.iter().map(|segment| segment.uri.as_str()).collect();
        assert_eq!(
            uris,
            [
                "rendition.audio-2.4096-200000.media-1.m4s",
                "rendition.audio-2.204096-100000.media-1.m4s",
                "../7/rendition.audio-2.4096-100000.media-3.m4s"
            ]
        );
        assert!(list.end_list && list.segments[2].discontinuity && list.segments.iter().all(|segment| segment.byte_range.is_none()));
        assert_eq!(list.segments[2].map.as_ref().map(|map| map.uri.as_str()), Some("../7/rendition.audio-2.init-3.m4s"));
        let text = of_track(LIST, rendition, |map| map == "init-1.m4s");
        assert_eq!((text.matches("#EXT-X-GAP").count(), text.matches("#EXT-X-MAP").count()), (1, 1));
        assert_eq!(maps(LIST), ["init-1.m4s", "../7/init-3.m4s"]);
        assert_eq!(rates(LIST), (400_000, 355_555));
    }

    #[test]
    fn a_player_finds_all_tracks() {
        let tracks = [
            track(1, TrackKind::Video, "avc1.64001f"),
            track(2, TrackKind::Audio, "mp4a.40.2"),
            track(3, TrackKind::Audio, "opus"),
            track(4, TrackKind::Video, "avc1.64000c"),
        ];
        assert!(are_several(&tracks) && !are_several(&tracks[..2]));
        let share = |id, bytes| TrackShare { id, bytes, samples: 50, duration_ms: 2_000 };
        let shares = [share(1, 600), share(2, 100), share(3, 50), share(4, 250)];
        let text = master(&tracks, &shares, (1_000_000, 800_000), "a.m3u8");
        let playlist = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
        let variants: Vec<_> = playlist.variants.iter().map(|variant| (variant.uri.as_str(), variant.bandwidth, variant.average_bandwidth)).collect();
        assert_eq!(variants, [("rendition.video-1.a.m3u8", 700_000, Some(560_000)), ("rendition.video-2.a.m3u8", 350_000, Some(280_000))]);
        assert_eq!(playlist.variants[1].codecs.as_deref(), Some("avc1.64000c,mp4a.40.2,opus"));
        assert_eq!(playlist.variants[0].frame_rate, Some(25.0));
        let sounds: Vec<_> = playlist.alternatives.iter().map(|sound| (sound.uri.as_deref(), sound.default)).collect();
        assert_eq!(sounds, [(Some("rendition.audio-1.a.m3u8"), true), (Some("rendition.audio-2.a.m3u8"), false)]);
        // Sounds alone.
        let text = master(&tracks[1..3], &shares, (100_000, 100_000), "a.m3u8");
        let playlist = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
        assert_eq!((playlist.variants.len(), playlist.variants[0].uri.as_str()), (1, "rendition.audio-1.a.m3u8"));
        // Before the first segment is known.
        assert!(m3u8_rs::parse_master_playlist_res(master(&tracks, &[], (0, 0), "a.m3u8").as_bytes()).is_ok());
    }
}
