//! A recorder on a store in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::container::{MediaPath, MemorySink, OpenMedia, Pinned, Recalling, RecordingEnd, Room, Scanned, Sink};
use crate::domain::{PausedRecording, RecordingIdentity, Resume, ResumeClaim, Resumptions};
use crate::media::Payload;
use crate::units::{FileId, Format, TaskId, TemplateId};

/// Keeps every file; `room` false: takes nothing, as a store whose disk hangs.
pub(super) struct MemoryStore {
    next_id: u64,
    files: BTreeMap<u64, (OpenMedia, Vec<u8>)>,
    /// The bytes of all files as they grow, and the first item that each has not taken.
    growing: BTreeMap<u64, (Rc<RefCell<MemorySink>>, u64)>,
    /// The log as it grows, and the note beside it: what a kill would leave.
    log: Rc<RefCell<MemorySink>>,
    note: Option<Vec<u8>>,
    ended: Vec<RecordingEnd>,
    resumptions: Resumptions,
    texts: BTreeMap<u64, String>,
    room: bool,
    /// Takes everything, and nothing shall be kept in memory.
    tight: bool,
    disk: Room,
    pins: Rc<Cell<usize>>,
    /// Logs and notes that are open.
    pub(super) kept: usize,
    /// What is read again is damaged at its end.
    pub(super) recall_fails: bool,
}

#[derive(Clone)]
pub(super) struct MemoryFile {
    number: u64,
    sink: Rc<RefCell<MemorySink>>,
}

/// One block of a file: [`MemoryStore::BLOCK_BYTES`] of it.
pub(super) struct MemoryPin {
    sink: Rc<RefCell<MemorySink>>,
    start: u64,
    count: Rc<Cell<usize>>,
}

impl Pinned for MemoryPin {
    fn range(&self) -> std::ops::Range<u64> {
        self.start..self.start + MemoryStore::BLOCK_BYTES as u64
    }
    fn copy_to(&self, offset: u64, len: usize, to: &mut Vec<u8>) {
        assert!(self.range().contains(&offset) && offset + len as u64 <= self.range().end, "inside the block");
        to.extend_from_slice(&self.sink.borrow().bytes[offset as usize..offset as usize + len]);
    }
}

impl Drop for MemoryPin {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}

impl Sink for MemoryFile {
    fn position(&self) -> u64 {
        self.sink.borrow().position()
    }
    fn append(&mut self, bytes: &[u8]) {
        self.sink.borrow_mut().append(bytes);
    }
    fn draft(&mut self, from: u64) {
        self.sink.borrow_mut().draft(from);
    }
    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        self.sink.borrow_mut().patch(offset, bytes);
    }
    fn seal(&mut self, offset: u64) {
        self.sink.borrow_mut().seal(offset);
    }
}

impl Store for MemoryStore {
    type File = MemoryFile;
    type Pin = MemoryPin;
    type Note = Vec<u8>;
    fn next_file_id(&mut self) -> FileId {
        self.next_id += 1;
        FileId::new(FileId::MIN + self.next_id).unwrap()
    }
    fn open(&mut self, open: OpenMedia) -> Option<MemoryFile> {
        let number = self.files.len() as u64;
        let sink = Rc::new(RefCell::new(MemorySink::with_head(&open.head)));
        self.files.insert(number, (open, Vec::new()));
        self.growing.insert(number, (Rc::clone(&sink), 0));
        Some(MemoryFile { number, sink })
    }
    fn reserve(&mut self, _: &mut MemoryFile, _: usize) -> bool {
        self.room
    }
    fn commit(&mut self, file: &mut MemoryFile, taken: u64) {
        if let Some((_, known)) = self.growing.get_mut(&file.number) {
            *known = taken;
        }
    }
    fn flush(&mut self, _: &mut MemoryFile) {}
    fn has_failed(&self, _: &MemoryFile) -> bool {
        false
    }
    fn room(&self, _: Option<&MemoryFile>) -> Room {
        self.disk
    }
    fn append_text(&mut self, folder: FileId, _: &'static str, text: String) {
        self.texts.entry(folder.get()).or_default().push_str(&text);
    }
    fn close(&mut self, file: MemoryFile, _: Option<Scanned>) {
        self.files.get_mut(&file.number).unwrap().1 = file.sink.borrow().bytes.clone();
    }
    fn end_recording(&mut self, end: RecordingEnd) {
        if let Some(claim) = &end.claim {
            self.resumptions.end(&claim.key, &claim.source, claim.publication);
        }
        self.ended.push(end);
    }
    fn resume(&mut self, claim: &ResumeClaim, patient: bool) -> Resume {
        self.resumptions.claim(claim, patient)
    }
    fn pause_recording(&mut self, paused: PausedRecording) {
        self.resumptions.pause(paused).expect("nobody else is there");
    }
    fn open_log(&mut self) -> MemoryFile {
        self.kept += 1;
        self.log = Rc::default();
        MemoryFile { number: u64::MAX, sink: Rc::clone(&self.log) }
    }
    fn close_log(&mut self, _: MemoryFile) {
        self.kept -= 1;
    }
    fn spare_ids(&mut self, count: usize) -> Vec<FileId> {
        (0..count).map(|_| self.next_file_id()).collect()
    }
    fn open_note(&mut self, _: &MemoryFile, bytes: &[u8]) -> Option<Vec<u8>> {
        self.kept += usize::from(self.room);
        self.note = self.room.then(|| bytes.to_vec());
        self.note.clone()
    }
    fn patch_note(&mut self, note: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        note[at..at + bytes.len()].copy_from_slice(bytes);
        self.note = Some(note.clone());
    }
    fn close_note(&mut self, note: Vec<u8>) {
        self.kept -= 1;
        self.note.take_if(|open| *open == note);
    }
    fn pin(&mut self, file: &MemoryFile, from: u64, mut take: impl FnMut(MemoryPin)) {
        let block = Self::BLOCK_BYTES as u64;
        let mut start = from - from % block;
        while start < file.position() {
            self.pins.set(self.pins.get() + 1);
            take(MemoryPin { sink: Rc::clone(&file.sink), start, count: Rc::clone(&self.pins) });
            start += block;
        }
    }
    fn is_tight(&self) -> bool {
        self.tight || !self.room
    }
    fn recall(&mut self, file: FileId, from_ms: Option<i64>) -> Option<Box<dyn Recalling>> {
        let (_, bytes) = self.files.values().find(|(open, _)| open.media.folder == file)?;
        Some(super::past_tests::recall(bytes, from_ms, self.recall_fails))
    }
}

