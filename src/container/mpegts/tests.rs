//! Writer and scan against a small demultiplexer of the tests' own.

use std::sync::Arc;

use super::*;
use crate::codec::aac::{AacError, parse_adts_header};
use crate::container::window::apply;
use crate::container::{MemorySink, ScanError};
use crate::media::payload::Span;
use crate::media::{AudioCodec, AudioTrack, Frame, Payload, TagHeader, TrackKind, Tracks, VideoCodec, VideoTrack};

const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x0a, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x5e, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00,
    0x03, 0x00, 0xc8, 0x3c, 0x48, 0x96, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];
const AUD: &[u8] = &[0, 0, 0, 1, 9, 0xf0];

fn video_track(nal_length_bytes: u8) -> Arc<VideoTrack> {
    let mut config = AVCC.to_vec();
    config[4] = 0xfc | (nal_length_bytes - 1);
    Arc::new(VideoTrack::new(VideoCodec::Avc, config, 16, 16))
}

fn audio_track(codec: AudioCodec) -> Arc<AudioTrack> {
    let config: &[u8] = if codec == AudioCodec::Aac { &[0x11, 0x90] } else { &[] };
    Arc::new(AudioTrack::new(codec, config, 48_000, 2, 1024))
}

pub(super) fn tracks(video: bool, audio: bool) -> Tracks {
    Tracks { video: video.then(|| video_track(4)), audio: audio.then(|| audio_track(AudioCodec::Aac)), ..Tracks::default() }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    track: TrackKind,
    pub(super) dts_ms: i64,
    cts_ms: i32,
    key: bool,
    media: Vec<u8>,
}

impl Sample {
    pub(super) fn frame(&self) -> Frame<'_> {
        let &Self { track, dts_ms, cts_ms, key, .. } = self;
        Frame { track, dts_ms, cts_ms, key, tag_header: TagHeader::new(&[]), media: Payload::contiguous(&self.media) }
    }

    fn video(dts_ms: i64, cts_ms: i32, key: bool, nal_bytes: usize) -> Self {
        let mut media = (nal_bytes as u32).to_be_bytes().to_vec();
        media.push(if key { 0x65 } else { 0x41 });
        media.extend((1..nal_bytes).map(|at| (at % 251) as u8 | 1));
        Self { track: TrackKind::Video, dts_ms, cts_ms, key, media }
    }

    fn audio(dts_ms: i64, bytes: usize) -> Self {
        Self { track: TrackKind::Audio, dts_ms, cts_ms: 0, key: true, media: vec![0x21; bytes] }
    }

    /// What the elementary stream shall hold.
    fn annexb(&self) -> Vec<u8> {
        let sets = if self.key { [&[0, 0, 0, 1], &AVCC[8..31], &[0, 0, 0, 1], &AVCC[34..40]].concat() } else { Vec::new() };
        [AUD, &sets, &[0, 0, 0, 1], &self.media[4..]].concat()
    }
}

/// Pushes one sample, its bytes in three pieces; returns what was appended.
fn push(writer: &mut TsWriter, sample: &Sample, sink: &mut MemorySink) -> usize {
    let len = sample.media.len();
    let (prefix, input) = sample.media.split_at(len / 3);
    let middle = (input.len() / 2) as u32;
    let spans = [Span { start: 0, end: middle }, Span { start: middle, end: input.len() as u32 }];
    let &Sample { track, dts_ms, cts_ms, key, .. } = sample;
    let frame = Frame { track, dts_ms, cts_ms, key, tag_header: TagHeader::new(&[]), media: Payload::chunked(prefix, input, &spans) };
    let before = sink.bytes.len();
    writer.push(&frame, sink).unwrap();
    let appended = sink.bytes.len() - before;
    assert!(appended <= writer.push_bytes_max(&frame), "{appended} bytes, {} promised", writer.push_bytes_max(&frame));
    assert_eq!(sink.sealed, sink.bytes.len() as u64);
    appended
}

