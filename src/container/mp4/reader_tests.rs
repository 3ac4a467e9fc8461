//! Every codec in MP4 and fMP4 by two readers that know nothing of ours: `mp4parse`, which a browser has, and `mp4-atom`. The sequence headers are real encoders'.

use std::io::Cursor;
use std::sync::Arc;

use mp4_atom::{Any, Decode};
use mp4parse::{CodecType, SampleEntry, TrackType};

use super::fuzz::apply;
use super::{Mp4Writer, head, init_of, init_segment, init_tracks, scan, segment_of};
use crate::container::MemorySink;
use crate::container::boxes::BoxHeader;
use crate::media::flv_tag::{self, AudioUnit, VideoUnit};
use crate::media::{AudioCodec, Frame, FurtherDescription, FurtherTrack, Payload, TagHeader, TrackKind, Tracks, VideoCodec};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A tag with a sequence header; or, of codecs whose frames say what they are, the beginning of such a frame.
enum Sent {
    Header(&'static str),
    Frame(&'static str),
}
use Sent::{Frame as F, Header as H};

const AVC: Sent = H("17000000000142c00bffe100186742c00bda0a11f97011000003000100000300328f142aa001000468ce0fc8");
const AAC: Sent = H("af00118856e500");
const HEVC: &str = "90687663310101600000009000000000001ef000fcfdf8f800000f03200001001840010c01ffff01600000030090000003000003001e959009210001002b4201010160000003\
               0090000003000003001ea01420207cb965644a4c2f016808000003000800000300c84022000100064401c073c189";
const VVC: &str = "9076766331ff00655f01021080000000a000780000028f00010094007900ab0210800000805081e46a00737ffac21365630408270032831610860c442064883521e8f56a4bc9\
               26a4b2445a88bc449a88914911264889351964842d4217842f56a4bc97a865062c4031620204204040a8408081a4204040b1020204410102c820204840419020442040b21020\
               48810682049041c20c81168412421c43425c8e54330467140000030004000003006462900001000b008100002840f22241f410";
/// Codec, what is sent, and what mp4parse calls it.
type Row<C> = (C, Sent, CodecType);

fn pictures() -> Vec<Row<VideoCodec>> {
    vec![
        (VideoCodec::Avc, AVC, CodecType::H264),
        (VideoCodec::Hevc, H(HEVC), CodecType::Unknown),
        (VideoCodec::Vvc, H(VVC), CodecType::Unknown),
        (VideoCodec::Av1, H("906176303181000c000a0a00000003b4ff736be401"), CodecType::AV1),
        (VideoCodec::Vp9, H("907670303901000000000a820202020000"), CodecType::VP9),
        (VideoCodec::Vp8, F("5042009d012aa000780000"), CodecType::VP8),
    ]
}

fn sounds() -> Vec<Row<AudioCodec>> {
    vec![
        (AudioCodec::Aac, AAC, CodecType::AAC),
        (AudioCodec::Mp3, F("fffb50c400000968035b14118001"), CodecType::MP3),
        (AudioCodec::Opus, H("904f7075734f707573486561640101380180bb0000000000"), CodecType::Opus),
        (AudioCodec::Flac, H("90664c614304000400000000000c160bb801700000000000000000000000000000000000000000"), CodecType::FLAC),
        (AudioCodec::Ac3, F("0b77fc860c402f8429c1a1bd7b5e15354fd4b9aed9339aea"), CodecType::Unknown),
        (AudioCodec::Eac3, F("0b7700bf3287c0000002c060d0debdaf0a9aa7ea5cd76c99"), CodecType::Unknown),
    ]
}

fn picture(codec: VideoCodec, sent: &Sent) -> Arc<crate::media::VideoTrack> {
    match sent {
        Sent::Header(text) => match flv_tag::parse_video(Payload::contiguous(&hex(text))) {
            Ok(VideoUnit::Config(track)) => track,
            other => panic!("{codec:?}: {other:?}"),
        },
        Sent::Frame(text) => Arc::new(flv_tag::described_video(codec, &Payload::contiguous(&hex(text)), None).unwrap_or_else(|| panic!("{codec:?}"))),
    }
}

fn sound(codec: AudioCodec, sent: &Sent) -> Arc<crate::media::AudioTrack> {
    match sent {
        Sent::Header(text) => match flv_tag::parse_audio(Payload::contiguous(&hex(text))) {
            Ok(AudioUnit::Config(track)) => track,
            other => panic!("{codec:?}: {other:?}"),
        },
        Sent::Frame(text) => Arc::new(flv_tag::described_audio(codec, &Payload::contiguous(&hex(text))).unwrap_or_else(|| panic!("{codec:?}"))),
    }
}

/// Two seconds of frames: as it is recorded, and finished.
fn files(tracks: &Tracks) -> (Vec<u8>, Vec<u8>) {
    let (mut writer, mut sink) = (Mp4Writer::new(tracks, 0), MemorySink::with_head(&head(tracks, 4096)));
    for number in 0..50_i64 {
        let media = vec![1 + number as u8; 60];
        let frame =
            |track, key| Frame { track, dts_ms: number * 40, cts_ms: 0, key, tag_header: TagHeader::new(&[]), media: Payload::contiguous(&media) };
        writer.push(&frame(TrackKind::Video, number % 25 == 0), &mut sink);
        writer.push(&frame(TrackKind::Audio, true), &mut sink);
        for (index, track) in tracks.further.iter().enumerate() {
            writer.push_further(index, &frame(track.kind(), true), &mut sink);
        }
    }
    writer.close_fragment(&mut sink);
    let plan = scan(sink.bytes.as_slice(), true).unwrap().plan;
    let mut finished = sink.bytes.clone();
    apply(&plan, &mut finished);
    (sink.bytes, finished)
}

/// mp4parse's view: kind, codec, samples of each track.
fn by_mp4parse(what: &str, file: &[u8]) -> Vec<(TrackKind, CodecType, usize)> {
    let read = mp4parse::read_mp4(&mut Cursor::new(file)).unwrap_or_else(|error| panic!("{what}: mp4parse says {error:?}"));
    let track = |track: &mp4parse::Track| {
        let codec = track.stsd.as_ref().and_then(|stsd| stsd.descriptions.first()).map(|entry| match entry {
            SampleEntry::Audio(entry) => entry.codec_type,
            SampleEntry::Video(entry) => entry.codec_type,
            SampleEntry::Unknown => CodecType::Unknown,
        });
        let kind = match track.track_type {
            TrackType::Video => TrackKind::Video,
            TrackType::Audio => TrackKind::Audio,
            _ => panic!("{what}: another kind of track"),
        };
        (kind, codec.unwrap_or_default(), track.stsz.as_ref().map_or(0, |stsz| stsz.sample_sizes.len()))
    };
    read.tracks.iter().map(track).collect()
}

/// mp4-atom reads every box; returns how many fragments there are.
fn by_mp4_atom(what: &str, file: &[u8]) -> usize {
    let (mut at, mut fragments) = (0, 0);
    while let Some(BoxHeader { kind, bytes, .. }) = BoxHeader::parse(&file[at..], (file.len() - at) as u64) {
        let end = at + bytes as usize;
        if kind != *b"mdat" {
            let read =
                Any::decode(&mut &file[at..end]).unwrap_or_else(|error| panic!("{what}: mp4-atom says {error:?} about {}", kind.escape_ascii()));
            if let Any::Moof(moof) = &read {
                fragments += 1;
                assert!(moof.traf.iter().all(|traf| traf.trun.iter().all(|run| !run.samples.is_empty())), "{what}");
            }
        }
        at = end;
    }
    assert_eq!(at, file.len(), "{what}");
    fragments
}

#[test]
fn every_codec_is_read_by_others() {
    let mut cases = Vec::new();
    for (codec, sent, name) in pictures() {
        let tracks = Tracks { video: Some(picture(codec, &sent)), audio: Some(sound(AudioCodec::Aac, &AAC)), ..Tracks::default() };
        cases.push((codec.name().to_owned(), tracks, [name, CodecType::AAC]));
    }
    for (codec, sent, name) in sounds() {
        let tracks = Tracks { video: Some(picture(VideoCodec::Avc, &AVC)), audio: Some(sound(codec, &sent)), ..Tracks::default() };
        cases.push((codec.name().to_owned(), tracks, [CodecType::H264, name]));
    }
    for (what, tracks, [video, audio]) in cases {
        let (recording, finished) = files(&tracks);
        let init = init_segment(&tracks);
        for (state, file, samples) in [("recording", &recording, 0), ("finished", &finished, 50), ("init", &init, 0)] {
            let what = format!("{what}, {state}");
            assert_eq!(by_mp4parse(&what, file), [(TrackKind::Video, video, samples), (TrackKind::Audio, audio, samples)], "{what}");
            assert_eq!(by_mp4_atom(&what, file), if state == "recording" { 2 } else { 0 }, "{what}");
        }
    }
}

#[test]
fn several_tracks_are_read_by_others() {
    let (avc, aac) = (picture(VideoCodec::Avc, &AVC), sound(AudioCodec::Aac, &AAC));
    let further = sounds().into_iter().map(|(codec, sent, _)| FurtherDescription::Audio(sound(codec, &sent)));
    let further = further.chain(pictures().into_iter().map(|(codec, sent, _)| FurtherDescription::Video(picture(codec, &sent))));
    let further: Vec<_> = further.zip(1..).map(|(description, number)| FurtherTrack { number, description }).collect();
    let tracks = Tracks { video: Some(avc), audio: Some(aac), further, ..Tracks::default() };
    let (recording, finished) = files(&tracks);
    assert_eq!(by_mp4parse("finished", &finished).iter().map(|track| track.2).collect::<Vec<_>>(), [50; 14]);
    assert_eq!(by_mp4_atom("finished", &finished), 0);
    assert_eq!((by_mp4parse("recording", &recording).len(), by_mp4_atom("recording", &recording)), (14, 2));
    // What a player gets of one of them.
    let init = init_segment(&tracks);
    let media = &recording[head(&tracks, 4096).len()..];
    for track in init_tracks(&init).unwrap() {
        let alone = [init_of(&init, track.id).unwrap(), segment_of(media, track.id, true)].concat();
        assert_eq!((by_mp4parse(&track.codecs, &alone).len(), by_mp4_atom(&track.codecs, &alone)), (1, 2), "{}", track.codecs);
    }
}