impl MemoryStore {
    pub(super) const BLOCK_BYTES: usize = 64;

    pub(super) fn new() -> Self {
        Self {
            next_id: 0,
            files: BTreeMap::new(),
            growing: BTreeMap::new(),
            log: Rc::default(),
            note: None,
            ended: Vec::new(),
            resumptions: Resumptions::default(),
            texts: BTreeMap::new(),
            room: true,
            tight: false,
            disk: Room::Free,
            pins: Rc::default(),
            kept: 0,
            recall_fails: false,
        }
    }

    /// The numbers of the FLV files.
    pub(super) fn flv_files(&self) -> Vec<u64> {
        self.files.iter().filter(|(_, (_, bytes))| bytes.starts_with(b"FLV")).map(|(number, _)| *number).collect()
    }

    /// The recordings that began.
    pub(super) fn begun(&self, is_meant: impl Fn(&RecordingIdentity) -> bool) -> Vec<RecordingIdentity> {
        self.files.values().flat_map(|(open, _)| &open.begin).filter(|identity| is_meant(identity)).cloned().collect()
    }

    /// Why the recordings of `source` ended.
    pub(super) fn ended_of(&self, source: &RecordingSource) -> Vec<EndReason> {
        let ids: Vec<FileId> = self.begun(|identity| identity.source == *source).iter().map(|identity| identity.file_id).collect();
        self.ended.iter().filter(|end| ids.contains(&end.file_id)).map(|end| end.reason).collect()
    }

    /// Frames in all ADTS files.
    pub(super) fn adts_frames(&self) -> usize {
        let files = self.files.values().filter(|(open, _)| open.media.extension == "aac");
        files.map(|(_, bytes)| bytes.len() / (7 + 4)).sum()
    }

    /// Frames in the MP4 files of the recordings that are meant.
    pub(super) fn movie_frames(&self, is_meant: impl Fn(&RecordingIdentity) -> bool) -> usize {
        let files = self.files.values().filter(|(open, _)| open.begin.iter().any(&is_meant));
        files
            .map(|(_, bytes)| {
                let summary = crate::container::mp4::scan(&bytes[..], true).expect("a movie").plan.summary;
                (summary.video.map_or(0, |track| track.frames) + summary.audio.map_or(0, |track| track.frames)) as usize
            })
            .sum()
    }

    pub(super) fn bytes(&self, number: u64) -> Vec<u8> {
        self.files[&number].1.clone()
    }

    /// Frames of each track of the one MP4 file that is meant.
    pub(super) fn movie_tracks(&self, is_meant: impl Fn(&RecordingIdentity) -> bool) -> Vec<u64> {
        let meant = |open: &OpenMedia| open.begin.iter().any(|identity| identity.format == Format::Mp4 && is_meant(identity));
        let (_, bytes) = self.files.values().find(|(open, _)| meant(open)).expect("an MP4 file");
        let summary = crate::container::mp4::scan(&bytes[..], true).expect("a movie").plan.summary;
        summary.tracks().map(|(_, track)| track.frames).collect()
    }

    /// Blocks that are kept in memory.
    pub(super) fn pins(&self) -> usize {
        self.pins.get()
    }