/// Two segments of a second: video at 25 Hz with B-frames' offsets, AAC beside it.
pub(super) fn samples() -> Vec<Sample> {
    let video = (0..50).map(|n| Sample::video(7000 + n * 40, if n % 3 == 0 { 80 } else { 0 }, n % 25 == 0, 50 + 37 * n as usize));
    let audio = (0..93).map(|n| Sample::audio(7000 + n * 64 / 3, 90 + n as usize));
    let mut samples: Vec<Sample> = video.chain(audio).collect();
    samples.sort_by_key(|sample| sample.dts_ms);
    samples
}

/// The file, the ends of the frames in it, the segments.
fn write(tracks: &Tracks, samples: &[Sample]) -> (Vec<u8>, Vec<usize>, Vec<TsSegment>) {
    let mut sink = MemorySink::default();
    let mut writer = TsWriter::new(tracks, samples[0].dts_ms).unwrap();
    let (mut ends, mut segments) = (Vec::new(), Vec::new());
    for (index, sample) in samples.iter().enumerate() {
        if (sample.track == TrackKind::Video && sample.key) || (tracks.video.is_none() && index % 40 == 0) {
            let offset = sink.bytes.len() as u64;
            writer.start_segment(&mut sink);
            assert_eq!(sink.bytes.len() as u64 - offset, SEGMENT_START_BYTES as u64);
            segments.push(TsSegment { offset, pts_ms: sample.dts_ms + i64::from(sample.cts_ms) - samples[0].dts_ms, key: true });
        }
        push(&mut writer, sample, &mut sink);
        ends.push(sink.bytes.len());
    }
    // The writer knows what reading the file tells; also of a segment that begins at its end.
    assert_eq!(writer.clone().finish(sink.bytes.len() as u64).unwrap(), scan(sink.bytes.as_slice()).unwrap());
    let mut more = sink.clone();
    writer.start_segment(&mut more);
    assert_eq!(writer.finish(more.bytes.len() as u64).unwrap(), scan(more.bytes.as_slice()).unwrap());
    (sink.bytes, ends, segments)
}

/// One PES packet: PID, PTS, DTS, stream bytes, clock reference.
#[derive(Debug)]
struct Pes {
    pid: u16,
    pts: i64,
    dts: i64,
    stream: Vec<u8>,
    pcr: Option<i64>,
    random_access: bool,
}

fn stamp(field: &[u8]) -> i64 {
    let bits = field.iter().fold(0_i64, |bits, byte| bits << 8 | i64::from(*byte));
    assert_eq!(bits & 0x01_0001_0001, 0x01_0001_0001, "marker bits");
    (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7fff) << 15 | (bits >> 1 & 0x7fff)
}

fn demultiplex(file: &[u8]) -> Vec<Pes> {
    assert_eq!(file.len() % 188, 0);
    let mut all: Vec<Pes> = Vec::new();
    let mut counters = std::collections::HashMap::new();
    for packet in file.chunks(188) {
        assert_eq!(packet[0], 0x47);
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let counter = packet[3] & 15;
        if let Some(last) = counters.insert(pid, counter) {
            assert_eq!(counter, (last + 1) & 15, "continuity of {pid:#x}");
        }
        let mut payload = &packet[4..];
        let (mut pcr, mut random_access) = (None, false);
        if packet[3] & 0x20 != 0 {
            let length = usize::from(payload[0]);
            if length > 0 {
                random_access = payload[1] & 0x40 != 0;
                if payload[1] & 0x10 != 0 {
                    pcr = Some(payload[2..7].iter().fold(0_i64, |bits, byte| bits << 8 | i64::from(*byte)) >> 7);
                }
                let used = if pcr.is_some() { 7 } else { 1 };
                assert!(payload[1 + used..1 + length].iter().all(|byte| *byte == 0xff), "stuffing");
            }
            payload = &payload[1 + length..];
        }
        match pid {
            0 | 0x1000 => continue,
            0x100 | 0x101 => {}
            other => panic!("PID {other:#x}"),
        }
        if packet[1] & 0x40 != 0 {
            assert_eq!(payload[..3], [0, 0, 1]);
            let header_bytes = usize::from(payload[8]);
            let pts = stamp(&payload[9..14]);
            let dts = if payload[7] & 0x40 != 0 { stamp(&payload[14..19]) } else { pts };
            let length = usize::from(u16::from_be_bytes([payload[4], payload[5]]));
            all.push(Pes { pid, pts, dts, stream: Vec::new(), pcr, random_access });
            all.last_mut().unwrap().stream.reserve(length);
            payload = &payload[9 + header_bytes..];
        }
        let open = all.last_mut().expect("a PES packet under way");
        assert_eq!(open.pid, pid);
        open.stream.extend_from_slice(payload);
    }
    all
}

