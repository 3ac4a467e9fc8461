//! FLV: tags as they were sent, behind an onMetaData with room for what is known at the end only.
//!
//! ```text
//! "FLV" header, PreviousTagSize0 | onMetaData, sequence headers: the head | tag, tag, tag, ...
//! ```
//!
//! Source: Adobe Flash Video File Format Specification 10.1, annex E. Tags are never patched; `scan` rewrites the onMetaData tag in its own size.

mod growing;
mod index;
mod metadata;
mod movie;
mod outline;
mod scan;
mod write;

pub use growing::Growing;
pub use movie::movie;
pub use outline::{Outline, Stretch, fuzz_outline, outline};
pub use scan::{fuzz_flv_scan, scan};
pub use write::{FlvWriter, head};

const TAG_AUDIO: u8 = 8;
const TAG_VIDEO: u8 = 9;
const TAG_SCRIPT: u8 = 18;

/// Type, size, timestamp, stream id.
const TAG_HEADER_BYTES: usize = 11;
/// The size of the tag before, behind each tag.
pub const PREVIOUS_TAG_SIZE_BYTES: usize = 4;
/// The 24 bits of DataSize.
const TAG_BODY_BYTES_MAX: u32 = (1 << 24) - 1;
/// "FLV", version 1, flags, header size, PreviousTagSize0.
const FILE_HEADER_BYTES: usize = 13;
const FILE_FLAG_AUDIO: u8 = 0x04;
const FILE_FLAG_VIDEO: u8 = 0x01;

/// The header of a tag (E.4.1). The timestamp is modulo 2^32 ms: 49.7 days.
fn tag_header(tag_type: u8, body_bytes: usize, timestamp_ms: u32) -> [u8; TAG_HEADER_BYTES] {
    assert!(body_bytes <= TAG_BODY_BYTES_MAX as usize, "messages are bounded below this");
    let [_, s2, s1, s0] = (body_bytes as u32).to_be_bytes();
    let [extended, t2, t1, t0] = timestamp_ms.to_be_bytes();
    [tag_type, s2, s1, s0, t2, t1, t0, extended, 0, 0, 0]
}

