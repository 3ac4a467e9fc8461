//! Whole files: written, cut, finished, and read by a second reader.

use std::sync::Arc;

use mp4_atom::{Any, Decode, Moov};
use proptest::prelude::*;

use super::fuzz::{apply, fuzz_scan, sample_frame, sample_tracks};
use super::head::FTYP_BYTES;
use super::{FRAGMENT_MS, Fragment, MEDIA_TIME_BIAS_MS, Mp4Scan, Mp4Writer, head, init_segment, scan};
use crate::container::boxes::boxes;
use crate::container::{HEAD_ALIGN_BYTES, MemorySink, ScanError, Sink};
use crate::media::TrackKind::{self, Audio, Video};
use crate::media::label::{Label, TrackLabel};
use crate::media::note::Note;
use crate::media::{AudioCodec, AudioTrack, FurtherDescription, FurtherTrack, Tracks};
use crate::units::WallTime;

/// One sample of a case: track, dts, cts, key, bytes.
type Sent = (TrackKind, i64, i32, bool, usize);

struct Written {
    file: Vec<u8>,
    fragments: Vec<Fragment>,
    /// File offset and length of each sample's media.
    places: Vec<(usize, usize)>,
}

/// Media bytes of sample `index`: not zero, and different for each.
fn media(index: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((index * 31 + at * 7) % 255) as u8 + 1).collect()
}

fn write(tracks: &Tracks, zero_ms: i64, reserve_bytes: usize, sent: &[Sent], close: bool) -> Written {
    let mut sink = MemorySink::with_head(&head(tracks, reserve_bytes));
    let mut writer = Mp4Writer::new(tracks, zero_ms);
    let (mut fragments, mut places) = (Vec::new(), Vec::new());
    for (index, (track, dts_ms, cts_ms, key, bytes)) in sent.iter().enumerate() {
        let media = media(index, *bytes);
        let (before, bound) = (sink.bytes.len(), writer.push_bytes_max(media.len()));
        fragments.extend(writer.push(&sample_frame(*track, *dts_ms, *cts_ms, *key, &media), &mut sink));
        assert!(sink.bytes.len() - before <= bound, "sample {index} took more than announced");
        places.push((sink.bytes.len() - bytes, *bytes));
        assert_boxes_fill_the_file(&sink.bytes, index);
    }
    if close {
        fragments.extend(writer.close_fragment(&mut sink));
        assert_eq!(sink.sealed, sink.position(), "closing seals everything");
    }
    Written { file: sink.bytes, fragments, places }
}

/// Valid after every frame: boxes without a gap, also inside the `moof`.
fn assert_boxes_fill_the_file(file: &[u8], index: usize) {
    fn fill(bytes: &[u8], index: usize) {
        let mut covered = 0;
        for (kind, body) in boxes(bytes) {
            covered += 8 + body.len();
            if [b"moof", b"traf"].contains(&&kind) {
                fill(body, index);
            }
        }
        assert_eq!(covered, bytes.len(), "after sample {index}");
    }
    fill(file, index);
}

fn finished(file: &[u8], insert_supported: bool) -> (Vec<u8>, Mp4Scan) {
    let found = scan(file, insert_supported).unwrap();
    let mut file = file.to_vec();
    apply(&found.plan, &mut file);
    let again = scan(file.as_slice(), insert_supported).unwrap();
    assert!(again.plan.insert.is_none() && again.plan.writes.is_empty() && again.plan.append.is_empty() && again.shift == 0, "{:?}", again.plan);
    assert_eq!((again.plan.truncate_to, again.plan.torn_bytes), (file.len() as u64, 0));
    assert_eq!((&again.fragments, &again.plan.summary), (&found.fragments, &found.plan.summary));
    (file, found)
}

/// A sample as an independent reader of the finished file finds it: dts and pts on the movie's time line, sync, offset, bytes.
#[derive(Debug, PartialEq, Clone, Copy)]
struct Read {
    dts_ms: i64,
    pts_ms: i64,
    sync: bool,
    offset: usize,
    bytes: usize,
}