#[test]
fn every_frame_is_one_pes_packet_with_its_times() {
    let samples = samples();
    let (file, _, _) = write(&tracks(true, true), &samples);
    let all = demultiplex(&file);
    assert_eq!(all.len(), samples.len());
    let mut last_pcr = -1;
    for (pes, sample) in all.iter().zip(&samples) {
        let dts = (sample.dts_ms - 7000 + 1400) * 90;
        assert_eq!((pes.dts, pes.pts), (dts, dts + i64::from(sample.cts_ms) * 90));
        match sample.track {
            TrackKind::Video => {
                assert_eq!((pes.pid, pes.random_access, &pes.stream), (0x100, sample.key, &sample.annexb()));
                assert_eq!(pes.pcr, Some(dts - 63_000));
                assert!(pes.pcr > Some(last_pcr));
                last_pcr = dts - 63_000;
            }
            TrackKind::Audio => {
                assert_eq!((pes.pid, pes.pcr), (0x101, None));
                let header = parse_adts_header(*pes.stream.first_chunk().unwrap()).unwrap();
                assert_eq!((header.frame_bytes, header.sample_rate_hz), (pes.stream.len(), 48_000));
                assert_eq!(pes.stream[7..], sample.media);
            }
        }
    }
}

/// What `remux` writes, and the samples it says.
fn remuxed(file: &[u8], packets: std::ops::Range<u64>) -> Result<(Vec<u8>, crate::container::mp4::Movie), ScanError> {
    let mut out = Vec::new();
    let movie = remux(file, packets, |bytes| {
        out.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok((out, movie))
}

#[test]
fn frames_come_out_as_they_went_in() {
    let samples = samples();
    for (video, audio) in [(true, true), (true, false), (false, true)] {
        let kept: Vec<Sample> = samples.iter().filter(|sample| if sample.track == TrackKind::Video { video } else { audio }).cloned().collect();
        let (file, _, segments) = write(&tracks(video, audio), &kept);
        let second = segments[1].offset;
        for (from, to) in [(0, file.len() as u64), (0, second), (second, file.len() as u64)] {
            let (bytes, movie) = remuxed(&file, from..to).unwrap();
            let begin = if from == 0 { i64::MIN } else { 8000 };
            let end = if to == second { 8000 } else { i64::MAX };
            for track in &movie.tracks {
                let of_kind = kept.iter().filter(|sample| sample.track == track.kind);
                let mut sent: Vec<&Sample> = of_kind.filter(|sample| !video || (sample.dts_ms >= begin && sample.dts_ms < end)).collect();
                if !video {
                    sent = if from == 0 { sent[..track.samples.len()].to_vec() } else { sent[sent.len() - track.samples.len()..].to_vec() };
                }
                assert_eq!(track.samples.len(), sent.len());
                for (sample, sent) in track.samples.iter().zip(sent) {
                    assert_eq!(bytes[sample.offset as usize..][..sample.bytes as usize], sent.media);
                    let dts_ms = sample.dts as i64 - TIME_BIAS_MS + kept[0].dts_ms;
                    assert_eq!((dts_ms, sample.cts, sample.sync), (sent.dts_ms, sent.cts_ms, sent.key));
                }
            }
            assert_eq!(movie.tracks.len(), usize::from(video) + usize::from(audio));
            assert_eq!(movie.tracks[0].codec_name(), if video { "h264" } else { "aac" });
        }
        let scanned = scan(&file[..]).unwrap();
        let begin = kept.iter().map(|sample| sample.dts_ms + i64::from(sample.cts_ms)).min().unwrap();
        assert_eq!(scanned.begin_ms, begin - kept[0].dts_ms);
    }
    let (file, ..) = write(&tracks(true, true), &samples);
    assert!(matches!(remuxed(&file, 188..file.len() as u64), Err(ScanError::Head { .. })), "not at a segment");
    for at in (0..file.len()).step_by(61) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x55;
        fuzz_ts_remux(&damaged);
        fuzz_ts_remux(&file[..at]);
    }
}

#[test]
fn every_size_is_cut_into_packets_whole() {
    for (video, audio) in [(true, false), (false, true)] {
        let tracks = tracks(video, audio);
        let sizes = (1..600).chain([8_000, 65_400, 65_493, 65_494, 65_495, 65_500, 65_535, 65_536, 70_000, 300_000]);
        for size in sizes.filter(|size| video || *size <= 8_184) {
            for cts_ms in [0, 40] {
                let sample = if video { Sample::video(0, cts_ms, size % 2 == 0, size) } else { Sample::audio(0, size) };
                let (file, ..) = write(&tracks, std::slice::from_ref(&sample));
                let all = demultiplex(&file);
                assert_eq!(all.len(), 1, "{size} bytes");
                match video {
                    true => assert_eq!(all[0].stream, sample.annexb(), "{size} bytes"),
                    false => assert_eq!(all[0].stream[7..], sample.media, "{size} bytes"),
                }
                // Not one packet more than the bytes need.
                let times_bytes = if cts_ms != 0 && video { 10 } else { 5 };
                let bytes = 8 + 9 + times_bytes + all[0].stream.len();
                let tables = 2;
                assert_eq!(file.len() / 188, tables + bytes.div_ceil(184), "{size} bytes");
                assert_eq!(scan(file.as_slice()).unwrap().plan.truncate_to, file.len() as u64, "{size} bytes");
            }
        }
    }
}

#[test]
fn short_nal_lengths_grow_within_the_promise() {
    for nal_length_bytes in 1..=4 {
        let tracks = Tracks { video: Some(video_track(nal_length_bytes)), ..Tracks::default() };
        for units in [1, 2, 500, 5000] {
            let unit = [vec![0; usize::from(nal_length_bytes) - 1], vec![1, 0x41]].concat();
            let sample = Sample { track: TrackKind::Video, dts_ms: 0, cts_ms: 0, key: false, media: unit.repeat(units) };
            let mut sink = MemorySink::default();
            push(&mut TsWriter::new(&tracks, 0).unwrap(), &sample, &mut sink);
            assert_eq!(demultiplex(&sink.bytes)[0].stream, [AUD, &[0, 0, 0, 1, 0x41].repeat(units)].concat());
        }
    }
}

#[test]
fn parameter_sets_inside_are_not_doubled() {
    let mut sample = Sample::video(0, 0, true, 5);
    sample.media = [&[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 1], &sample.media[..]].concat();
    let (file, ..) = write(&tracks(true, false), std::slice::from_ref(&sample));
    let expected = [AUD, &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 1, 0, 0, 0, 1], &sample.media[16..]].concat();
    assert_eq!(demultiplex(&file)[0].stream, expected);
}