const _: () = assert!(crate::limits::MESSAGE_BYTES_MAX <= TAG_BODY_BYTES_MAX);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::container::window::apply;
    use crate::container::{HEAD_ALIGN_BYTES, MemorySink, ScanError};
    use crate::media::flv_tag::{AudioUnit, VideoUnit, parse_audio, parse_video};
    use crate::media::{AudioCodec, AudioTrack, Frame, Payload, TrackKind, Tracks};

    const VIDEO_HEADER: &[u8] = &[
        0x17, 0, 0, 0, 0, 0x01, 0x64, 0x00, 0x0a, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x5e, 0xc0, 0x44, 0x00, 0x00, 0x03,
        0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x48, 0x96, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8,
        0x00,
    ];
    const AUDIO_HEADER: &[u8] = &[0xaf, 0, 0x11, 0x90];

    fn tracks(video: bool, audio: bool) -> Tracks {
        let Ok(VideoUnit::Config(video_track)) = parse_video(Payload::contiguous(VIDEO_HEADER)) else { panic!("a configuration") };
        let Ok(AudioUnit::Config(audio_track)) = parse_audio(Payload::contiguous(AUDIO_HEADER)) else { panic!("a configuration") };
        Tracks { video: video.then_some(video_track), audio: audio.then_some(audio_track), ..Tracks::default() }
    }

    /// Decoding time, tag body.
    type Message = (TrackKind, i64, Vec<u8>);

    /// Two seconds: video at 25 Hz with a key frame in each second and a composition offset of 80 ms, AAC between.
    fn messages() -> Vec<Message> {
        let video = (0..50).map(|n| {
            let key = if n % 25 == 0 { 0x17 } else { 0x27 };
            (TrackKind::Video, 1000 + n * 40, vec![key, 1, 0, 0, 80, 0, 0, 0, 2, 0x65, n as u8])
        });
        let audio = (0..93).map(|n| (TrackKind::Audio, 1000 + n * 64 / 3, vec![0xaf, 1, 0x21, n as u8, 7]));
        let mut messages: Vec<Message> = video.chain(audio).collect();
        messages.sort_by_key(|message| message.1);
        messages
    }

    fn write(tracks: &Tracks, messages: &[Message], zero_ms: i64) -> Vec<u8> {
        let head = head(tracks, 60);
        let mut sink = MemorySink::with_head(&head);
        let mut writer = FlvWriter::new(tracks, &head, zero_ms);
        for (track, dts_ms, body) in messages {
            let payload = Payload::contiguous(body);
            let part = match track {
                TrackKind::Video => match parse_video(payload) {
                    Ok(VideoUnit::Frame(_, part)) => part,
                    other => panic!("{other:?}"),
                },
                TrackKind::Audio => match parse_audio(payload) {
                    Ok(AudioUnit::Frame(_, part)) => part,
                    other => panic!("{other:?}"),
                },
            };
            let frame: Frame<'_> = part.at(*track, *dts_ms);
            let before = sink.bytes.len();
            writer.push(&frame, &mut sink);
            assert_eq!(sink.bytes.len() - before, writer.push_bytes_max(&frame));
            assert_eq!(sink.sealed, sink.bytes.len() as u64);
        }
        match writer.finish(sink.bytes.len() as u64) {
            Ok(plan) => assert_eq!(plan, scan(sink.bytes.as_slice()).unwrap(), "writer and scan agree"),
            Err(_) => assert!(messages.is_empty()),
        }
        sink.bytes
    }

    /// Type, timestamp, body, by a reader of its own.
    fn tags(file: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
        let mut tags = Vec::new();
        let mut rest = &file[FILE_HEADER_BYTES..];
        while !rest.is_empty() {
            let size = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
            let timestamp = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
            tags.push((rest[0], timestamp, rest[11..11 + size].to_vec()));
            assert_eq!(rest[11 + size..15 + size], (size as u32 + 11).to_be_bytes());
            rest = &rest[15 + size..];
        }
        tags
    }

    #[test]
    fn tags_are_the_messages_and_the_head_says_what_comes() {
        let messages = messages();
        let tracks = tracks(true, true);
        let file = write(&tracks, &messages, 1000);
        assert_eq!(&file[..13], b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
        let tags = tags(&file);
        assert_eq!(tags[0].0, TAG_SCRIPT);
        assert_eq!(tags[1], (TAG_VIDEO, 0, VIDEO_HEADER.to_vec()));
        assert_eq!(tags[2], (TAG_AUDIO, 0, AUDIO_HEADER.to_vec()));
        assert_eq!(tags.len() - 3, messages.len());
        for ((tag_type, timestamp, body), (track, dts_ms, sent)) in tags[3..].iter().zip(&messages) {
            assert_eq!(*tag_type, if *track == TrackKind::Video { TAG_VIDEO } else { TAG_AUDIO });
            assert_eq!(i64::from(*timestamp), dts_ms - 1000);
            assert_eq!(body, sent);
        }
    }

    #[test]
    fn heads_are_whole_pages_for_any_tracks_and_interval() {
        let mp3 = Arc::new(AudioTrack::new(AudioCodec::Mp3, &[][..], 48_000, 2, 1152));
        let cases = [
            ("video and audio", tracks(true, true), 5, 3),
            ("video", tracks(true, false), 1, 2),
            ("audio", tracks(false, true), 4, 2),
            ("MP3", Tracks { audio: Some(mp3), ..Tracks::default() }, 4, 1),
        ];
        for (name, tracks, flags, tag_count) in cases {
            for interval_s in [0, 1, 300, 7200, u64::MAX] {
                let head = head(&tracks, interval_s);
                assert_eq!(head.len() % HEAD_ALIGN_BYTES, 0, "{name}");
                assert!(head.len() <= 40 << 10, "{name}");
                assert_eq!(head[4], flags, "{name}");
                assert_eq!(super::tests::tags(&head).len(), tag_count, "{name}");
            }
        }
    }

    #[test]
    fn scan_sums_up_and_fills_in_the_metadata() {
        let messages = messages();
        let mut file = write(&tracks(true, true), &messages, 1000);
        let written = file.len();
        file.resize(written + 10_000, 0);
        let plan = scan(file.as_slice()).unwrap();
        assert_eq!((plan.truncate_to, plan.torn_bytes), (written as u64, 0));
        let video = plan.summary.video.as_ref().unwrap();
        assert_eq!((video.codec.as_str(), video.frames, video.bytes, video.key_frames, video.duration_ms), ("h264", 50, 300, 2, 2000));
        assert_eq!((video.width, video.height), (16, 16));
        let audio = plan.summary.audio.as_ref().unwrap();
        assert_eq!((audio.codec.as_str(), audio.frames, audio.bytes, audio.duration_ms), ("aac", 93, 279, 1962 + 21));
        assert_eq!((audio.sample_rate_hz, audio.channels), (48_000, 2));
        // Audio begins at 0, video is last seen at 1960 + 80 for 40 ms.
        assert_eq!(plan.summary.duration_ms, 2080);

        let finished = apply(&plan, &file);
        assert_eq!(tags(&finished)[1..], tags(&file[..written])[1..]);
        let text = |needle: &[u8]| finished.windows(needle.len()).position(|window| window == needle);
        let number = |name: &str| {
            let at = text(name.as_bytes()).unwrap() + name.len() + 1;
            f64::from_be_bytes(finished[at..at + 8].try_into().unwrap())
        };
        assert_eq!((number("duration"), number("filesize"), number("lasttimestamp")), (2.08, written as f64, 1.962));
        let positions = text(b"filepositions").unwrap() + 13;
        assert_eq!(finished[positions..positions + 5], [10, 0, 0, 0, 2]);
        for entry in 0..2 {
            let at = positions + 5 + entry * 9 + 1;
            let offset = f64::from_be_bytes(finished[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!((finished[offset], finished[offset + 11]), (TAG_VIDEO, 0x17));
        }
        fuzz_flv_scan(&file);
    }

    #[test]
    fn a_file_cut_or_torn_anywhere_keeps_its_whole_tags() {
        let messages = &messages()[..12];
        let tracks = tracks(true, true);
        let file = write(&tracks, messages, 1000);
        let mut ends = vec![head(&tracks, 60).len()];
        for (_, _, body) in messages {
            ends.push(ends.last().unwrap() + 15 + body.len());
        }
        for cut in ends[0]..=file.len() {
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            for zeros in [0, 100] {
                let mut torn = file[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                match scan(torn.as_slice()) {
                    Ok(plan) => {
                        assert_eq!(plan.truncate_to, ends[whole] as u64, "cut at {cut}");
                        assert!(plan.torn_bytes <= (cut - ends[whole]) as u64);
                        let frames = plan.summary.video.map_or(0, |track| track.frames) + plan.summary.audio.map_or(0, |track| track.frames);
                        assert_eq!(frames, whole as u64);
                    }
                    Err(error) => assert!(matches!(error, ScanError::Empty) && whole == 0, "cut at {cut}: {error}"),
                }
                fuzz_flv_scan(&torn);
            }
        }
        for cut in 0..ends[0] {
            assert!(matches!(scan(&file[..cut]), Err(ScanError::Head { .. } | ScanError::Empty)), "cut at {cut}");
        }
        for at in (0..file.len()).step_by(7).chain(ends[0]..file.len()) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            fuzz_flv_scan(&damaged);
        }
    }

    #[test]
    fn timestamps_wrap_in_the_file_and_come_back() {
        let wrap = 1_i64 << 32;
        let message = |dts_ms| (TrackKind::Video, dts_ms, vec![0x17, 1, 0, 0, 0, 9]);
        let steps = [-40, 0, wrap / 3, wrap / 3 * 2, wrap - 20, wrap + 20, wrap + 60];
        let file = write(&tracks(true, false), &steps.map(message), 0);
        let stamps: Vec<u32> = tags(&file)[2..].iter().map(|tag| tag.1).collect();
        assert_eq!(stamps, [0, 0, 0x5555_5555, 0xaaaa_aaaa, u32::MAX - 19, 20, 60]);
        let plan = scan(file.as_slice()).unwrap();
        assert_eq!(plan.summary.duration_ms, (wrap + 60 + 40) as u64);
    }

    /// The file once it is finished.
    fn finished(file: &[u8]) -> Vec<u8> {
        apply(&scan(file).unwrap(), file)
    }

    #[test]
    fn an_outline_gives_the_samples_of_the_whole_file_in_pieces() {
        let wrap = 1_i64 << 32;
        let long = |from: i64| {
            let video = (0..500)
                .map(move |n| (TrackKind::Video, from + n * 40, vec![if n % 25 == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 80, 0, 0, 0, 2, 0x65, n as u8]));
            let audio = (0..930).map(move |n| (TrackKind::Audio, from + n * 64 / 3, vec![0xaf, 1, 0x21, n as u8, 7]));
            let mut messages: Vec<Message> = video.chain(audio).collect();
            messages.sort_by_key(|message| message.1);
            messages
        };
        for (name, tracks, messages) in [
            ("both", tracks(true, true), long(1000)),
            (
                "times that wrap",
                tracks(true, true),
                [0, wrap / 3, wrap / 3 * 2].map(|at| long(at)[0].clone()).into_iter().chain(long(wrap - 9_000)).collect(),
            ),
            ("video alone", tracks(true, false), long(0).into_iter().filter(|message| message.0 == TrackKind::Video).collect()),
        ] {
            let zero_ms = messages[0].1;
            let file = finished(&write(&tracks, &messages, zero_ms));
            let whole = movie(&file[..]).unwrap();
            let outline = outline(&file[..]).unwrap().expect(name);
            let kinds = |movie: &crate::container::mp4::Movie| movie.tracks.iter().map(|track| (track.kind, track.stsd.clone())).collect::<Vec<_>>();
            assert_eq!(kinds(&outline.tracks()), kinds(&whole), "{name}");
            let segments = match outline.segments(2_000) {
                Some(segments) => {
                    assert_eq!((segments.len(), segments[0].duration_ms), (10, 2_000), "{name}");
                    segments
                }
                // Gaps of weeks are too coarse for short segments.
                None => outline.segments(1 << 30).unwrap(),
            };
            assert_eq!(segments.len() == 10, name != "times that wrap");
            assert_eq!(segments.iter().map(|segment| segment.duration_ms).sum::<u64>(), whole.duration_ms(), "{name}");
            let mut found = whole.clone();
            found.tracks.iter_mut().for_each(|track| track.samples.clear());
            for segment in &segments {
                let part = outline.stretch(&file[..], segment).unwrap();
                assert!(part.tracks[0].samples[0].sync);
                found.tracks.iter_mut().zip(&part.tracks).for_each(|(whole, part)| whole.samples.extend(&part.samples));
            }
            assert_eq!(found, whole, "{name}");
        }
    }

    #[test]
    fn what_grows_has_the_samples_of_the_finished_file() {
        let video = (0..200).map(|n| (TrackKind::Video, n * 40, vec![if n % 25 == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 80, 0, 0, 0, 2, 0x65, n as u8]));
        let audio = (0..370).map(|n| (TrackKind::Audio, n * 64 / 3, vec![0xaf, 1, 0x21, n as u8, 7]));
        let mut messages: Vec<Message> = video.chain(audio).collect();
        messages.sort_by_key(|message| message.1);
        // As in a recording of hours, the room in its head is whole pages of zeros.
        let head = head(&tracks(true, true), 7200);
        let file = write(&tracks(true, true), &messages, 0);
        let file = [&head[..], &file[super::head(&tracks(true, true), 60).len()..]].concat();
        let whole = movie(&file[..]).unwrap();
        let mut growing = Growing::default();
        for part in (0..file.len() + 700).step_by(700) {
            let mut disk = file[..part.min(file.len())].to_vec();
            disk.resize(file.len() + 10_000, 0);
            growing.go_on(disk.as_slice()).unwrap();
            for (track, of_all) in growing.movie().map(|movie| &movie.tracks).into_iter().flatten().zip(&whole.tracks) {
                assert_eq!((track.kind, &track.stsd), (of_all.kind, &of_all.stsd));
                assert_eq!(track.samples, of_all.samples[..track.samples.len()]);
            }
        }
        let counts: Vec<usize> = growing.movie().unwrap().tracks.iter().map(|track| track.samples.len()).collect();
        assert_eq!(counts, [199, 369], "of the last frames nobody knows yet how long they last");
    }

    #[test]
    fn an_index_that_does_not_agree_with_its_file_is_not_believed() {
        let tracks = tracks(true, true);
        let file = write(&tracks, &messages(), 1000);
        assert!(outline(&file[..]).unwrap().is_none(), "not finished");
        let file = finished(&file);
        assert!(outline(&file[..]).unwrap().is_some());
        assert!(outline(&file[..file.len() - 1]).unwrap().is_none(), "cut");
        let place = |text: &[u8]| file.windows(text.len()).position(|window| window == text).unwrap() + text.len();
        // Count, marker, number: an offset one off, and a time.
        for (name, at) in [("offset", place(b"filepositions") + 1 + 4 + 9 + 3), ("time", place(b"\x00\x05times") + 1 + 4 + 9 + 3)] {
            let mut other = file.clone();
            other[at] ^= 0x40;
            assert!(outline(&other[..]).unwrap().is_none(), "{name}");
        }
        let sound = finished(&write(
            &super::tests::tracks(false, true),
            &messages().into_iter().filter(|of| of.0 == TrackKind::Audio).collect::<Vec<_>>(),
            1000,
        ));
        assert!(outline(&sound[..]).unwrap().is_none(), "sound has no key frames");
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            fuzz_outline(&damaged);
            fuzz_outline(&file[..at]);
        }
    }

    #[test]
    fn what_is_filled_in_is_whole_pages_and_leaves_nothing_of_an_earlier_index() {
        let tracks = tracks(true, false);
        let messages: Vec<Message> = (0..1000).map(|n| (TrackKind::Video, n * 40, vec![0x17, 1, 0, 0, 0, n as u8])).collect();
        let head = head(&tracks, 7200);
        let file = [&head[..], &write(&tracks, &messages, 0)[super::head(&tracks, 60).len()..]].concat();
        let pages = |file: &[u8]| {
            let [(0, front)] = &scan(file).unwrap().writes[..] else { panic!("one write") };
            assert_eq!(front.len() % HEAD_ALIGN_BYTES, 0);
            front.len() / HEAD_ALIGN_BYTES
        };
        // 18 bytes for each key frame.
        assert_eq!((head.len() / HEAD_ALIGN_BYTES, pages(&file)), (8, 5));
        let cut = &file[..head.len() + 100 * (15 + 6)];
        assert_eq!(pages(cut), 1);
        // It was finished, and then the disk lost its end.
        let torn = &finished(&file)[..cut.len()];
        assert_eq!(pages(torn), 5);
        assert_eq!(finished(torn), finished(cut));
        assert_eq!(tags(&finished(cut))[1..], tags(cut)[1..]);
    }

    #[test]
    fn the_index_is_thinned_to_its_room() {
        let messages: Vec<Message> = (0..5000).map(|n| (TrackKind::Video, n * 40, vec![0x17, 1, 0, 0, 0, n as u8])).collect();
        let file = write(&tracks(true, false), &messages, 0);
        let plan = scan(file.as_slice()).unwrap();
        assert_eq!(plan.summary.video.as_ref().unwrap().key_frames, 5000);
        let (offset, tag) = &plan.writes[0];
        assert_eq!((*offset, tag.len()), (0, head(&tracks(true, false), 60).len() - 15 - VIDEO_HEADER.len()));
        let at = tag.windows(13).position(|window| window == b"filepositions").unwrap() + 14;
        let entries = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap());
        let room = tag.len() / 18;
        assert!(entries as usize > room / 3 && (entries as usize) <= room, "{entries} entries in room for {room}");
        fuzz_flv_scan(&file);
    }

    #[test]
    fn script_tags_and_further_tracks_stand_between_frames() {
        let tracks = tracks(true, false);
        let mut sink = MemorySink::with_head(&head(&tracks, 0));
        let mut writer = FlvWriter::new(&tracks, &head(&tracks, 0), 500);
        let body = b"\x02\x00\x05cue..\x05";
        writer.push_message(None, 740, body, &mut sink);
        let other = b"\x96\x01avc1\x01\0\0\0\x09";
        writer.push_message(Some(TrackKind::Video), 750, other, &mut sink);
        assert_eq!(sink.bytes.len(), head(&tracks, 0).len() + writer.push_message_bytes_max(body) + writer.push_message_bytes_max(other));
        assert!(matches!(scan(sink.bytes.as_slice()), Err(ScanError::Empty)));
        let Ok(VideoUnit::Frame(_, part)) = parse_video(Payload::contiguous(&[0x17, 1, 0, 0, 0, 9])) else { panic!("a frame") };
        writer.push(&part.at(TrackKind::Video, 740), &mut sink);
        assert_eq!(tags(&sink.bytes)[2], (TAG_SCRIPT, 240, body.to_vec()));
        assert_eq!(tags(&sink.bytes)[3], (TAG_VIDEO, 250, other.to_vec()));
        let plan = scan(sink.bytes.as_slice()).unwrap();
        assert_eq!((plan.truncate_to, plan.summary.video.map(|video| video.frames)), (sink.bytes.len() as u64, Some(1)));
    }
}
