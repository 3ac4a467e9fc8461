//! Playlists of recordings that hold several tracks of a kind: one that joins them (RFC 8216, 4.3.4), and one for each track, made out of the list of the
//! files that hold them all.

use std::fmt::Write;

use super::mp4::{InitTrack, Rendition, TrackShare};
use crate::media::TrackKind;
use crate::media::label::Label;

/// In front of the names of what is made for one track: `rendition.audio-2.NAME`.
const PREFIX: &str = "rendition.";
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

/// The playlist that joins the tracks. Sounds of one codec are the renditions of a group, of which the first is what plays by itself; every picture is a variant
/// with each of the groups, so that a player finds one whose codecs it knows.
/// `name`: of the list of the files. `shares`: what each track has in some segment of them. `rates`: see [`rates`].
pub fn master(tracks: &[InitTrack], shares: &[TrackShare], (peak, average): (u64, u64), name: &str) -> String {
    let share = |track: &InitTrack| shares.iter().find(|share| share.id == track.id);
    let bytes = |track: &InitTrack| share(track).map_or(0, |share| share.bytes);
    let total = tracks.iter().map(bytes).sum::<u64>().max(1);
    let part = |rate: u64, bytes: u64| (u128::from(rate) * u128::from(bytes) / u128::from(total)) as u64;
    let of_kind = |kind| tracks.iter().filter(move |track| track.kind == kind).zip(1..);
    // Codec, and the bytes of the largest sound.
    let mut groups: Vec<(&str, u64)> = Vec::new();
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    for (track, number) in of_kind(TrackKind::Audio) {
        let known = groups.iter().position(|(codec, _)| *codec == track.codecs);
        let group = known.unwrap_or(groups.len());
        match groups.get_mut(group) {
            Some((_, most)) => *most = bytes(track).max(*most),
            None => groups.push((&track.codecs, bytes(track))),
        }
        let default = if known.is_none() { "YES" } else { "NO" };
        // A player chooses by the language, where it tells two apart (RFC 8216, 4.3.4.1.1).
        let Label { language, name: said } = &track.label;
        let is_first_of = |of: fn(&Label) -> &str| {
            let alike = |(other, _): &(&InitTrack, usize)| of(&other.label) == of(&track.label);
            !of(&track.label).is_empty() && of_kind(TrackKind::Audio).find(alike).is_some_and(|(_, first)| first == number)
        };
        let auto = if known.is_none() || is_first_of(|label| &label.language) { "YES" } else { "NO" };
        let title = if is_first_of(|label| &label.name) { said.replace('"', "'") } else { format!("Audio {number}") };
        let language = if language.is_empty() { String::new() } else { format!("LANGUAGE=\"{language}\",") };
        let uri = name_of(Rendition { kind: TrackKind::Audio, number }, name);
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio-{}\",NAME=\"{title}\",{language}DEFAULT={default},AUTOSELECT={auto},CHANNELS=\"{}\",URI=\"{uri}\"",
            group + 1,
            track.channels
        );
    }
    let mut variant = |track: &InitTrack, number: usize, group: Option<(usize, &str, u64)>| {
        let bytes = bytes(track) + group.map_or(0, |(_, _, most)| most);
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}", part(peak, bytes).max(1), part(average, bytes).max(1));
        let picture = (track.kind == TrackKind::Video).then_some(track.codecs.as_str());
        let codecs: Vec<&str> = picture.into_iter().chain(group.map(|(_, codec, _)| codec)).collect();
        let _ = write!(text, ",CODECS=\"{}\"", codecs.join(","));
        if picture.is_some() {
            let _ = write!(text, ",RESOLUTION={}x{}", track.width, track.height);
            if let Some(share) = share(track).filter(|share| share.samples > 1 && share.duration_ms > 0) {
                let _ = write!(text, ",FRAME-RATE={:.3}", share.samples as f64 * 1_000.0 / share.duration_ms as f64);
            }
        }
        if let Some((group, ..)) = group {
            let _ = write!(text, ",AUDIO=\"audio-{group}\"");
        }
        let _ = writeln!(text, "\n{}", name_of(Rendition { kind: track.kind, number }, name));
    };
    let groups: Vec<_> = groups.iter().zip(1..).map(|((codec, most), group)| (group, *codec, *most)).collect();
    for (track, number) in of_kind(TrackKind::Video) {
        if groups.is_empty() {
            variant(track, number, None);
        }
        groups.iter().for_each(|group| variant(track, number, Some(*group)));
    }
    if of_kind(TrackKind::Video).next().is_none() {
        // The first sound of each codec, and the others of that beside it.
        for (group, codec, most) in groups {
            let first = of_kind(TrackKind::Audio).find(|(track, _)| track.codecs == codec);
            // Its own bytes are counted by the variant.
            first.into_iter().for_each(|(track, number)| variant(track, number, Some((group, codec, most - bytes(track)))));
        }
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
        InitTrack { id, kind, codecs: codecs.to_owned(), width, height, channels, label: Label::default() }
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
        let variants: Vec<_> = playlist.variants.iter().map(|variant| (variant.uri.as_str(), variant.bandwidth, variant.audio.as_deref())).collect();
        assert_eq!(
            variants,
            [
                ("rendition.video-1.a.m3u8", 700_000, Some("audio-1")),
                ("rendition.video-1.a.m3u8", 650_000, Some("audio-2")),
                ("rendition.video-2.a.m3u8", 350_000, Some("audio-1")),
                ("rendition.video-2.a.m3u8", 300_000, Some("audio-2"))
            ]
        );
        assert_eq!(playlist.variants[0].average_bandwidth, Some(560_000));
        assert_eq!(playlist.variants[3].codecs.as_deref(), Some("avc1.64000c,opus"));
        assert_eq!(playlist.variants[0].frame_rate, Some(25.0));
        let sounds: Vec<_> = playlist.alternatives.iter().map(|sound| (sound.uri.as_deref(), sound.default)).collect();
        assert_eq!(sounds, [(Some("rendition.audio-1.a.m3u8"), true), (Some("rendition.audio-2.a.m3u8"), true)]);
        // Sounds alone.
        let sounds = [tracks[1].clone(), track(3, TrackKind::Audio, "mp4a.40.2")];
        let text = master(&sounds, &shares, (150_000, 150_000), "a.m3u8");
        let playlist = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
        let variant = &playlist.variants[0];
        assert_eq!((playlist.variants.len(), variant.uri.as_str(), variant.bandwidth), (1, "rendition.audio-1.a.m3u8", 100_000));
        let sounds: Vec<_> = playlist.alternatives.iter().map(|sound| (sound.group_id.as_str(), sound.default)).collect();
        assert_eq!(sounds, [("audio-1", true), ("audio-1", false)]);
        // Languages and names, as far as they tell sounds apart.
        let labelled = |id, language, name| InitTrack { label: Label::new(language, name), ..track(id, TrackKind::Audio, "mp4a.40.2") };
        let sounds = [labelled(1, "en", "Main \"A\""), labelled(2, "de-CH", "Kommentar"), labelled(3, "en", "Kommentar"), labelled(4, "", "")];
        let text = master(&sounds, &[], (0, 0), "a.m3u8");
        let playlist = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
        let told: Vec<_> = playlist.alternatives.iter().map(|sound| (sound.name.as_str(), sound.language.as_deref(), sound.autoselect)).collect();
        let expected = [("Main 'A'", Some("en"), true), ("Kommentar", Some("de-CH"), true), ("Audio 3", Some("en"), false), ("Audio 4", None, false)];
        assert_eq!(told, expected);
        // Before the first segment is known.
        assert!(m3u8_rs::parse_master_playlist_res(master(&tracks, &[], (0, 0), "a.m3u8").as_bytes()).is_ok());
    }
}