#[test]
fn audio_alone_carries_the_clock() {
    for codec in [AudioCodec::Aac, AudioCodec::Mp3] {
        let tracks = Tracks { audio: Some(audio_track(codec)), ..Tracks::default() };
        let samples: Vec<Sample> = (0..100)
            .map(|n| {
                let mut sample = Sample::audio(n * 24, 384);
                sample.media[..4].copy_from_slice(&[0xff, 0xfb, 0x94, 0x64]);
                sample
            })
            .collect();
        let (file, _, segments) = write(&tracks, &samples);
        let all = demultiplex(&file);
        assert!(all.iter().all(|pes| pes.pcr == Some(pes.dts - 63_000)));
        let found = scan(file.as_slice()).unwrap();
        assert_eq!(found.segments, segments);
        let audio = found.plan.summary.audio.unwrap();
        assert_eq!((audio.codec.as_str(), audio.frames, audio.sample_rate_hz, audio.channels), (codec.name(), 100, 48_000, 2));
        assert_eq!(found.plan.summary.duration_ms, if codec == AudioCodec::Aac { 2397 } else { 2400 });
        assert_eq!(found.plan.summary.video, None);
    }
}

#[test]
fn tables_come_back_every_half_second() {
    let samples: Vec<Sample> = (0..100).map(|n| Sample::video(n * 40, 0, n == 0, 100)).collect();
    let (file, ..) = write(&tracks(true, false), &samples);
    let pats = file.chunks(188).filter(|packet| packet[1] & 0x1f == 0 && packet[2] == 0).count();
    assert_eq!(pats, 8);
    // Without a segment begun, the first frame brings its tables.
    let mut sink = MemorySink::default();
    push(&mut TsWriter::new(&tracks(true, false), 0).unwrap(), &samples[0], &mut sink);
    assert_eq!(sink.bytes[1..3], [0x40, 0]);
    assert_eq!(scan(sink.bytes.as_slice()).unwrap().segments, []);
}