/// Reads the finished file with mp4-atom and walks the sample tables as the standard says.
fn read_back(file: &[u8]) -> (Moov, Vec<(TrackKind, Vec<Read>)>) {
    let (mut moov, mut mdat) = (None, None);
    let mut at = 0;
    for (kind, body) in boxes(file) {
        let large = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) == 1;
        let end = at + body.len() + if large { 16 } else { 8 };
        match &kind {
            b"moov" => match Any::decode(&mut &file[at..end]).unwrap() {
                Any::Moov(found) => moov = Some(found),
                other => panic!("{other:?}"),
            },
            b"mdat" => mdat = Some(end - body.len()..end),
            b"ftyp" | b"free" => {}
            other => panic!("box {other:?} in a finished file"),
        }
        at = end;
    }
    assert_eq!(at, file.len());
    let (moov, mdat) = (moov.unwrap(), mdat.unwrap());
    assert!(moov.mvex.is_none());
    let tracks = moov.trak.iter().map(|trak| {
        let stbl = &trak.mdia.minf.stbl;
        let ticks = i64::from(trak.mdia.mdhd.timescale);
        let (mut delay, mut media_time) = (0, 0);
        for edit in &trak.edts.as_ref().unwrap().elst.as_ref().unwrap().entries {
            match edit.media_time {
                None => delay = edit.segment_duration as i64 * ticks / i64::from(moov.mvhd.timescale),
                Some(time) => media_time = time as i64,
            }
        }
        let ms = |time: i64| {
            assert_eq!(time * 1_000 % ticks, 0, "times are what was sent: whole milliseconds");
            time * 1_000 / ticks
        };
        let durations = stbl.stts.entries.iter().flat_map(|entry| std::iter::repeat_n(i64::from(entry.sample_delta), entry.sample_count as usize));
        let mut offsets: Vec<i64> =
            stbl.ctts.iter().flat_map(|ctts| &ctts.entries).flat_map(|e| std::iter::repeat_n(e.sample_offset, e.sample_count as usize)).collect();
        let sizes = match &stbl.stsz.samples {
            mp4_atom::StszSamples::Different { sizes } => sizes.clone(),
            other => panic!("{other:?}"),
        };
        offsets.resize(sizes.len(), 0);
        let chunks: Vec<u64> = match (&stbl.stco, &stbl.co64) {
            (Some(stco), None) => stco.entries.iter().map(|offset| u64::from(*offset)).collect(),
            (None, Some(co64)) => co64.entries.clone(),
            other => panic!("{other:?}"),
        };
        let mut reads = Vec::new();
        let mut durations = durations;
        let mut dts = 0;
        for (chunk, offset) in chunks.iter().enumerate() {
            let run = stbl.stsc.entries.iter().rev().find(|entry| entry.first_chunk as usize <= chunk + 1).unwrap();
            let mut offset = *offset as usize;
            for _ in 0..run.samples_per_chunk {
                let index = reads.len();
                let sync = stbl.stss.as_ref().is_none_or(|stss| stss.entries.contains(&(index as u32 + 1)));
                let place = dts - media_time + delay;
                reads.push(Read { dts_ms: ms(place), pts_ms: ms(place + offsets[index]), sync, offset, bytes: sizes[index] as usize });
                assert!(mdat.contains(&offset) && offset + sizes[index] as usize <= mdat.end);
                offset += sizes[index] as usize;
                dts += durations.next().unwrap();
            }
        }
        assert_eq!((reads.len(), durations.next()), (sizes.len(), None));
        assert_eq!(trak.mdia.mdhd.duration as i64, dts);
        let kind = if &<[u8; 4]>::from(trak.mdia.hdlr.handler) == b"vide" { Video } else { Audio };
        (kind, reads)
    });
    let tracks = tracks.collect();
    (moov, tracks)
}

/// The finished file holds exactly the first `kept` samples of `sent`, byte for byte, with all timestamp differences.
fn assert_holds(name: &str, file: &[u8], sent: &[Sent], kept: usize) {
    let (_, tracks) = read_back(file);
    let start_ms = sent[..kept].iter().map(|(_, dts_ms, cts_ms, ..)| dts_ms + i64::from(*cts_ms)).min().unwrap();
    for kind in [Video, Audio] {
        let expected: Vec<_> = sent[..kept].iter().enumerate().filter(|(_, sample)| sample.0 == kind).collect();
        let reads = tracks.iter().find(|(found, _)| *found == kind).map_or(&[][..], |(_, reads)| reads);
        assert_eq!(reads.len(), expected.len(), "{name}: {kind:?} samples");
        // A negative composition offset of the first frame moves the decoding times as a whole; presentation is what counts.
        let lift_ms = expected.first().zip(reads.first()).map_or(0, |((_, sent), read)| sent.1 - start_ms - read.dts_ms);
        let first_pts_ms = expected.iter().map(|(_, sent)| sent.1 + i64::from(sent.2)).min().unwrap_or(0);
        assert!(lift_ms == 0 || first_pts_ms < expected[0].1.1, "{name}: {lift_ms}");
        for ((index, (_, dts_ms, cts_ms, key, bytes)), read) in expected.into_iter().zip(reads) {
            assert_eq!(read.pts_ms, dts_ms + i64::from(*cts_ms) - start_ms, "{name}: pts of {index}");
            assert_eq!(read.dts_ms, dts_ms - start_ms - lift_ms, "{name}: dts of {index}");
            assert_eq!(read.sync, *key || kind == Audio, "{name}: sync of {index}");
            assert_eq!(&file[read.offset..read.offset + read.bytes], media(index, *bytes), "{name}: media of {index}");
        }
    }
}

/// Interleaved audio (23, 22, 21 ms) and video with `frame_ms` and one B-frame between two others; a key frame every `gop` frames.
fn interleaved(frames: usize, frame_ms: i64, gop: usize, first_audio_ms: i64) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    for index in 0..frames {
        let in_gop = index % gop;
        let cts_ms = if in_gop == 0 {
            frame_ms
        } else if in_gop % 2 == 1 {
            frame_ms * 2
        } else {
            0
        };
        sent.push((Video, index as i64 * frame_ms, cts_ms as i32, in_gop == 0, 40 + index % 5));
    }
    let end_ms = frames as i64 * frame_ms;
    let mut audio_ms = first_audio_ms;
    for index in 0.. {
        if audio_ms > end_ms {
            break;
        }
        sent.push((Audio, audio_ms, 0, true, 9 + index % 3));
        audio_ms += 23 - index as i64 % 3;
    }
    sent.sort_by_key(|sample| sample.1);
    sent
}