    /// The tags of one FLV file behind its script tag and sequence headers: type, timestamp, body.
    pub(super) fn flv_tags(&self, number: u64) -> Vec<(u8, u32, Vec<u8>)> {
        let bytes = &self.files[&number].1;
        let mut tags = Vec::new();
        let mut at = 13;
        while at + 11 <= bytes.len() {
            let size = usize::from(bytes[at + 1]) << 16 | usize::from(bytes[at + 2]) << 8 | usize::from(bytes[at + 3]);
            let time = u32::from_be_bytes([bytes[at + 7], bytes[at + 4], bytes[at + 5], bytes[at + 6]]);
            tags.push((bytes[at], time, bytes[at + 11..at + 11 + size].to_vec()));
            at += 11 + size + 4;
        }
        tags.retain(|(kind, _, body)| *kind != 18 && body.get(1) != Some(&0));
        tags
    }
}

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0x88];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

pub(super) fn video_header(level: u8) -> Vec<u8> {
    let mut body = vec![0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, level, 0xff, 0xe1, 0, SPS.len() as u8];
    body.extend_from_slice(SPS);
    body.extend_from_slice(&[1, 0, PPS.len() as u8]);
    body.extend_from_slice(PPS);
    body
}

const AUDIO_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];

pub(super) fn video_frame(key: bool, number: u32) -> Vec<u8> {
    let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0, 5, if key { 0x65 } else { 0x41 }];
    body.extend_from_slice(&number.to_be_bytes());
    body
}

pub(super) fn audio_frame(number: u32) -> Vec<u8> {
    let mut body = vec![0xaf, 1];
    body.extend_from_slice(&number.to_be_bytes());
    body
}

pub(super) fn now(millis: u64) -> Now {
    Now { mono: MonoTime::from_millis(millis), wall: WallTime::from_unix_millis(1_767_225_600_000 + millis as i64) }
}

pub(super) fn template(formats: &[Format], interval_s: u64) -> Arc<RecordTemplate> {
    let mut template = RecordTemplate::empty(TemplateId(1001), "test");
    for &format in formats {
        template.param_mut(format).enable = true;
        template.param_mut(format).record_interval_s = interval_s;
    }
    Arc::new(template)
}

pub(super) fn recorder() -> Recorder<MemoryStore> {
    let publication = Publication {
        id: PublicationId(7),
        key: StreamKey::new("localhost", "live", "cam"),
        push_url: "rtmp://localhost/live/cam".to_owned(),
        stream_param: String::new(),
        alias_domain: String::new(),
    };
    let settings =
        RecorderSettings { hls_transport_stream: false, hls_segment_ms: 4_000, trust_encoder_clock: false, moov_reserve: MoovReserve::Insert };
    Recorder::new(publication, settings)
}

pub(super) fn source() -> RecordingSource {
    RecordingSource::Rule(TemplateId(1001))
}

/// Sends frames `range` of a stream with a key frame each second, 25 pictures and as many audio frames a second; video then audio at each step.
pub(super) fn send(recorder: &mut Recorder<MemoryStore>, store: &mut MemoryStore, range: std::ops::Range<u32>) {
    for number in range {
        let time = number * 40;
        let at = now(u64::from(time));
        recorder.video(time, Payload::contiguous(&video_frame(number % 25 == 0, number)), at, store).unwrap();
        recorder.audio(time + 7, Payload::contiguous(&audio_frame(number)), at, store).unwrap();
    }
}

pub(super) fn headers(recorder: &mut Recorder<MemoryStore>, store: &mut MemoryStore) {
    recorder.video(0, Payload::contiguous(&video_header(30)), now(0), store).unwrap();
    recorder.audio(0, Payload::contiguous(AUDIO_HEADER), now(0), store).unwrap();
}

/// The running numbers inside the frames of one kind (9 video, 8 audio).
pub(super) fn numbers(tags: &[(u8, u32, Vec<u8>)], kind: u8) -> Vec<u32> {
    tags.iter().filter(|tag| tag.0 == kind).map(|tag| u32::from_be_bytes(tag.2[tag.2.len() - 4..].try_into().unwrap())).collect()
}

#[test]
fn a_split_loses_and_doubles_nothing_and_each_file_begins_at_zero() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Flv], 2), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..170);
    recorder.finish(EndReason::PublicationEnded, now(7_000), &mut store);
    let files: Vec<_> = (0..store.files.len() as u64).map(|number| store.flv_tags(number)).collect();
    assert_eq!(files.len(), 4, "6.8 s in files of 2 s");
    for kind in [8, 9] {
        let all: Vec<u32> = files.iter().flat_map(|tags| numbers(tags, kind)).collect();
        assert_eq!(all, (0..170).collect::<Vec<u32>>());
    }
    for tags in &files {
        assert_eq!(tags.iter().map(|tag| tag.1).min(), Some(0));
        assert_eq!(tags[0].2[0], 0x17, "a file begins with a key frame");
    }
    assert_eq!(
        store.ended.iter().map(|end| end.reason).collect::<Vec<_>>(),
        [EndReason::Interval, EndReason::Interval, EndReason::Interval, EndReason::PublicationEnded]
    );
    assert_eq!(recorder.totals().files, 4);
}