#[test]
fn scan_finds_segments_and_sums_up() {
    let samples = samples();
    let (mut file, _, segments) = write(&tracks(true, true), &samples);
    let written = file.len();
    file.resize(written + 100_000, 0);
    let found = scan(file.as_slice()).unwrap();
    assert_eq!((found.plan.truncate_to, found.plan.torn_bytes), (written as u64, 0));
    assert_eq!(found.segments, segments);
    let video = found.plan.summary.video.unwrap();
    assert_eq!((video.frames, video.key_frames, video.width, video.height, video.duration_ms), (50, 2, 16, 16, 2000));
    let annexb: usize = samples.iter().filter(|sample| sample.track == TrackKind::Video).map(|sample| sample.annexb().len()).sum();
    assert_eq!(video.bytes, annexb as u64);
    let audio = found.plan.summary.audio.unwrap();
    assert_eq!((audio.frames, audio.duration_ms), (93, 1962 + 21));
    // Frame 48 is the last with an offset, 1920 + 80 to 2040.
    assert_eq!(found.plan.summary.duration_ms, 2040);
}

#[test]
fn a_file_cut_or_torn_anywhere_keeps_its_whole_frames() {
    let samples = &samples()[..24];
    let (file, ends, segments) = write(&tracks(true, true), samples);
    for cut in 0..=file.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        for zeros in [0, 400] {
            let mut torn = file[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            match scan(torn.as_slice()) {
                Ok(found) => {
                    assert_eq!(found.plan.truncate_to, ends[whole - 1] as u64, "cut at {cut}");
                    let frames = found.plan.summary.video.map_or(0, |track| track.frames) + found.plan.summary.audio.map_or(0, |track| track.frames);
                    assert_eq!(frames, whole as u64);
                    let expected: Vec<u64> =
                        segments.iter().map(|segment| segment.offset).filter(|offset| *offset < found.plan.truncate_to).collect();
                    assert_eq!(found.segments.iter().map(|segment| segment.offset).collect::<Vec<_>>(), expected);
                }
                Err(ScanError::Empty) => assert_eq!(whole, 0, "cut at {cut}"),
                Err(ScanError::Head { .. }) => assert!(cut < SEGMENT_START_BYTES, "cut at {cut}"),
                Err(error) => panic!("{error}"),
            }
            if cut % 7 == 0 {
                fuzz_ts_scan(&torn);
            }
        }
    }
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x51;
        fuzz_ts_scan(&damaged);
    }
}