fn cases() -> Vec<(&'static str, Vec<Sent>)> {
    let video = |times: &[(i64, i32, bool)]| times.iter().map(|(dts, cts, key)| (Video, *dts, *cts, *key, 20)).collect::<Vec<Sent>>();
    vec![
        ("A/V with B-frames", interleaved(90, 40, 25, 0)),
        ("audio begins before zero", interleaved(40, 40, 20, -300)),
        ("audio begins late", interleaved(80, 33, 30, 700)),
        ("VFR", (0..50).map(|i: i64| (Video, i * i * 3 + i % 4, 10, i % 12 == 0, 30)).collect()),
        ("two frames in one millisecond", video(&[(0, 0, true), (0, 10, false), (0, 20, false), (30, 0, false)])),
        ("audio only", interleaved(60, 40, 25, 5).into_iter().filter(|sample| sample.0 == Audio).collect()),
        ("video only", interleaved(60, 40, 25, 5).into_iter().filter(|sample| sample.0 == Video).collect()),
        ("negative offsets", video(&[(100, -40, true), (140, 0, false), (180, -80, false), (220, 10, false), (260, 0, true)])),
        ("one frame", video(&[(77, 40, true)])),
        ("begins without key frame", video(&[(0, 0, false), (40, 0, false), (80, 0, true), (120, 0, false)])),
        ("a pause of an hour", video(&[(0, 0, true), (40, 0, false), (3_600_000, 0, false), (3_600_040, 0, true)])),
        (
            "more frames a second than the room holds",
            (0..900).map(|i| (if i % 2 == 0 { Video } else { Audio }, i / 2, 0, i == 0 || i % 2 == 1, 8)).collect(),
        ),
    ]
}

fn tracks_of(sent: &[Sent]) -> Tracks {
    sample_tracks(sent.iter().any(|sample| sample.0 == Video), sent.iter().any(|sample| sample.0 == Audio))
}

#[test]
fn finished_files_hold_what_was_sent() {
    for (name, sent) in cases() {
        // In front, in front after an insertion, at the end.
        for (reserve_bytes, insert_supported) in [(64 << 10, true), (0, true), (0, false)] {
            for close in [true, false] {
                let written = write(&tracks_of(&sent), 0, reserve_bytes, &sent, close);
                let (file, found) = finished(&written.file, insert_supported);
                assert_holds(name, &file, &sent, sent.len());
                assert_eq!(found.plan.torn_bytes, 0);
                let moved: Vec<_> =
                    written.fragments.iter().map(|fragment| Fragment { offset: fragment.offset + found.shift, ..*fragment }).collect();
                assert_eq!(found.fragments[..moved.len()], moved, "{name}: fragments as the writer told them");
                assert_eq!(found.fragments.len(), moved.len() + usize::from(!close));
                for ((offset, bytes), index) in written.places.iter().zip(0..) {
                    let at = offset + found.shift as usize;
                    assert_eq!(&file[at..at + bytes], media(index, *bytes), "{name}: media does not move by anything but the shift");
                }
            }
        }
    }
}

#[test]
fn moov_goes_where_it_fits() {
    let sent = interleaved(900, 40, 50, 0);
    let written = write(&tracks_of(&sent), 0, 0, &sent, true);
    let kinds = |file: &[u8]| boxes(file).map(|(kind, _)| String::from_utf8_lossy(&kind).into_owned()).collect::<Vec<_>>().join(" ");
    let (front, found) = finished(&written.file, true);
    let insert = found.plan.insert.unwrap();
    assert!(insert.offset % 4096 == 0 && insert.length % 4096 == 0 && insert.length == found.shift && insert.length > 0);
    assert_eq!(kinds(&front), "ftyp moov free mdat");
    assert_holds("front", &front, &sent, sent.len());
    let (end, found) = finished(&written.file, false);
    assert_eq!((found.shift, found.plan.insert), (0, None));
    assert_eq!(kinds(&end), "ftyp free mdat moov");
    // A file finished one way stays so where the file system could do better.
    let again = scan(end.as_slice(), true).unwrap();
    assert!(again.plan.insert.is_none() && again.plan.writes.is_empty() && again.plan.append.is_empty());
    let roomy = write(&tracks_of(&sent), 0, 256 << 10, &sent, true);
    assert_eq!(scan(roomy.file.as_slice(), true).unwrap().plan.insert, None);
}

#[test]
fn interrupted_finishing_is_taken_up_again() {
    let sent = interleaved(120, 40, 50, 0);
    for (reserve_bytes, insert_supported) in [(0, true), (0, false), (64 << 10, true)] {
        let written = write(&tracks_of(&sent), 0, reserve_bytes, &sent, false);
        let (expected, found) = finished(&written.file, insert_supported);
        // Steps in the plan's order; each write and the append also cut in the middle.
        let plan = &found.plan;
        let mut step = plan.clone();
        (step.writes, step.append) = (Vec::new(), Vec::new());
        let mut states = vec![step.clone()];
        for (offset, bytes) in &plan.writes {
            for cut in [1, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
                let mut state = step.clone();
                state.writes.push((*offset, bytes[..cut].to_vec()));
                states.push(state);
            }
            step.writes.push((*offset, bytes.clone()));
        }
        for cut in (0..plan.append.len()).step_by(251) {
            states.push(crate::container::FinishPlan { append: plan.append[..cut].to_vec(), ..step.clone() });
        }
        for (index, state) in states.iter().enumerate() {
            let mut file = written.file.clone();
            apply(state, &mut file);
            let (file, found) = finished(&file, insert_supported);
            assert!(file == expected, "state {index} of {reserve_bytes} {insert_supported}");
            assert!(found.plan.torn_bytes < 8, "half an index is not media");
        }
    }
}