#[test]
fn a_jump_ends_the_file_also_when_no_frame_is_kept_in_memory() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    store.tight = true;
    recorder.start(source(), &template(&[Format::Flv], 1_800), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..30);
    recorder.video(200_000, Payload::contiguous(&video_frame(true, 30)), now(1_200), &mut store).unwrap();
    recorder.finish(EndReason::PublicationEnded, now(1_300), &mut store);
    assert_eq!(store.ended.iter().map(|end| end.reason).collect::<Vec<_>>(), [EndReason::TimestampJump, EndReason::PublicationEnded]);
    assert_eq!(store.flv_tags(1).iter().map(|tag| tag.1).max(), Some(0), "it begins at zero");
}

#[test]
fn a_message_may_come_between_new_parameters_and_their_first_frame() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Mp4], 60), now(0), &mut store);
    recorder.audio(0, Payload::contiguous(AUDIO_HEADER), now(0), &mut store).unwrap();
    for number in 0..100_u32 {
        recorder.audio(number * 23, Payload::contiguous(&audio_frame(number)), now(u64::from(number) * 23), &mut store).unwrap();
    }
    // 48 kHz in place of 44.1 kHz: the next file's. The words are the open one's, of whose frames none is left in memory.
    recorder.audio(2_300, Payload::contiguous(&[0xaf, 0, 0x11, 0x90]), now(2_300), &mut store).unwrap();
    let words = [&[2, 0, 10][..], b"onTextData", &[3, 0, 4], b"text", &[2, 0, 5], b"words", &[0, 0, 9]].concat();
    recorder.data(2_300, Payload::contiguous(&words), now(2_300), &mut store);
    recorder.audio(2_300, Payload::contiguous(&audio_frame(100)), now(2_300), &mut store).unwrap();
    recorder.finish(EndReason::PublicationEnded, now(7_000), &mut store);
    assert_eq!(store.ended.iter().map(|end| end.reason).collect::<Vec<_>>(), [EndReason::ParametersChanged, EndReason::PublicationEnded]);
}

#[test]
fn a_task_that_joins_begins_with_the_gop_in_memory() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..70);
    let task = RecordingSource::Task(TaskId("t1".into()));
    recorder.start(task.clone(), &template(&[Format::Flv], 1800), now(2_800), &mut store);
    send(&mut recorder, &mut store, 70..100);
    recorder.stop(&task, EndReason::TaskEnded, now(4_000), &mut store);
    let tags = store.flv_tags(0);
    assert_eq!(numbers(&tags, 9), (50..100).collect::<Vec<u32>>());
    assert_eq!(numbers(&tags, 8), (50..100).collect::<Vec<u32>>());
    assert_eq!(tags[0].1, 0);
    assert_eq!(store.ended[0].reason, EndReason::TaskEnded);
}

#[test]
fn new_parameters_end_the_file_and_the_same_again_change_nothing() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Mp4, Format::Hls], 1800), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..50);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 50..75);
    recorder.video(3_000, Payload::contiguous(&video_header(31)), now(3_000), &mut store).unwrap();
    send(&mut recorder, &mut store, 75..100);
    recorder.finish(EndReason::PublicationEnded, now(4_000), &mut store);
    assert_eq!(store.files.len(), 2);
    let (first, second) = (&store.files[&0].0, &store.files[&1].0);
    assert_eq!(first.begin.len(), 2, "an MP4 and an HLS recording begin");
    assert_eq!(second.begin.len(), 1, "the HLS recording goes on");
    let hls = first.link.unwrap().folder;
    assert_eq!(second.link, Some(MediaPath { folder: hls, part: 2, extension: "m4s" }));
    assert_eq!(second.small_files[0].name, "init-2.m4s");
    assert!(store.texts[&hls.get()].contains("#EXT-X-DISCONTINUITY"));
    let reasons: Vec<_> = store.ended.iter().map(|end| (end.reason, end.file_id == hls)).collect();
    assert_eq!(reasons, [(EndReason::ParametersChanged, false), (EndReason::PublicationEnded, false), (EndReason::PublicationEnded, true)]);
}

#[test]
fn a_jump_of_the_timestamps_begins_one_new_file() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Flv], 1800), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..50);
    send(&mut recorder, &mut store, 5_000..5_050);
    recorder.finish(EndReason::PublicationEnded, now(4_000), &mut store);
    assert_eq!(store.files.len(), 2);
    assert_eq!(numbers(&store.flv_tags(0), 8).len(), 50);
    assert_eq!(numbers(&store.flv_tags(1), 8).len(), 50);
    assert_eq!(store.ended[0].reason, EndReason::TimestampJump);
}