/// A kill at any moment finds every frame and every message that was written.
#[test]
fn messages_are_in_the_file_when_they_come() {
    use crate::media::note::Note;
    let mut sink = MemorySink::default();
    let mut writer = TsWriter::new(&tracks(true, true), 7_000).unwrap();
    let (mut frames, mut messages) = (0, 0);
    for (index, sample) in samples().iter().enumerate() {
        if sample.track == TrackKind::Video && sample.key {
            writer.start_segment(&mut sink);
        }
        if index % 4 == 0 {
            let json = format!("{{\"number\":{index},\"text\":\"{}\"}}", "x".repeat(index * 3));
            let note = Note { name: "onTextData".to_owned(), json, splice: None };
            let (before, bound) = (sink.bytes.len(), writer.push_message_bytes_max(&note));
            assert!(writer.push_message(sample.dts_ms, &note, &mut sink));
            assert!(sink.bytes.len() - before <= bound);
            messages += 1;
        } else {
            push(&mut writer, sample, &mut sink);
            frames += 1;
        }
        assert_eq!(sink.sealed, sink.bytes.len() as u64, "it may go to the disk");
        let Ok(found) = scan(sink.bytes.as_slice()) else {
            assert_eq!(frames, 0);
            continue;
        };
        let summary = &found.plan.summary;
        let counted = summary.video.as_ref().map_or(0, |track| track.frames) + summary.audio.as_ref().map_or(0, |track| track.frames);
        assert_eq!((counted, summary.data_messages, found.plan.truncate_to), (frames, messages, sink.bytes.len() as u64), "after {index}");
    }
    let is_message = |packet: &&[u8]| packet[1] & PAYLOAD_UNIT_START != 0 && u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == PID_MESSAGES;
    assert_eq!(sink.bytes.chunks(PACKET_BYTES).filter(is_message).count() as u64, messages);
}

/// The disk has not taken the first write: what lies whole behind the hole is counted, and there for a reader that has nothing but the file.
#[test]
fn frames_behind_a_hole_at_the_beginning_are_found_by_every_reader() {
    let samples = samples();
    let (file, _, segments) = write(&tracks(true, true), &samples);
    let until = segments[1].offset as usize;
    let mut behind_hole = 0;
    for hole in (188..until).step_by(423) {
        let mut torn = file.clone();
        torn[..hole].fill(0);
        let found = scan(torn.as_slice()).unwrap();
        // Room for the tables, then the frames that begin in whole packets; those of segments have tables before them.
        let from = hole.next_multiple_of(188).max(376);
        let is_frame_start = |packet: &[u8]| packet[1] & 0x40 != 0 && packet[1] & 0x1f == 1;
        let expected = file.chunks(188).skip(from / 188).filter(|packet| is_frame_start(packet)).count() as u64;
        let summary = &found.plan.summary;
        let counted = summary.video.as_ref().map_or(0, |track| track.frames) + summary.audio.as_ref().map_or(0, |track| track.frames);
        assert_eq!(counted, expected, "a hole of {hole} bytes");
        let finished = apply(&found.plan, &torn);
        let read = demultiplex(&finished[found.segments[0].offset as usize..]);
        assert_eq!(read.len() as u64, expected, "a hole of {hole} bytes");
        behind_hole += u64::from(!found.plan.writes.is_empty());
        fuzz_ts_scan(&torn);
    }
    assert!(behind_hole > 10);
    // Two holes: what lies behind the second.
    let tables = file.chunks(188).skip(4).position(|packet| packet[1] & 0x1f == 0 && packet[2] == 0).unwrap() + 4;
    for second in (188 * 10..188 * (tables - 2)).step_by(188 * 3) {
        let mut torn = file.clone();
        torn[..188 * 4].fill(0);
        torn[second..second + 376].fill(0);
        let found = scan(torn.as_slice()).unwrap();
        let begin = found.segments[0].offset;
        let is_frame_start = |packet: &[u8]| packet[1] & 0x40 != 0 && packet[1] & 0x1f == 1;
        let expected = file.chunks(188).skip(second / 188 + 2).filter(|packet| is_frame_start(packet)).count() as u64;
        let summary = &found.plan.summary;
        let counted = summary.video.as_ref().map_or(0, |track| track.frames) + summary.audio.as_ref().map_or(0, |track| track.frames);
        assert_eq!(counted, expected, "a second hole at {second}");
        assert_eq!(demultiplex(&apply(&found.plan, &torn)[begin as usize..]).len() as u64, expected);
        fuzz_ts_scan(&torn);
    }
}

