//! Recordings that begin in the past, on a store in memory.

use super::tests::*;
use super::*;
use crate::container::mp4;
use crate::container::{Recalled, RecalledBatch, RecalledFrame, Recalling};
use crate::media::Payload;
use crate::units::{TaskId, TemplateId};

/// Reads a file of the memory store again, a few frames at a time, with waits between.
struct Reading {
    batches: Vec<RecalledBatch>,
    waits: bool,
    fails: bool,
}

impl Recalling for Reading {
    fn next(&mut self) -> Recalled {
        self.waits = !self.waits;
        if self.waits {
            return Recalled::Wait;
        }
        match self.batches.pop() {
            Some(batch) => Recalled::Batch(batch),
            None if self.fails => Recalled::Failed("it is damaged".to_owned()),
            None => Recalled::End,
        }
    }
}

pub(super) fn recall(bytes: &[u8], from_ms: Option<i64>, fails: bool) -> Box<dyn Recalling> {
    let scanned = mp4::scan(bytes, false).expect("a file of the ring");
    let mut file = bytes[..scanned.plan.truncate_to as usize].to_vec();
    for (offset, written) in &scanned.plan.writes {
        file[*offset as usize..*offset as usize + written.len()].copy_from_slice(written);
    }
    file.extend_from_slice(&scanned.plan.append);
    let movie = mp4::read_movie(&file[..]).expect("it is finished");
    let frames = mp4::stored_frames(&movie, from_ms);
    let batch = |frames: &[mp4::StoredFrame]| {
        let mut batch = RecalledBatch::default();
        for frame in frames {
            let at = batch.bytes.len();
            batch.bytes.extend_from_slice(&file[frame.offset as usize..frame.offset as usize + frame.bytes as usize]);
            let (track, further, key, time_ms, cts_ms) = (frame.track, frame.further, frame.key, frame.time_ms, frame.cts_ms);
            batch.frames.push(RecalledFrame { track, further, key, time_ms, cts_ms, range: at..batch.bytes.len() });
        }
        batch
    };
    let batches: Vec<_> = frames.chunks(7).rev().map(batch).collect();
    Box::new(Reading { batches, waits: false, fails })
}

fn ring() -> RecordTemplate {
    let mut template = RecordTemplate::empty(TemplateId(1001), "kept");
    template.pre_record_s = 60;
    template.ring().expect("something is kept")
}

fn task() -> RecordingSource {
    RecordingSource::Task(TaskId("past".into()))
}

/// The numbers of pictures and sounds in all FLV files of the task, in order.
fn recorded(store: &MemoryStore) -> [Vec<u32>; 2] {
    let files: Vec<_> = store.flv_files().into_iter().map(|number| store.flv_tags(number)).collect();
    [9, 8].map(|kind| files.iter().flat_map(|tags| numbers(tags, kind)).collect())
}

#[test]
fn a_task_begins_in_the_past_without_a_gap_and_without_a_doubled_frame() {
    // Frame 25 * n is at second n; the task is made after second 35 and 3 pictures.
    for (since_ms, first) in [(0, 0), (100, 0), (1_000, 25), (9_990, 225), (10_040, 250), (20_500, 500), (33_000, 825), (34_100, 850), (34_999, 850)]
    {
        for interval_s in [7, 1_800] {
            let (mut recorder, mut store) = (recorder(), MemoryStore::new());
            recorder.keep_ring(&ring(), now(0), &mut store);
            headers(&mut recorder, &mut store);
            send(&mut recorder, &mut store, 0..878);
            assert_eq!(recorder.recordings().count(), 0);
            let wanted = template(&[Format::Flv, Format::Mp4, Format::Hls, Format::Aac], interval_s);
            recorder.start_since(task(), &wanted, now(since_ms).wall, now(35_120), &mut store);
            send(&mut recorder, &mut store, 878..1_500);
            recorder.stop(&task(), EndReason::TaskEnded, now(60_000), &mut store);
            assert!(recorder.sessions.iter().all(|session| session.source == RecordingSource::Ring), "the task is over");
            let expected: Vec<u32> = (first..1_500).collect();
            assert_eq!(recorded(&store), [expected.clone(), expected.clone()], "since {since_ms} ms, {interval_s} s");
            let identities = store.begun(|identity| identity.source == task() && identity.format == Format::Flv);
            // With what is in memory alone a recording begins when it was asked for.
            let is_past = since_ms < 34_033;
            if is_past {
                assert_eq!(identities[0].start, now(u64::from(first) * 40).wall, "its begin is when its first frame came");
            }
            if interval_s < 1_800 && is_past {
                assert!(identities.len() > 2);
                assert!(identities.windows(2).all(|two| two[1].start.unix_millis() - two[0].start.unix_millis() == 7_000), "{identities:?}");
            }
            let aac: usize = store.adts_frames();
            assert_eq!(aac, expected.len());
            assert_eq!(store.movie_frames(|identity| identity.source == task() && identity.format == Format::Mp4), 2 * expected.len());
            recorder.finish(EndReason::PublicationEnded, now(61_000), &mut store);
            assert!(recorder.is_finished());
            assert_eq!((store.kept, store.pins()), (0, 0));
            assert!(recorder.take_changes().iter().all(|change| change.source == task()), "nobody is told of the ring");
            assert!(recorder.take_events().is_empty());
        }
    }
}