#[test]
fn frames_before_the_first_key_frame_are_counted() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Flv], 1800), now(0), &mut store);
    recorder.video(0, Payload::contiguous(&video_frame(true, 0)), now(0), &mut store).unwrap();
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 20..50);
    recorder.finish(EndReason::PublicationEnded, now(4_000), &mut store);
    assert_eq!(numbers(&store.flv_tags(0), 9), (25..50).collect::<Vec<u32>>());
    assert_eq!(numbers(&store.flv_tags(0), 8), (20..50).collect::<Vec<u32>>(), "audio can be decoded from its first frame");
    let dropped = recorder.totals().dropped;
    assert_eq!((dropped[DropReason::BeforeSequenceHeader as usize], dropped[DropReason::BeforeKeyFrame as usize]), (1, 5));
}

#[test]
fn a_codec_that_is_not_recorded_is_named_once() {
    let (mut store, mut recorder) = (MemoryStore::new(), recorder());
    // Speex, then G.711.
    for (number, (head, named)) in [(0xb2, vec!["Speex"]), (0xb2, vec![]), (0x72, vec!["G.711 A-law"]), (0xb2, vec![])].into_iter().enumerate() {
        recorder.audio(number as u32 * 20, Payload::contiguous(&[head, 0, 0]), now(number as u64 * 20), &mut store).unwrap();
        assert_eq!(recorder.take_unsupported(), named, "{number}");
    }
}

#[test]
fn a_busy_store_costs_nothing_until_it_has_been_busy_for_too_long() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Flv], 1800), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..50);
    store.room = false;
    send(&mut recorder, &mut store, 50..100);
    recorder.tick(now(4_010), &mut store);
    store.room = true;
    recorder.tick(now(4_050), &mut store);
    send(&mut recorder, &mut store, 100..125);
    store.room = false;
    send(&mut recorder, &mut store, 125..150);
    recorder.tick(now(30_000), &mut store);
    store.room = true;
    send(&mut recorder, &mut store, 900..925);
    recorder.finish(EndReason::PublicationEnded, now(37_000), &mut store);
    assert_eq!(numbers(&store.flv_tags(0), 9), (0..125).collect::<Vec<u32>>());
    assert_eq!(recorder.totals().dropped[DropReason::StorageBusy as usize], 50);
    assert_eq!(store.ended[0].reason, EndReason::StorageFailed);
    assert_eq!(numbers(&store.flv_tags(1), 9), (900..925).collect::<Vec<u32>>(), "recording resumes by itself");
}

#[test]
fn audio_formats_take_the_audio_alone() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Aac, Format::Mp3], 1800), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..50);
    recorder.finish(EndReason::PublicationEnded, now(2_000), &mut store);
    assert_eq!(store.files.len(), 1, "no MP3 file of an AAC track");
    let bytes = &store.files[&0].1;
    assert_eq!(bytes.len(), 50 * (7 + 4), "an ADTS header and the frame, fifty times");
}

#[test]
fn audio_only_leaves_the_pictures_out_of_any_container() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    let mut wanted = RecordTemplate::clone(&template(&[Format::Flv, Format::Mp4], 1800));
    wanted.audio_only = true;
    recorder.start(source(), &Arc::new(wanted), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..50);
    recorder.finish(EndReason::PublicationEnded, now(2_000), &mut store);
    assert_eq!(store.files.len(), 2);
    let flv = store.files.iter().find(|(_, (_, bytes))| bytes.starts_with(b"FLV")).map(|(index, _)| *index).expect("an FLV file");
    let tags = store.flv_tags(flv);
    assert_eq!(numbers(&tags, 8), (0..50).collect::<Vec<u32>>());
    assert!(numbers(&tags, 9).is_empty());
}

#[test]
fn a_publication_goes_on_with_the_playlist_of_the_one_before() {
    let mut store = MemoryStore::new();
    let mut wanted = RecordTemplate::clone(&template(&[Format::Mp4, Format::Hls], 1800));
    wanted.flow_continue_duration_s = 60;
    let wanted = Arc::new(wanted);
    let mut changes = Vec::new();
    for publication in 0..3_u64 {
        let mut recorder = recorder();
        recorder.publication.id = PublicationId(7 + publication);
        recorder.start(source(), &wanted, now(0), &mut store);
        headers(&mut recorder, &mut store);
        send(&mut recorder, &mut store, 0..50);
        if publication == 2 {
            recorder.stop(&source(), EndReason::TaskEnded, now(2_000), &mut store);
        }
        recorder.finish(EndReason::PublicationEnded, now(2_000), &mut store);
        let of_hls = recorder.take_changes().into_iter().filter(|change| change.format == Format::Hls);
        changes.extend(of_hls.map(|change| (change.session.0, change.state)));
    }
    let hls = store.files[&0].0.link.unwrap().folder;
    let links: Vec<_> = store.files.values().map(|(open, _)| open.link).collect();
    assert_eq!(links, [1, 2, 3].map(|part| Some(MediaPath { folder: hls, part, extension: "m4s" })));
    let begun: Vec<_> =
        store.files.values().map(|(open, _)| open.begin.iter().map(|one| (one.format, one.resume.is_some())).collect::<Vec<_>>()).collect();
    assert_eq!(begun, [vec![(Format::Mp4, false), (Format::Hls, true)], vec![(Format::Mp4, false)], vec![(Format::Mp4, false)]]);
    let states =
        [RecordState::StartSucceeded, RecordState::Paused, RecordState::Resumed, RecordState::Paused, RecordState::Resumed, RecordState::Ended];
    assert_eq!(changes, states.map(|state| (700, state)));
    let text = &store.texts[&hls.get()];
    assert_eq!(text.matches("#EXTM3U").count(), 1);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-").count(), 2);
    let ends: Vec<_> = store.ended.iter().map(|end| (end.reason, end.file_id == hls)).collect();
    let (over, stopped) = (EndReason::PublicationEnded, EndReason::TaskEnded);
    assert_eq!(ends, [(over, false), (over, false), (stopped, false), (stopped, true)]);
    assert!(store.resumptions.is_quiet());
}