#[test]
fn stamps_wrap_after_26_hours_and_frames_before_the_beginning_stay_positive() {
    let day_ms = 24 * 3600 * 1000;
    let steps: Vec<Sample> =
        [0, -300, 40, day_ms / 2, day_ms, day_ms * 3 / 2, day_ms * 2].iter().map(|dts_ms| Sample::video(*dts_ms, 0, true, 9)).collect();
    let (file, ..) = write(&tracks(true, false), &steps);
    let stamps: Vec<i64> = demultiplex(&file).iter().map(|pes| pes.dts).collect();
    for (stamp, sample) in stamps.iter().zip(&steps) {
        assert_eq!(*stamp, ((sample.dts_ms + 1400) * 90) & 0x1_ffff_ffff);
    }
    let found = scan(file.as_slice()).unwrap();
    assert_eq!(found.plan.summary.video.unwrap().duration_ms, (day_ms * 2 + day_ms / 2) as u64);
    // A long way before the beginning there is no clock: frames stand at its zero.
    let (file, ..) = write(&tracks(true, false), &[Sample::video(0, 0, true, 9), Sample::video(-5000, -9000, true, 9)]);
    let last = &demultiplex(&file)[1];
    assert_eq!((last.dts, last.pts, last.pcr), (63_000, 0, Some(0)));
}

#[test]
fn what_the_program_cannot_hold_is_refused() {
    let mut track = (*audio_track(AudioCodec::Aac)).clone();
    track.config = vec![0x11, 0x94].into();
    let tracks_960 = Tracks { audio: Some(Arc::new(track)), ..Tracks::default() };
    assert!(matches!(TsWriter::new(&tracks_960, 0).unwrap_err(), TsError::Aac(AacError::NotInAdts { .. })));

    let mut sink = MemorySink::default();
    let media = vec![1; 8185];
    let frame =
        Frame { track: TrackKind::Audio, dts_ms: 0, cts_ms: 0, key: true, tag_header: TagHeader::new(&[]), media: Payload::contiguous(&media) };
    let error = TsWriter::new(&tracks(true, true), 0).unwrap().push(&frame, &mut sink).unwrap_err();
    assert_eq!(error, TsError::Aac(AacError::AccessUnitTooLong { bytes: 8185 }));
    assert_eq!(TsWriter::new(&tracks(true, false), 0).unwrap().push(&frame, &mut sink), Err(TsError::UnknownTrack));
    let frame = Frame { track: TrackKind::Video, ..frame };
    assert_eq!(TsWriter::new(&tracks(false, true), 0).unwrap().push(&frame, &mut sink), Err(TsError::UnknownTrack));
    assert!(sink.bytes.is_empty());
}

#[test]
fn what_only_a_torn_frame_tells_is_not_in_the_summary() {
    let samples = [Sample::audio(0, 300), Sample::audio(21, 300)];
    let (mut file, ends, _) = write(&tracks(false, true), &samples);
    let header = file.windows(2).position(|bytes| bytes == [0xff, 0xf1]).expect("an ADTS header");
    file[header] = 0;
    file.truncate(ends[0] + PACKET_BYTES);
    let audio = scan(file.as_slice()).unwrap().plan.summary.audio.unwrap();
    assert_eq!((audio.frames, audio.sample_rate_hz, audio.channels), (1, 0, 0));
    fuzz_ts_scan(&file);
}