#[test]
fn cut_at_every_byte_the_complete_samples_stay() {
    let mut sent = interleaved(14, 40, 6, 10);
    sent.retain(|sample| sample.1 < 500);
    let written = write(&tracks_of(&sent), 0, 0, &sent, false);
    let head_bytes = head(&tracks_of(&sent), 0).len();
    for cut in head_bytes..=written.file.len() {
        let kept = written.places.iter().filter(|(offset, bytes)| offset + bytes <= cut).count();
        // Reserved room behind the cut is tried at every seventh: it takes longer.
        for zeros in if cut % 7 == 0 { &[0, 1, 9000][..] } else { &[0] }.iter().copied() {
            let mut file = written.file[..cut].to_vec();
            file.resize(cut + zeros, 0);
            if kept == 0 && (zeros == 0 || cut < written.places[0].0) {
                assert!(matches!(scan(file.as_slice(), true), Err(ScanError::Empty)), "cut at {cut}");
                continue;
            }
            if kept == 0 && scan(file.as_slice(), true).is_err() {
                continue;
            }
            let (file, found) = finished(&file, cut % 2 == 0);
            let frames = |track: &Option<crate::container::TrackSummary>| track.as_ref().map_or(0, |track| track.frames as usize);
            let summary = &found.plan.summary;
            // With zeros behind, a sample may look whole whose last bytes never arrived; only one of nothing but zeros is known to be torn.
            let found_frames = frames(&summary.video) + frames(&summary.audio);
            assert!(found_frames == kept || (zeros > 0 && found_frames == kept + 1), "cut at {cut}, {zeros} zeros: {found_frames} of {kept}");
            if zeros == 0 {
                assert_holds(&format!("cut at {cut}"), &file, &sent, kept);
                let end = written.places[kept - 1].0 + written.places[kept - 1].1;
                assert!(found.plan.torn_bytes as usize <= cut - end);
            }
            // The last fragment, addressed by itself, says what is there.
            let last = found.fragments.last().unwrap();
            assert_boxes_fill_the_file(&file[last.offset as usize..(last.offset + last.bytes) as usize], kept);
        }
    }
    for cut in 0..head_bytes {
        assert!(scan(&written.file[..cut], true).is_err(), "head cut at {cut}");
    }
}

#[test]
fn samples_that_damage_emptied_are_dropped_once_and_for_all() {
    let sent: Vec<Sent> = (0..4).map(|index| (Audio, index * 21, 0, true, 50)).collect();
    let written = write(&tracks_of(&sent), 0, 0, &sent, true);
    let place = |kind: &[u8]| written.file.windows(4).rposition(|bytes| bytes == kind).expect("a box") - 4;
    let (mdat, trun) = (place(b"mdat"), place(b"trun"));
    let (last, _) = written.places[3];
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));
    let cases: &[Case] = &[
        // Its entry behind the flags, the count, the offset and three entries.
        ("a size of 0", &|file| file[trun + 20 + 3 * 8 + 4..][..4].fill(0)),
        ("zeros, and torn bytes behind them", &|file| {
            file[last..].fill(0);
            file.extend([1; 30]);
            file[mdat + 3] += 30;
        }),
    ];
    for (name, damage) in cases {
        let mut file = written.file.clone();
        damage(&mut file);
        for insert_supported in [true, false] {
            let (_, found) = finished(&file, insert_supported);
            let audio = found.plan.summary.audio.unwrap();
            assert_eq!((audio.frames, audio.bytes), (3, 150), "{name}");
        }
    }
}

#[test]
fn each_store_of_a_frame_may_be_the_last() {
    /// Keeps the file after every append and patch.
    struct Recording {
        sink: MemorySink,
        states: Vec<Vec<u8>>,
    }
    impl Sink for Recording {
        fn position(&self) -> u64 {
            self.sink.position()
        }
        fn append(&mut self, bytes: &[u8]) {
            self.sink.append(bytes);
            self.states.push(self.sink.bytes.clone());
        }
        fn draft(&mut self, from: u64) {
            self.sink.draft(from);
        }
        fn patch(&mut self, offset: u64, bytes: &[u8]) {
            self.sink.patch(offset, bytes);
            self.states.push(self.sink.bytes.clone());
        }
        fn seal(&mut self, offset: u64) {
            self.sink.seal(offset);
        }
    }
    let sent = interleaved(30, 40, 11, 0);
    let tracks = tracks_of(&sent);
    let mut sink = Recording { sink: MemorySink::with_head(&head(&tracks, 8192)), states: Vec::new() };
    let mut writer = Mp4Writer::new(&tracks, 0);
    for (index, (track, dts_ms, cts_ms, key, bytes)) in sent.iter().enumerate() {
        writer.push(&sample_frame(*track, *dts_ms, *cts_ms, *key, &media(index, *bytes)), &mut sink);
        let states = std::mem::take(&mut sink.states);
        let (complete, partial) = states.split_last().unwrap();
        assert_holds("after a push", &finished(complete, true).0, &sent, index + 1);
        for state in partial.iter().filter(|_| index > 0) {
            assert_holds("in a push", &finished(state, true).0, &sent, index);
        }
    }
}

#[test]
fn fragments_close_when_they_should() {
    let closed = |sent: &[Sent]| {
        let written = write(&tracks_of(sent), 1_000, 0, sent, true);
        written.fragments.iter().map(|fragment| (fragment.start_ms, fragment.duration_ms, fragment.key)).collect::<Vec<_>>()
    };
    // Key frames every 400 ms: the duration of the last frame before a key frame is exact.
    let sent: Vec<Sent> = (0..30).map(|i| (Video, 1_000 + i * 40 + i % 3, 0, i % 10 == 0, 10)).collect();
    assert_eq!(closed(&sent), [(0, 401, true), (401, 401, true), (802, 401, true)]);
    // A long group: about a second each, only the first is a key fragment.
    let sent: Vec<Sent> = (0..60).map(|i| (Video, 1_000 + i * 40, 0, i == 0, 10)).collect();
    assert_eq!(closed(&sent), [(0, 1_000, true), (1_000, 1_000, false), (2_000, 400, false)]);
    // Audio alone begins nowhere special.
    let sent: Vec<Sent> = (0..60).map(|i| (Audio, 1_000 + i * 20, 0, true, 10)).collect();
    assert_eq!(closed(&sent), [(0, 1_000, true), (1_000, 200, true)]);
    // Audio before the first video frame does not cost a fragment of its own.
    let sent: Vec<Sent> = vec![(Audio, 990, 0, true, 10), (Video, 1_000, 0, true, 10), (Audio, 1_011, 0, true, 10), (Video, 1_040, 0, true, 10)];
    assert_eq!(closed(&sent), [(0, 40, true), (40, 40, true)]);
    // Large frames bound the bytes that stay open.
    let sent: Vec<Sent> = (0..4).map(|i| (Video, 1_000 + i * 10, 0, false, 3 << 20)).collect();
    assert_eq!(closed(&sent).len(), 4);
    // Room runs out long before a second, and grows.
    let sent: Vec<Sent> = (0..2_000).map(|i| (if i % 2 == 0 { Video } else { Audio }, 1_000 + i / 8, 0, i == 0, 3)).collect();
    let fragments = closed(&sent);
    assert!(fragments.len() > 3 && fragments.len() < 20 && fragments.iter().all(|fragment| fragment.1 < FRAGMENT_MS), "{fragments:?}");
}