#[test]
fn a_publication_that_ends_gives_all_memory_back() {
    for formats in [&[][..], &[Format::Flv], &[Format::Mp4, Format::Hls]] {
        for frames in [0, 1, 3, 60] {
            let (mut recorder, mut store) = (recorder(), MemoryStore::new());
            if !formats.is_empty() {
                recorder.start(source(), &template(formats, 2), now(0), &mut store);
            }
            headers(&mut recorder, &mut store);
            send(&mut recorder, &mut store, 0..frames);
            recorder.finish(EndReason::PublicationEnded, now(4_000), &mut store);
            assert!(recorder.is_finished());
            assert_eq!((store.kept, store.pins()), (0, 0), "{formats:?}, {frames} frames");
        }
    }
}

#[test]
fn a_full_disk_ends_files_and_recording_resumes_by_itself() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Flv, Format::Mp4, Format::Hls], 1800), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..60);
    store.disk = Room::Full;
    recorder.tick(now(2_400), &mut store);
    let ended: Vec<_> = store.ended.iter().map(|end| end.reason).collect();
    assert_eq!(ended, [EndReason::StorageFull; 3], "the HLS recording, too");
    send(&mut recorder, &mut store, 60..90);
    recorder.tick(now(3_600), &mut store);
    assert_eq!((recorder.totals().files, recorder.is_blocked()), (2, false));
    store.disk = Room::Free;
    send(&mut recorder, &mut store, 90..150);
    recorder.finish(EndReason::PublicationEnded, now(6_000), &mut store);
    let flv: Vec<_> = store.files.iter().filter(|(_, (_, bytes))| bytes.starts_with(b"FLV")).map(|(number, _)| *number).collect();
    assert_eq!(numbers(&store.flv_tags(flv[0]), 9), (0..60).collect::<Vec<u32>>());
    assert_eq!(numbers(&store.flv_tags(flv[1]), 9), (100..150).collect::<Vec<u32>>(), "from the next key frame on");
    // Two outputs, 40 pictures and as many sounds each, but that before the key frame's sound.
    assert_eq!(recorder.totals().dropped[DropReason::StorageFull as usize], 2 * 80);
}

/// Every frame of a publication is in a file's receipt or among its losses, whatever happens meanwhile.
#[test]
fn the_receipts_of_a_publication_add_up_to_what_came() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Flv], 2), now(0), &mut store);
    headers(&mut recorder, &mut store);
    send(&mut recorder, &mut store, 0..70);
    store.disk = Room::Full;
    recorder.tick(now(2_800), &mut store);
    send(&mut recorder, &mut store, 70..80);
    store.disk = Room::Free;
    send(&mut recorder, &mut store, 80..130);
    store.room = false;
    send(&mut recorder, &mut store, 130..140);
    recorder.tick(now(5_600), &mut store);
    recorder.tick(now(30_000), &mut store);
    store.room = true;
    send(&mut recorder, &mut store, 775..890);
    recorder.finish(EndReason::PublicationEnded, now(36_000), &mut store);
    let totals = recorder.totals();
    let receipts = || store.ended.iter().map(|end| &end.receipt);
    let held: u64 = receipts().map(|receipt| receipt.frames()).sum();
    let lost: u64 = receipts().flat_map(|receipt| &receipt.lost).map(|loss| loss.frames).sum();
    assert_eq!(held + lost, totals.video_frames + totals.audio_frames);
    assert_eq!(lost, totals.dropped.iter().sum::<u64>());
    let bytes: u64 = receipts().flat_map(|receipt| [&receipt.video, &receipt.audio]).flatten().map(|track| track.bytes).sum();
    assert!(bytes < totals.media_bytes);
    let reasons: Vec<&str> = receipts().flat_map(|receipt| &receipt.lost).map(|loss| loss.reason.as_str()).collect();
    assert!(reasons.contains(&"disk_full") && reasons.contains(&"storage_busy"), "{reasons:?}");
    for (end, file) in store.ended.iter().zip(0..) {
        let tags = store.flv_tags(file);
        let (video, audio) = (end.receipt.video.as_ref().unwrap(), end.receipt.audio.as_ref().unwrap());
        assert_eq!((video.frames, audio.frames), (numbers(&tags, 9).len() as u64, numbers(&tags, 8).len() as u64));
        assert_eq!(video.first_dts_ms, i64::from(numbers(&tags, 9)[0]) * 40);
        assert_eq!(video.last_dts_ms, i64::from(*numbers(&tags, 9).last().unwrap()) * 40);
    }
}