#[test]
fn a_task_begins_in_the_past_with_every_track() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.keep_ring(&ring(), now(0), &mut store);
    headers(&mut recorder, &mut store);
    recorder.video(0, Payload::contiguous(&further(9, 0, true, &video_header(30)[5..])), now(0), &mut store).unwrap();
    recorder.audio(0, Payload::contiguous(&further(8, 0, true, &[0x12, 0x10])), now(0), &mut store).unwrap();
    let send_all = |recorder: &mut Recorder<MemoryStore>, store: &mut MemoryStore, range: std::ops::Range<u32>| {
        for number in range {
            let (time, at) = (number * 40, now(u64::from(number * 40)));
            send(recorder, store, number..number + 1);
            let picture = [&[0, 0, 80, 0, 0, 0, 5, if number % 25 == 0 { 0x65 } else { 0x41 }][..], &number.to_be_bytes()].concat();
            recorder.video(time, Payload::contiguous(&further(9, 1, number % 25 == 0, &picture)), at, store).unwrap();
            recorder.audio(time + 7, Payload::contiguous(&further(8, 1, true, &number.to_be_bytes())), at, store).unwrap();
        }
    };
    send_all(&mut recorder, &mut store, 0..878);
    recorder.start_since(task(), &template(&[Format::Flv, Format::Mp4], 1_800), now(10_000).wall, now(35_120), &mut store);
    send_all(&mut recorder, &mut store, 878..1_500);
    recorder.stop(&task(), EndReason::TaskEnded, now(60_000), &mut store);
    let expected: Vec<u32> = (250..1_500).collect();
    let all = everything(store.flv_files().into_iter().map(|number| store.bytes(number)));
    for kind in [9, 8, 109, 108] {
        let found: Vec<u32> = all.iter().filter(|item| item.0 == kind).map(|item| item.1).collect();
        assert_eq!(found, expected, "kind {kind}");
    }
    assert_eq!(store.movie_tracks(|identity| identity.source == task()), [1_250; 4]);
}

#[test]
fn new_parameters_and_ends_while_the_past_is_read() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.keep_ring(&ring(), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..300);
    recorder.video(12_000, Payload::contiguous(&video_header(31)), now(12_000), &mut store).unwrap();
    send(&mut recorder, &mut store, 300..600);
    recorder.start_since(task(), &template(&[Format::Flv], 1_800), now(3_000).wall, now(24_000), &mut store);
    // The publication ends at once.
    recorder.finish(EndReason::PublicationEnded, now(24_010), &mut store);
    for ms in 0..200 {
        recorder.tick(now(24_100 + ms), &mut store);
    }
    assert!(recorder.is_finished());
    let expected: Vec<u32> = (75..600).collect();
    assert_eq!(recorded(&store), [expected.clone(), expected]);
    assert_eq!(store.flv_files().len(), 2, "another file behind the new parameters");
    let ended = store.ended_of(&task());
    assert_eq!(ended, [EndReason::ParametersChanged, EndReason::PublicationEnded]);
}

#[test]
fn a_past_that_cannot_be_read_costs_nothing_of_what_follows() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.keep_ring(&ring(), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..600);
    store.recall_fails = true;
    recorder.start_since(task(), &template(&[Format::Flv], 1_800), now(3_000).wall, now(24_000), &mut store);
    send(&mut recorder, &mut store, 600..900);
    recorder.finish(EndReason::PublicationEnded, now(36_000), &mut store);
    let [video, audio] = recorded(&store);
    // The rest of the file that was being read, and what is live from the key frame in memory on.
    let expected: Vec<u32> = (75..250).chain(600..900).collect();
    assert_eq!((video, audio), (expected.clone(), expected));
    assert!(recorder.take_events().iter().any(|event| matches!(event, LiveEventKind::RecordException { .. })), "it is told");
}