#[test]
fn time_that_goes_back_keeps_presentation() {
    let tracks = sample_tracks(true, false);
    let sent: Vec<Sent> = vec![(Video, 500, 0, true, 9), (Video, 540, 40, false, 9), (Video, 520, 60, false, 9), (Video, 580, 0, false, 9)];
    let file = finished(&write(&tracks, 0, 0, &sent, true).file, true).0;
    let (_, read) = read_back(&file);
    let times: Vec<_> = read[0].1.iter().map(|read| (read.dts_ms, read.pts_ms)).collect();
    assert_eq!(times, [(0, 0), (40, 80), (40, 80), (80, 80)]);
    // Further before zero than the bias reaches, and times that no clock has.
    let wild: Vec<Sent> =
        vec![(Video, i64::MIN, i32::MIN, true, 9), (Video, -20_000, 0, false, 9), (Video, i64::MAX, i32::MAX, false, 9), (Video, 0, 0, true, 9)];
    for zero_ms in [0, i64::MIN, i64::MAX] {
        let found = finished(&write(&tracks, zero_ms, 0, &wild, true).file, true).1;
        assert_eq!(found.plan.summary.video.unwrap().frames, 4);
    }
}

#[test]
fn frames_that_have_no_place_are_ignored() {
    let mut sink = MemorySink::with_head(&head(&sample_tracks(true, false), 0));
    let mut writer = Mp4Writer::new(&sample_tracks(true, false), 0);
    let before = sink.bytes.clone();
    assert_eq!(writer.push(&sample_frame(Audio, 0, 0, true, b"abc"), &mut sink), None);
    assert_eq!(writer.push(&sample_frame(Video, 0, 0, true, b""), &mut sink), None);
    assert_eq!(writer.close_fragment(&mut sink), None);
    assert_eq!(sink.bytes, before);
    assert!(matches!(scan(sink.bytes.as_slice(), true), Err(ScanError::Empty)));
    assert!(matches!(scan(&b"GIF89a, not a movie"[..], true), Err(ScanError::Head { .. })));
}

#[test]
fn heads_are_whole_pages_and_read_by_others() {
    for (video, audio) in [(true, true), (true, false), (false, true)] {
        let tracks = sample_tracks(video, audio);
        for reserve_bytes in [0, 1, 4000, 4096, 100_000] {
            let head = head(&tracks, reserve_bytes);
            assert_eq!(head.len() % HEAD_ALIGN_BYTES, 0);
            let layout: Vec<_> = boxes(&head).map(|(kind, body)| (kind, body.len())).collect();
            assert_eq!(layout.iter().map(|(kind, _)| kind).collect::<Vec<_>>(), [b"ftyp", b"free", b"moov", b"free"]);
            assert!(layout[1].1 >= reserve_bytes);
        }
        let init = init_segment(&tracks);
        let moov = boxes(&init).nth(1).unwrap();
        assert_eq!(&moov.0, b"moov");
        let mut bytes = &init[init.len() - moov.1.len() - 8..];
        let Any::Moov(moov) = Any::decode(&mut bytes).unwrap() else { panic!() };
        assert_eq!(moov.trak.len(), tracks.count());
        assert!(moov.mvex.is_some() && moov.trak.iter().all(|trak| trak.edts.is_none()));
    }
}

#[test]
fn summary_says_what_is_in_the_file() {
    let sent = interleaved(50, 40, 25, 100);
    let found = finished(&write(&tracks_of(&sent), 0, 0, &sent, true).file, true).1;
    let summary = found.plan.summary;
    let video = summary.video.unwrap();
    assert_eq!((video.codec.as_str(), video.frames, video.width, video.height, video.key_frames), ("h264", 50, 640, 360, 2));
    let audio = summary.audio.unwrap();
    assert_eq!((audio.codec.as_str(), audio.sample_rate_hz, audio.channels), ("aac", 48_000, 2));
    let audio_bytes: usize = sent.iter().filter(|sample| sample.0 == Audio).map(|sample| sample.4).sum();
    assert_eq!(audio.bytes as usize, audio_bytes);
    // First presentation at 40 ms (frame 0, two frames of delay), the last frame in decoding order ends at 2000 + its delay.
    let ends = sent.iter().map(|sample| sample.1 + i64::from(sample.2) + if sample.0 == Video { 40 } else { 22 }).max().unwrap();
    assert!((summary.duration_ms as i64 - (ends - 40)).abs() <= 1, "{} {ends}", summary.duration_ms);
}