/// The tag body of a further track: number 1 of its kind.
pub(super) fn further(kind: u8, packet_type: u8, key: bool, media: &[u8]) -> Vec<u8> {
    let head: &[u8] = match kind {
        9 => &[0x80 | if key { 0x10 } else { 0x20 } | 6, packet_type, b'a', b'v', b'c', b'1', 1],
        _ => &[0x95, packet_type, b'm', b'p', b'4', b'a', 1],
    };
    [head, media].concat()
}

/// Everything that is in FLV files besides their heads, in order: type and the four bytes at the end that tell which.
pub(super) fn everything(files: impl IntoIterator<Item = Vec<u8>>) -> Vec<(u8, u32)> {
    let mut all = Vec::new();
    for bytes in files {
        let mut at = 13;
        while at + 11 <= bytes.len() {
            let size = usize::from(bytes[at + 1]) << 16 | usize::from(bytes[at + 2]) << 8 | usize::from(bytes[at + 3]);
            let (kind, body) = (bytes[at], &bytes[at + 11..at + 11 + size]);
            let is_further = kind != 18 && body.get(2..6).is_some_and(|fourcc| fourcc == b"avc1" || fourcc == b"mp4a");
            let is_header = if is_further { body[1] == 0 } else { kind != 18 && body[1] == 0 };
            let is_metadata = kind == 18 && body.windows(10).any(|name| name == b"onMetaData");
            if !is_header && !is_metadata {
                let number = u32::from_be_bytes(body[size - 4..].try_into().unwrap());
                all.push((kind + if is_further { 100 } else { 0 }, number));
            }
            at += 11 + size + 4;
        }
    }
    all
}

/// Of several tracks one is a little behind when a file begins: it is as far behind the others in the file.
#[test]
fn further_tracks_keep_their_distance_at_the_begin_of_a_file() {
    for (comes_last, expected) in [(false, [15, 0, 22, 55, 40, 62]), (true, [15, 22, 0, 55, 62, 40])] {
        let (mut recorder, mut store) = (recorder(), MemoryStore::new());
        recorder.start(source(), &template(&[Format::Flv], 2), now(0), &mut store);
        headers(&mut recorder, &mut store);
        recorder.audio(0, Payload::contiguous(&further(8, 0, true, &AUDIO_HEADER[2..])), now(0), &mut store).unwrap();
        for number in 0..170 {
            let (time, at) = (1_000 + number * 40, now(u64::from(number) * 40));
            recorder.video(time, Payload::contiguous(&video_frame(number % 25 == 0, number)), at, &mut store).unwrap();
            let mut sounds = [(time - 15, further(8, 1, true, &number.to_be_bytes())), (time + 7, audio_frame(number))];
            if comes_last {
                sounds.reverse();
            }
            for (time, body) in &sounds {
                recorder.audio(*time, Payload::contiguous(body), at, &mut store).unwrap();
            }
        }
        recorder.finish(EndReason::PublicationEnded, now(7_000), &mut store);
        assert_eq!(store.files.len(), 4, "6.8 s in files of 2 s");
        for file in 0..4 {
            let times: Vec<u32> = store.flv_tags(file).iter().map(|tag| tag.1).collect();
            assert_eq!(times[..6], expected, "file {file}");
        }
    }
}