#[test]
fn recording_files_tell_the_bias() {
    let sent = interleaved(10, 40, 5, 0);
    let written = write(&tracks_of(&sent), 0, 0, &sent, false);
    let (kind, moov) = boxes(&written.file).nth(2).unwrap();
    assert_eq!(&kind, b"moov");
    let mut whole = ((moov.len() + 8) as u32).to_be_bytes().to_vec();
    whole.extend_from_slice(b"moov");
    whole.extend_from_slice(moov);
    let Any::Moov(moov) = Any::decode(&mut whole.as_slice()).unwrap() else { panic!() };
    for trak in moov.trak {
        assert_eq!(trak.edts.unwrap().elst.unwrap().entries[0].media_time, Some(MEDIA_TIME_BIAS_MS));
    }
}

proptest! {
    #[test]
    fn damage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz_scan(&data);
    }
}

/// A picture, a sound, one more of each, and messages between them.
fn several() -> Tracks {
    let first = sample_tracks(true, true);
    let video = FurtherTrack { number: 1, description: FurtherDescription::Video(first.video.clone().unwrap()) };
    let audio = FurtherTrack { number: 4, description: FurtherDescription::Audio(first.audio.clone().unwrap()) };
    let label = TrackLabel { kind: Audio, number: 4, label: Label::new("de-CH", "Kommentar") };
    Tracks { further: vec![audio, video], labels: [label].into(), ..first }
}

#[test]
fn further_tracks_and_messages_are_in_one_file() {
    let tracks = several();
    let note = |index: usize| Note { name: "onTextData".to_owned(), json: format!("{{\"number\":{index}}}"), splice: None };
    for insert_supported in [true, false] {
        let mut sink = MemorySink::with_head(&head(&tracks, 0));
        let mut writer = Mp4Writer::new(&tracks, 1_000).with_clock(Some(WallTime::from_unix_micros(1_700_000_000_250_000)), false);
        let mut fragments = Vec::new();
        for index in 0..100_usize {
            let dts_ms = 1_000 + 40 * index as i64;
            let media = media(index, 50 + index);
            let frame = |track, key| sample_frame(track, dts_ms, 0, key, &media);
            let bound = writer.push_bytes_max(media.len());
            let before = sink.bytes.len();
            fragments.extend(writer.push(&frame(Video, index % 25 == 0), &mut sink));
            assert!(sink.bytes.len() - before <= bound);
            fragments.extend(writer.push_further(1, &frame(Video, index % 10 == 0), &mut sink));
            fragments.extend(writer.push(&frame(Audio, true), &mut sink));
            fragments.extend(writer.push_further(0, &frame(Audio, true), &mut sink));
            assert!(writer.push_further(2, &frame(Audio, true), &mut sink).is_none(), "there is no such track");
            if index % 30 == 7 || index == 99 {
                let bound = writer.push_message_bytes_max(&note(index));
                let before = sink.bytes.len();
                fragments.extend(writer.push_message(dts_ms, &note(index), &mut sink).unwrap());
                assert!(sink.bytes.len() - before <= bound);
            }
            assert_boxes_fill_the_file(&sink.bytes, index);
        }
        fragments.extend(writer.close_fragment(&mut sink));
        // The last of all.
        assert_eq!(writer.push_message(1_000 + 40 * 99, &note(100), &mut sink), Ok(None));
        let (from, end) = writer.messages_behind(&sink).unwrap();
        fragments.last_mut().unwrap().bytes += end - from;
        let (file, found) = finished(&sink.bytes, insert_supported);
        assert_eq!(found.plan.torn_bytes, 0);
        let moved: Vec<_> = fragments.iter().map(|fragment| Fragment { offset: fragment.offset + found.shift, ..*fragment }).collect();
        assert_eq!(found.fragments, moved, "fragments as the writer told them");
        let summary = &found.plan.summary;
        let frames: Vec<u64> = summary.tracks().map(|(_, track)| track.frames).collect();
        assert_eq!((frames, summary.data_messages), (vec![100; 4], 6));
        assert_eq!((summary.further_video[0].key_frames, summary.video.as_ref().unwrap().key_frames), (10, 4));

        // The time of day of the first fragment: flags, track, NTP, media time.
        let at = file.windows(8).position(|window| window == b"\0\0\0\x20prft").unwrap();
        let expected = [
            &8_u32.to_be_bytes()[1..],
            &1_u32.to_be_bytes(),
            &3_908_988_800_u32.to_be_bytes(),
            &0x4000_0000_u32.to_be_bytes(),
            &10_000_u64.to_be_bytes(),
        ];
        assert_eq!(&file[at + 9..at + 32], expected.concat());

        // Another reader: ids, kinds, what is enabled, and every sample's bytes.
        let movie = super::read_movie(file.as_slice()).unwrap();
        let kinds = |movie: &super::Movie| movie.tracks.iter().map(|track| (track.kind, track.samples.len())).collect::<Vec<_>>();
        assert_eq!(kinds(&movie), [(Video, 100), (Audio, 100), (Audio, 100), (Video, 100)], "cuts keep every track");
        let labels = movie.tracks.iter().map(|track| (track.label.language.as_str(), track.label.name.as_str()));
        assert_eq!(labels.collect::<Vec<_>>(), [("", ""), ("", ""), ("de-CH", "Kommentar"), ("", "")]);
        let cut = super::select(&movie, 500, 1_500).unwrap();
        assert!(cut.ranges.iter().all(|range| range.len() >= 25), "{:?}", cut.ranges);
        let plan = super::plan_cut(&[&movie], &[(0, cut)]);
        assert_eq!((plan.summary.further_audio.len(), plan.summary.further_video.len()), (1, 1));
        let Ok(Any::Moov(made)) = Any::decode(&mut &plan.head[32..]) else { panic!("no moov") };
        let made: Vec<_> = made.trak.iter().map(|trak| (trak.tkhd.track_id, <[u8; 4]>::from(trak.mdia.hdlr.handler), trak.tkhd.enabled)).collect();
        assert_eq!(made, [(1, *b"vide", true), (2, *b"soun", true), (3, *b"soun", false), (4, *b"vide", false)]);
        assert_eq!(kinds(&movie.first_ones()), [(Video, 100), (Audio, 100)]);
        // The one at the top: the initial one lies in a free box.
        let at = if insert_supported { FTYP_BYTES as usize } else { file.windows(4).rposition(|window| window == b"moov").unwrap() - 4 };
        let Ok(Any::Moov(moov)) = Any::decode(&mut &file[at..]) else { panic!("no moov") };
        let seen: Vec<_> = moov.trak.iter().map(|trak| (trak.tkhd.track_id, <[u8; 4]>::from(trak.mdia.hdlr.handler), trak.tkhd.enabled)).collect();
        assert_eq!(seen, [(1, *b"vide", true), (2, *b"soun", true), (3, *b"soun", false), (4, *b"vide", false), (5, *b"meta", true)]);
        let told = &moov.trak[2].mdia;
        assert_eq!((told.mdhd.language.as_str(), told.hdlr.name.as_str(), moov.trak[1].mdia.mdhd.language.as_str()), ("deu", "Kommentar", "und"));
        let second = &moov.trak[3].mdia.minf.stbl;
        assert_eq!(second.stss.as_ref().unwrap().entries, (0..10).map(|key| 10 * key + 1).collect::<Vec<_>>());
        let texts = &moov.trak[4].mdia.minf.stbl;
        for (chunk, index) in texts.stco.as_ref().unwrap().entries.iter().zip([7, 37, 67, 97, 99, 100]) {
            assert!(file[*chunk as usize..].starts_with(note(index).json.as_bytes()), "message {index}");
        }
        // Cut anywhere, what is whole stays, and finishing again changes nothing.
        for cut in (sink.bytes.len() - 9_000..sink.bytes.len()).step_by(97) {
            finished(&sink.bytes[..cut], insert_supported);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A kill at any moment finds every frame of every track and every message that was written, and finishing changes nothing of them.
    #[test]
    fn nothing_waits_for_the_next_fragment(
        steps in proptest::collection::vec((0_u8..6, 1_usize..700, 0_i64..60), 1..100),
        clock in any::<bool>(),
    ) {
        let tracks = several();
        let mut sink = MemorySink::with_head(&head(&tracks, 0));
        let clock = clock.then(|| WallTime::from_unix_micros(1_700_000_000_250_000));
        let mut writer = Mp4Writer::new(&tracks, 0).with_clock(clock, false);
        let (mut counts, mut fragments, mut messages, mut dts_ms) = ([0_u64; 4], Vec::new(), Vec::new(), 0);
        for (index, (what, bytes, step_ms)) in steps.into_iter().enumerate() {
            dts_ms += step_ms;
            let media = media(index, bytes);
            let frame = |track| sample_frame(track, dts_ms, 0, index % 9 == 0, &media);
            match what {
                0 => fragments.extend(writer.push(&frame(Video), &mut sink)),
                1 => fragments.extend(writer.push(&frame(Audio), &mut sink)),
                2 => fragments.extend(writer.push_further(0, &frame(Audio), &mut sink)),
                3 => fragments.extend(writer.push_further(1, &frame(Video), &mut sink)),
                _ => {
                    let splice = (what == 5).then(|| [&[0xFC, 0x30, 1][..], &crate::wire::crc32_mpeg(&[0xFC, 0x30, 1]).to_be_bytes()].concat());
                    let json = format!("{{\"number\":{index},\"text\":\"{}\"}}", "x".repeat(bytes));
                    let note = Note { name: "onTextData".to_owned(), json, splice };
                    let (before, bound) = (sink.bytes.len(), writer.push_message_bytes_max(&note));
                    fragments.extend(writer.push_message(dts_ms, &note, &mut sink).unwrap());
                    prop_assert!(sink.bytes.len() - before <= bound);
                    messages.push(note.json);
                }
            }
            if let Some(count) = counts.get_mut(usize::from(what)) {
                *count += 1;
            }
            if index % 23 == 22 {
                fragments.extend(writer.close_fragment(&mut sink));
            }
            assert_boxes_fill_the_file(&sink.bytes, index);
            if counts == [0; 4] {
                continue;
            }
            let (file, found) = finished(&sink.bytes, true);
            let frames: u64 = found.plan.summary.tracks().map(|(_, track)| track.frames).sum();
            prop_assert_eq!((frames, found.plan.summary.data_messages), (counts.iter().sum(), messages.len() as u64), "after {}", index);
            for json in messages.iter().rev().take(3) {
                prop_assert!(file.windows(json.len()).any(|window| window == json.as_bytes()));
            }
        }
        // Fragments stand one behind the other, also where messages are between them.
        for pair in fragments.windows(2) {
            prop_assert_eq!(pair[0].offset + pair[0].bytes, pair[1].offset);
        }
    }
}

/// Where messages are usual they find room in front of the fragment, and cut none short.
#[test]
fn messages_that_come_all_the_time_cost_no_fragments() {
    let tracks = sample_tracks(true, true);
    let fragments_with = |every: usize| {
        let mut sink = MemorySink::with_head(&head(&tracks, 0));
        let mut writer = Mp4Writer::new(&tracks, 0);
        let mut fragments = 0;
        for index in 0..1_000_usize {
            let media = media(index, 500);
            fragments += usize::from(writer.push(&sample_frame(Video, 40 * index as i64, 0, index % 50 == 0, &media), &mut sink).is_some());
            if every > 0 && index % every == 0 {
                let note = Note { name: "onFI".to_owned(), json: format!("{{\"number\":{index}}}"), splice: None };
                fragments += usize::from(writer.push_message(40 * index as i64, &note, &mut sink).unwrap().is_some());
            }
        }
        (fragments, sink.bytes.len())
    };
    let (none, bytes) = fragments_with(0);
    let (all, bytes_with) = fragments_with(1);
    assert!(all <= none + 8, "{all} fragments with a message at every picture, {none} without one");
    assert!(bytes_with < bytes + 1_000 * 200, "{bytes_with} bytes, {bytes} without messages");
}

/// The segments of a movie, as they are packaged.
fn packaged(movie: &super::Movie, file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let read = |at: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&file[at as usize..][..buffer.len()]);
        Ok(())
    };
    let fragment = |(number, segment): (usize, &super::MovieSegment)| super::fragment(movie, number as u32, segment, read).unwrap();
    let segments = super::segments(movie, 1_000);
    segments.iter().enumerate().map(|segment| (segment.1.duration_ms, fragment(segment))).collect()
}