/// A kill after any message, whatever waits then: every frame of every track and every data message is in the files or comes into them by replay, once.
#[test]
fn a_kill_at_any_moment_loses_and_doubles_nothing_of_any_track() {
    let mut waited = 0;
    // With a file of both formats the first kills come before any file has begun, those at 2 s while one ends and another begins.
    for kill_after in (1..60).chain(240..290) {
        let (mut recorder, mut store) = (recorder(), MemoryStore::new());
        recorder.start(source(), &template(&[Format::Flv, Format::Mp4], 2), now(0), &mut store);
        let mut sent: Vec<(u8, u32)> = Vec::new();
        // A data message comes first of all, before anybody knows what is to come.
        recorder.data(0, Payload::contiguous(b"\x02\0\x06onTextdata"), now(0), &mut store);
        headers(&mut recorder, &mut store);
        recorder.video(0, Payload::contiguous(&further(9, 0, true, &video_header(30)[5..])), now(0), &mut store).unwrap();
        recorder.audio(0, Payload::contiguous(&further(8, 0, true, &AUDIO_HEADER[2..])), now(0), &mut store).unwrap();
        sent.push((18, u32::from_be_bytes(*b"data")));
        'all: for number in 0..60_u32 {
            let (time, at) = (number * 40, now(u64::from(number * 40)));
            // No zero at the end: that may be what a disk has never taken.
            let mark = 0x0101_0101 + number;
            let text = [b"\x02\0\x06onText\x02\0\x08", &b"text"[..], &mark.to_be_bytes()].concat();
            let picture = [&[0, 0, 0, 0, 0, 0, 5, if number % 5 == 0 { 0x65 } else { 0x41 }][..], &mark.to_be_bytes()].concat();
            for what in 0..5 {
                if sent.len() > kill_after {
                    break 'all;
                }
                let kind = match what {
                    0 => {
                        recorder.video(time, Payload::contiguous(&video_frame(number % 25 == 0, mark)), at, &mut store).unwrap();
                        9
                    }
                    1 => {
                        recorder.video(time, Payload::contiguous(&further(9, 1, number % 5 == 0, &picture)), at, &mut store).unwrap();
                        109
                    }
                    2 => {
                        recorder.data(time, Payload::contiguous(&text), at, &mut store);
                        18
                    }
                    3 => {
                        recorder.audio(time + 7, Payload::contiguous(&further(8, 1, true, &mark.to_be_bytes())), at, &mut store).unwrap();
                        108
                    }
                    _ => {
                        recorder.audio(time + 7, Payload::contiguous(&audio_frame(mark)), at, &mut store).unwrap();
                        8
                    }
                };
                sent.push((kind, mark));
            }
        }
        // Killed. What is there: files as far as they were written, the log and its note.
        let images: BTreeMap<u64, Vec<u8>> = store.growing.iter().map(|(number, (sink, _))| (*number, sink.borrow().bytes.clone())).collect();
        let taken = store.growing.iter().map(|(number, (_, taken))| (store.files[number].0.writer, *taken)).collect();
        let stores = match &store.note {
            Some(note) => {
                waited += 1;
                let log = store.log.borrow().bytes.clone();
                journal::replay(note, &[(0, log)], (&taken, &Default::default()), |_, _| MemoryStore::new()).expect("a note that can be read").1
            }
            None => Vec::new(),
        };
        let replayed: Vec<Vec<u8>> = stores.iter().flat_map(|store| store.files.values().map(|(_, bytes)| bytes.clone())).collect();
        let files: Vec<Vec<u8>> = images.into_values().chain(replayed).collect();
        let (flv, mp4): (Vec<_>, Vec<_>) = files.into_iter().partition(|bytes| bytes.starts_with(b"FLV"));
        assert_eq!(everything(flv), sent, "FLV after {kill_after}");
        let mut counted = BTreeMap::<u8, u64>::new();
        for bytes in mp4 {
            let Ok(found) = crate::container::mp4::scan(&bytes[..], true) else { continue };
            let summary = found.plan.summary;
            let of = |track: Option<&crate::container::TrackSummary>| track.map_or(0, |track| track.frames);
            let kinds = [(9, of(summary.video.as_ref())), (8, of(summary.audio.as_ref())), (18, summary.data_messages)];
            let others = [(109, of(summary.further_video.first())), (108, of(summary.further_audio.first()))];
            kinds.into_iter().chain(others).for_each(|(kind, count)| *counted.entry(kind).or_default() += count);
        }
        for kind in [8, 9, 18, 108, 109] {
            // What is no name with values has no place there; of messages alone no file is made.
            let nameless = u64::from(kind == 18);
            let expected = sent.iter().filter(|item| item.0 == kind).count() as u64 - nameless;
            let has_frames = sent.iter().any(|item| item.0 == 9 || item.0 == 8);
            assert_eq!(counted.get(&kind).copied().unwrap_or(0), if has_frames { expected } else { 0 }, "{kind} in MP4 after {kill_after}");
        }
    }
    assert!(waited >= 5, "{waited} kills came while something waited");
}

/// What stands between the frames waits within bounds, for frames that may never come, and is counted when it cannot.
#[test]
fn messages_without_frames_wait_within_bounds() {
    let (mut recorder, mut store) = (recorder(), MemoryStore::new());
    recorder.start(source(), &template(&[Format::Flv], 2), now(0), &mut store);
    headers(&mut recorder, &mut store);
    for number in 0..9_000 {
        recorder.data(number, Payload::contiguous(b"\x02\0\x06onText"), now(0), &mut store);
    }
    let dropped = recorder.totals().dropped[DropReason::StorageBusy as usize];
    assert!((500..1_000).contains(&dropped), "{dropped} of 9,000");
    send(&mut recorder, &mut store, 0..50);
    recorder.finish(EndReason::PublicationEnded, now(4_000), &mut store);
    let receipt = &store.ended[0].receipt;
    assert_eq!(receipt.data_messages + dropped, 9_000);
    assert_eq!((store.kept, store.pins()), (0, 0));
}