#[test]
fn what_grows_is_packaged_as_it_will_be_when_it_is_finished() {
    for (name, sent) in [
        ("both", interleaved(300, 40, 25, 0)),
        ("audio first", interleaved(300, 40, 25, -300)),
        ("audio late", interleaved(300, 40, 25, 700)),
        ("audio alone", interleaved(300, 40, 25, 5).into_iter().filter(|sample| sample.0 == Audio).collect()),
    ] {
        let tracks = tracks_of(&sent);
        let file = write(&tracks, 0, 64 << 10, &sent, true).file;
        let (final_file, _) = finished(&file, false);
        let expected = packaged(&super::read_movie(final_file.as_slice()).unwrap(), &final_file);
        let mut growing = super::Growing::begin(file.as_slice()).unwrap();
        assert!(growing.movie().is_none());
        let mut seen = 0;
        for part in (0..file.len() + 5_000).step_by(5_000) {
            // On a disk that was preallocated.
            let mut disk = file[..part.min(file.len())].to_vec();
            disk.resize(file.len() + 10_000, 0);
            growing.go_on(disk.as_slice()).unwrap();
            let Some(movie) = growing.movie() else { continue };
            let mut found = packaged(movie, &file);
            found.pop();
            assert!(found.len() >= seen, "{name}: what was listed stays");
            seen = found.len();
            assert_eq!(found, expected[..seen], "{name} at {part}");
        }
        assert!(seen + 3 >= expected.len() && seen > 5, "{name}: {seen} of {}", expected.len());
    }
}

#[test]
fn a_hole_in_what_grows_is_waited_for() {
    let sent: Vec<Sent> = interleaved(200, 40, 25, 0).into_iter().map(|(track, dts, cts, key, bytes)| (track, dts, cts, key, bytes + 600)).collect();
    let file = write(&tracks_of(&sent), 0, 4096, &sent, true).file;
    let mut torn = file.clone();
    let hole = file.len() / 8192 * 4096;
    torn[hole..hole + 4096].fill(0);
    let mut growing = super::Growing::begin(torn.as_slice()).unwrap();
    growing.go_on(torn.as_slice()).unwrap();
    let samples = |growing: &super::Growing| growing.movie().unwrap().tracks[0].samples.clone();
    assert!(samples(&growing).iter().all(|sample| sample.offset + u64::from(sample.bytes) <= hole as u64));
    growing.go_on(file.as_slice()).unwrap();
    assert!(samples(&growing).len() > 150);
}

#[test]
fn priming_is_passed_over_and_the_last_frame_lasts_as_long_as_it_does() {
    let mut opus = AudioTrack::new(AudioCodec::Opus, &[0, 2, 1, 0x38, 0, 0, 0xBB, 0x80, 0, 0, 0][..], 48_000, 2, 960);
    opus.pre_skip = 312;
    let aac = |rate_hz, config: &'static [u8]| AudioTrack::new(AudioCodec::Aac, config, rate_hz, 2, 1024);
    // Track, frames' ms, time scale, media time, delay and duration in the movie's ticks, duration of the last sample.
    for (track, times, expected) in [
        (opus, [0, 20, 40, 60], (48_000, 312, 312, 80 * 48 - 312, 960)),
        (aac(48_000, &[0x11, 0x90]), [0, 21, 43, 64], (48_000, 0, 0, 64 * 48 + 1024, 1024)),
        (aac(44_100, &[0x12, 0x10]), [0, 23, 46, 70], (441_000, 0, 0, 70 * 441 + 10_240, 10_240)),
    ] {
        let codec = track.codec;
        let tracks = Tracks { audio: Some(Arc::new(track)), ..Tracks::default() };
        let sent: Vec<Sent> = times.iter().map(|time| (Audio, *time, 0, true, 10)).collect();
        let written = write(&tracks, 0, 4096, &sent, true);
        let (file, _) = finished(&written.file, true);
        let (moov, read) = read_back(&file);
        assert_eq!(read[0].1.iter().map(|read| read.dts_ms).collect::<Vec<_>>(), times, "{codec:?}: times are what was sent");
        let trak = &moov.trak[0];
        let edits = &trak.edts.as_ref().unwrap().elst.as_ref().unwrap().entries;
        let shown = edits.last().unwrap();
        let delay = if edits.len() == 2 { edits[0].segment_duration } else { 0 };
        let last = trak.mdia.minf.stbl.stts.entries.last().unwrap().sample_delta;
        let found = (trak.mdia.mdhd.timescale, shown.media_time.unwrap(), delay, shown.segment_duration, last);
        assert_eq!(found, expected, "{codec:?}");
        assert_eq!(moov.mvhd.timescale, expected.0);
    }
}
