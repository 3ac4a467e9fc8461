//! Frames to fragments: appends media, keeps the `moof` in front of it true.

use super::event;
use super::fragment::{
    FLAGS_SYNC, FREE_HEAD_BYTES, MDAT_HEAD_BYTES, MOOF_HEAD_BYTES, PRFT_BYTES, PRFT_HEADER, ROOM_BYTES_FIRST, ROOM_BYTES_MAX, ROOM_BYTES_MIN,
    TFHD_FLAGS, TRAF_HEAD_BYTES, TRUN_AUDIO, TRUN_HEAD_BYTES, TRUN_KEY_HEAD_BYTES, TRUN_VIDEO, TRUN_VIDEO_KEY, default_flags, entry_bytes,
    further_track_id, track_id,
};
use super::{FRAGMENT_MEDIA_BYTES_MAX, FRAGMENT_MS, Fragment, MEDIA_TIME_BIAS_MS, SAMPLE_MS_MAX};
use crate::container::Sink;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::media::note::Note;
use crate::media::{AudioTrack, Frame, FurtherDescription, TrackKind, Tracks};
use crate::units::WallTime;

/// Duration of a video frame before a second one tells: 25 frames a second.
const VIDEO_FRAME_MS: u32 = 40;
/// Media times stay below this, so that no difference or sum of two overflows.
const MEDIA_TIME_MS_MAX: i64 = 1 << 61;

/// Writes one file's fragments. Constant memory, no allocation after `new`.
#[derive(Debug)]
pub struct Mp4Writer {
    zero_ms: i64,
    sequence_number: u32,
    video: Option<Track>,
    audio: Option<Track>,
    /// In the order of [`Tracks::further`].
    further: Vec<Track>,
    /// Bytes that the `traf`s of the running fragment or of the next take, at most.
    rooms_bytes_max: usize,
    running: Option<Running>,
    /// The running fragment ends with the next frame.
    to_close: bool,
    /// The boxes of the data message that is being written.
    boxes: Vec<u8>,
    event_count: u32,
    /// Bytes of messages since the last fragment began.
    event_bytes: u32,
    /// Room for messages in front of the running fragment or, between two, of the last.
    event_room_bytes: u32,
    /// Where the messages begin that stand behind the last fragment, in front of the next.
    front_at: Option<u64>,
    /// The time of day at `zero_ms`, and the flags of `prft` that say what clock that is.
    clock: Option<(WallTime, u32)>,
}

/// `prft` flags (8.16.5.3): a clock that is consistent, but not known to be the encoder's; the time of capture.
const CLOCK_CONSISTENT: u32 = 8;
const CLOCK_CAPTURE: u32 = 24;
/// From the begin of 1900, which NTP counts from, to that of 1970.
const UNIX_EPOCH_IN_NTP_SECONDS: i64 = 2_208_988_800;

/// One of the tracks of a writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    First(TrackKind),
    Further(usize),
}

/// A message that is too large for a box: see [`event::EVENT_BYTES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageTooLarge;

/// The fragment being written.
#[derive(Debug)]
struct Running {
    /// Where the messages in front of it begin, or the room for them.
    begin_at: u64,
    /// The room for messages that is left.
    event_at: u64,
    event_left: u32,
    moof_at: u64,
    mdat_at: u64,
    media_bytes: u64,
    /// The track of the last sample: if the next is of the same, it continues the run.
    last: Slot,
}

#[derive(Debug)]
struct Track {
    id: u32,
    kind: TrackKind,
    /// Bytes of its `traf` in the running fragment or, between two, in the next.
    room_bytes: u32,
    /// File offset of that `traf`.
    room_at: u64,
    /// Duration of a sample that no later one measures: the last difference, at first the nominal one.
    last_delta_ms: u32,
    /// Media time of the last sample in this file.
    last_dts_ms: Option<u64>,
    /// Its samples in the running fragment.
    samples: Option<Samples>,
}

/// What a track has in the running fragment. Offsets are file offsets.
#[derive(Debug)]
struct Samples {
    first_dts_ms: u64,
    /// The first sample is a video key frame.
    key: bool,
    /// Bytes of the `traf` in use, without the `free` box behind.
    used_bytes: u32,
    run_at: u64,
    run_head_bytes: u32,
    run_flags: u32,
    run_samples: u32,
    /// The last entry and what it says, because its duration is written again with the next one.
    entry_at: u64,
    entry_size: u32,
    entry_cts_ms: i32,
}

impl Mp4Writer {
    /// `zero_ms` is the decoding time that all files of the publication count from. Frames of tracks that `tracks` does not name are ignored.
    pub fn new(tracks: &Tracks, zero_ms: i64) -> Self {
        let video = |id| Track::new(id, TrackKind::Video, VIDEO_FRAME_MS);
        let audio = |id, audio: &AudioTrack| {
            Track::new(id, TrackKind::Audio, (audio.samples_per_frame.saturating_mul(1_000) / audio.sample_rate_hz.max(1)).clamp(1, 1_000))
        };
        let further = tracks.further.iter().enumerate().map(|(index, track)| match &track.description {
            FurtherDescription::Video(_) => video(further_track_id(index)),
            FurtherDescription::Audio(track) => audio(further_track_id(index), track),
        });
        let mut writer = Self {
            zero_ms,
            sequence_number: 0,
            video: tracks.video.is_some().then(|| video(track_id(TrackKind::Video))),
            audio: tracks.audio.as_ref().map(|track| audio(track_id(TrackKind::Audio), track)),
            further: further.collect(),
            rooms_bytes_max: 0,
            running: None,
            to_close: false,
            boxes: Vec::new(),
            event_count: 0,
            event_bytes: 0,
            event_room_bytes: 0,
            front_at: None,
            clock: None,
        };
        writer.measure_rooms();
        writer
    }

    /// Fragments tell the time of day; `zero` is that of the time they count from. `capture`: by the encoder's clock.
    pub fn with_clock(self, zero: Option<WallTime>, capture: bool) -> Self {
        Self { clock: zero.map(|zero| (zero, if capture { CLOCK_CAPTURE } else { CLOCK_CONSISTENT })), ..self }
    }

    fn tracks(&self) -> impl Iterator<Item = &Track> {
        [&self.video, &self.audio].into_iter().flatten().chain(&self.further)
    }

    fn tracks_mut(&mut self) -> impl Iterator<Item = &mut Track> {
        [&mut self.video, &mut self.audio].into_iter().flatten().chain(&mut self.further)
    }

    /// Upper bound of the bytes that the next push of a frame with `media_bytes` appends.
    pub fn push_bytes_max(&self, media_bytes: usize) -> usize {
        self.next_event_room_bytes() as usize + PRFT_BYTES + MOOF_HEAD_BYTES + self.rooms_bytes_max + MDAT_HEAD_BYTES + media_bytes
    }

    /// The rooms of the next fragment are known.
    fn measure_rooms(&mut self) {
        self.rooms_bytes_max = self.tracks().map(|track| track.room_bytes.max(track.room_bytes_after(track.room_bytes)) as usize).sum();
    }

    /// The most bytes that [`Mp4Writer::push_message`] appends for `message`.
    pub fn push_message_bytes_max(&self, message: &Note) -> usize {
        event::boxes_bytes(message)
    }

    /// Writes a data message, at a time in the terms of [`Frame::dts_ms`], in front of the running fragment; if there is no room, that is closed and returned, and
    /// the message stands in front of the next.
    ///
    /// # Errors
    /// [`MessageTooLarge`]: nothing is written.
    pub fn push_message(&mut self, time_ms: i64, message: &Note, sink: &mut impl Sink) -> Result<Option<Fragment>, MessageTooLarge> {
        let time_ms = self.time_in_file(time_ms).clamp(0, MEDIA_TIME_MS_MAX) as u64;
        self.boxes.clear();
        if !event::push_message(&mut self.boxes, self.event_count, time_ms, &message.name, &message.json) {
            return Err(MessageTooLarge);
        }
        self.event_count += 1;
        if let Some(section) = &message.splice {
            event::push_splice(&mut self.boxes, self.event_count, time_ms, section);
            self.event_count += 1;
        }
        let bytes = self.boxes.len() as u32;
        self.event_bytes = self.event_bytes.saturating_add(bytes);
        if let Some(running) = self.running.as_mut().filter(|running| bytes + FREE_HEAD_BYTES as u32 <= running.event_left) {
            let at = running.event_at;
            running.event_at += u64::from(bytes);
            running.event_left -= bytes;
            let mut rest = Patch::default();
            rest.header(running.event_left, b"free");
            sink.patch(running.event_at, rest.bytes());
            let (header, body) = self.boxes.split_at(FREE_HEAD_BYTES);
            sink.patch(at + FREE_HEAD_BYTES as u64, body);
            // Last of all: until here a reader of the file takes all of it for room.
            sink.patch(at, header);
            return Ok(None);
        }
        if self.running.is_some() {
            // The next fragment shall not be cut short, too.
            self.event_bytes = self.event_bytes.saturating_mul(2);
        }
        let closed = self.close(sink, None);
        self.front_at.get_or_insert(sink.position());
        sink.append(&self.boxes);
        sink.seal(sink.position());
        Ok(closed)
    }

    /// The messages behind the last fragment: where they begin, and where they end, which is the end of the file. They belong to that fragment if no other
    /// follows.
    pub fn messages_behind(&self, sink: &impl Sink) -> Option<(u64, u64)> {
        self.front_at.map(|from| (from, sink.position()))
    }

    /// Room for messages in front of the next fragment: a quarter more than came since the last one began, but shrinking slowly.
    fn next_event_room_bytes(&self) -> u32 {
        if self.event_bytes | self.event_room_bytes == 0 {
            return 0;
        }
        let used = self.event_bytes.min(event::ROOM_BYTES_MAX);
        let room =
            if used == 0 { 0 } else { used + used / 4 + FREE_HEAD_BYTES as u32 }.max(self.event_room_bytes - self.event_room_bytes.div_ceil(8));
        if room < event::ROOM_BYTES_MIN { 0 } else { room.next_multiple_of(4).min(event::ROOM_BYTES_MAX) }
    }

    fn time_in_file(&self, dts_ms: i64) -> i64 {
        dts_ms.saturating_sub(self.zero_ms).saturating_add(MEDIA_TIME_BIAS_MS as i64)
    }

    /// Writes one sample; if it must begin a new fragment the running one is closed first and returned. An empty frame is ignored, as is one
    /// longer than a message can be.
    ///
    /// Decoding times that go back within a track become that of the frame before; for video the composition offset makes up for it.
    pub fn push(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Option<Fragment> {
        self.push_to(Slot::First(frame.track), frame, sink)
    }

    /// The same for a frame of `Tracks::further[index]`.
    pub fn push_further(&mut self, index: usize, frame: &Frame<'_>, sink: &mut impl Sink) -> Option<Fragment> {
        self.push_to(Slot::Further(index), frame, sink)
    }

    fn push_to(&mut self, slot: Slot, frame: &Frame<'_>, sink: &mut impl Sink) -> Option<Fragment> {
        let media_bytes = u32::try_from(frame.media.len()).ok().filter(|bytes| (1..=MESSAGE_BYTES_MAX).contains(bytes))?;
        let track = self.track(slot)?;
        let last_dts_ms = track.last_dts_ms.unwrap_or(0);
        let (dts_ms, cts_ms) = self.media_time(frame, last_dts_ms);
        let track_id = track.id;
        let closed = if self.must_close(slot, frame, media_bytes, dts_ms) { self.close(sink, Some((track_id, dts_ms))) } else { None };

        if self.running.is_none() {
            self.open(slot, track_id, dts_ms, sink);
        }
        let Self { video, audio, further, running: Some(running), .. } = self else { unreachable!("opened above") };
        let track = match slot {
            Slot::First(TrackKind::Video) => video.as_mut(),
            Slot::First(TrackKind::Audio) => audio.as_mut(),
            Slot::Further(index) => further.get_mut(index),
        };
        let track = track.expect("looked up above");
        let data_offset = (sink.position() - running.moof_at) as u32;
        for slice in frame.media.slices() {
            sink.append(slice);
        }
        let sample = Sample { bytes: media_bytes, dts_ms, cts_ms, key: frame.key && frame.track == TrackKind::Video, data_offset };
        track.add(&sample, running.last == slot, sink);
        running.last = slot;
        running.media_bytes += u64::from(media_bytes);
        // Last of all: until here a reader of the file takes the new bytes for no part of it.
        sink.patch(running.mdat_at, &(MDAT_HEAD_BYTES as u32 + running.media_bytes as u32).to_be_bytes());
        closed
    }

    /// The next frame begins a new fragment, so that this one can go to the disk.
    pub fn close_soon(&mut self) {
        self.to_close = self.running.is_some();
    }

    /// [`Mp4Writer::close_soon`] was called and no frame has come since.
    pub fn is_to_close(&self) -> bool {
        self.to_close
    }

    /// Closes the running fragment and seals everything written so far: the end of the file, or the caller wants the bytes now.
    pub fn close_fragment(&mut self, sink: &mut impl Sink) -> Option<Fragment> {
        self.close(sink, None)
    }

    fn track(&self, slot: Slot) -> Option<&Track> {
        match slot {
            Slot::First(TrackKind::Video) => self.video.as_ref(),
            Slot::First(TrackKind::Audio) => self.audio.as_ref(),
            Slot::Further(index) => self.further.get(index),
        }
    }

    /// Decoding time in the media time of the file, not before `last_dts_ms`, and the composition offset that keeps the presentation time.
    fn media_time(&self, frame: &Frame<'_>, last_dts_ms: u64) -> (u64, i32) {
        let wanted_ms = self.time_in_file(frame.dts_ms);
        let dts_ms = wanted_ms.clamp(last_dts_ms as i64, MEDIA_TIME_MS_MAX);
        let moved_ms = wanted_ms.saturating_sub(dts_ms);
        let cts_ms = i64::from(frame.cts_ms).saturating_add(moved_ms).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        (dts_ms as u64, cts_ms as i32)
    }

    fn must_close(&self, slot: Slot, frame: &Frame<'_>, media_bytes: u32, dts_ms: u64) -> bool {
        let (Some(running), Some(track)) = (&self.running, self.track(slot)) else { return false };
        if self.to_close || running.media_bytes + u64::from(media_bytes) > FRAGMENT_MEDIA_BYTES_MAX {
            return true;
        }
        // A track without samples here always has room for one, and a key frame may follow audio: it is still the first video sample.
        let Some(samples) = &track.samples else { return false };
        (frame.key && slot == Slot::First(TrackKind::Video))
            || dts_ms - samples.first_dts_ms >= FRAGMENT_MS
            || samples.used_bytes as usize + TRUN_KEY_HEAD_BYTES + entry_bytes(track.kind) + FREE_HEAD_BYTES > track.room_bytes as usize
    }

    fn open(&mut self, first: Slot, track_id: u32, dts_ms: u64, sink: &mut impl Sink) {
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let event_at = sink.position();
        let begin_at = self.front_at.take().unwrap_or(event_at);
        self.event_room_bytes = self.next_event_room_bytes();
        self.event_bytes = 0;
        if self.event_room_bytes > 0 {
            append_room(sink, self.event_room_bytes);
        }
        if let Some((zero, flags)) = self.clock {
            sink.append(producer_time(zero, flags, track_id, dts_ms).bytes());
        }
        let moof_at = sink.position();
        let rooms: u32 = self.tracks().map(|track| track.room_bytes).sum();
        let mut patch = Patch::default();
        patch.header(MOOF_HEAD_BYTES as u32 + rooms, b"moof");
        patch.header(16, b"mfhd");
        patch.u32(0);
        patch.u32(self.sequence_number);
        sink.append(patch.bytes());
        for track in self.tracks_mut() {
            track.room_at = sink.position();
            append_room(sink, track.room_bytes);
        }
        let mdat_at = sink.position();
        let mut patch = Patch::default();
        patch.header(MDAT_HEAD_BYTES as u32, b"mdat");
        sink.append(patch.bytes());
        sink.draft(if self.event_room_bytes > 0 { event_at } else { moof_at });
        self.running = Some(Running { begin_at, event_at, event_left: self.event_room_bytes, moof_at, mdat_at, media_bytes: 0, last: first });
    }

    /// `next`: the frame that comes after, by track and media time, so that its predecessor's duration is known.
    fn close(&mut self, sink: &mut impl Sink, next: Option<(u32, u64)>) -> Option<Fragment> {
        let running = self.running.take()?;
        self.to_close = false;
        let has_video = self.video.is_some();
        let mut fragment = None;
        for track in self.tracks_mut() {
            let next_dts_ms = next.filter(|(id, _)| *id == track.id).map(|(_, dts_ms)| dts_ms);
            let Some(closed) = track.close(next_dts_ms, sink) else { continue };
            // Video comes first, so that it decides where it has samples.
            fragment.get_or_insert(Fragment {
                offset: running.begin_at,
                bytes: sink.position() - running.begin_at,
                start_ms: closed.first_dts_ms as i64 - MEDIA_TIME_BIAS_MS as i64,
                duration_ms: closed.duration_ms,
                key: closed.key || !has_video,
            });
        }
        self.measure_rooms();
        sink.seal(sink.position());
        fragment
    }
}

/// What a track adds to a fragment that is closed.
struct Closed {
    first_dts_ms: u64,
    duration_ms: u64,
    key: bool,
}

/// A sample on its way into the running fragment.
struct Sample {
    bytes: u32,
    dts_ms: u64,
    cts_ms: i32,
    key: bool,
    /// From the start of the `moof`.
    data_offset: u32,
}

impl Track {
    fn new(id: u32, kind: TrackKind, nominal_ms: u32) -> Self {
        Self { id, kind, room_bytes: ROOM_BYTES_FIRST, room_at: 0, last_delta_ms: nominal_ms, last_dts_ms: None, samples: None }
    }

    /// Room in the fragment after the running one.
    fn next_room_bytes(&self) -> u32 {
        self.room_bytes_after(self.samples.as_ref().map_or(0, |samples| samples.used_bytes))
    }

    /// Room in the fragment after one that takes `used` bytes: a quarter more, but shrinking slowly, for fragments that a key frame cut short.
    fn room_bytes_after(&self, used: u32) -> u32 {
        let room = (used + used / 4 + FREE_HEAD_BYTES as u32).max(self.room_bytes - self.room_bytes / 8);
        room.next_multiple_of(4).clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX)
    }

    /// Enters the sample, whose media bytes are already appended, into the `traf`.
    fn add(&mut self, sample: &Sample, same_track: bool, sink: &mut impl Sink) {
        if let Some(last_dts_ms) = self.last_dts_ms {
            let delta_ms = sample.dts_ms - last_dts_ms;
            if delta_ms > 0 && delta_ms <= SAMPLE_MS_MAX {
                self.last_delta_ms = delta_ms as u32;
            }
        }
        let last_dts_ms = self.last_dts_ms.replace(sample.dts_ms).unwrap_or(sample.dts_ms);
        let Some(samples) = &mut self.samples else {
            self.samples = Some(self.first(sample, sink));
            return;
        };
        // One contiguous store: the entry before with its true duration, a new `trun` where the track changed, the entry, the header of the free room.
        let mut patch = Patch::default();
        let delta_ms = (sample.dts_ms - last_dts_ms) as u32;
        patch.entry(self.kind, delta_ms, samples.entry_size, samples.entry_cts_ms);
        let (patch_at, entry_before_bytes) = (samples.entry_at, entry_bytes(self.kind) as u32);
        // A key frame of the first pictures begins a fragment; one of others begins a run, whose head says what it is.
        let same_run = same_track && !sample.key;
        if same_run {
            samples.run_samples += 1;
        } else {
            samples.run_at = patch_at + u64::from(entry_before_bytes);
            (samples.run_flags, samples.run_head_bytes) = run_form(self.kind, sample.key);
            samples.run_samples = 1;
            patch.run(self.kind, samples.run_flags, sample.data_offset);
        }
        samples.entry_at = patch_at + patch.bytes().len() as u64;
        samples.entry_size = sample.bytes;
        samples.entry_cts_ms = sample.cts_ms;
        patch.entry(self.kind, self.last_delta_ms, sample.bytes, sample.cts_ms);
        samples.used_bytes = (patch_at - self.room_at) as u32 + patch.bytes().len() as u32;
        patch.header(self.room_bytes - samples.used_bytes, b"free");
        sink.patch(patch_at, patch.bytes());
        if same_run {
            let mut patch = Patch::default();
            patch.header(samples.run_head_bytes + samples.run_samples * entry_before_bytes, b"trun");
            patch.u32(samples.run_flags);
            patch.u32(samples.run_samples);
            sink.patch(samples.run_at, patch.bytes());
        }
    }

    /// The first sample turns the track's `free` box into its `traf`, in one store.
    fn first(&self, sample: &Sample, sink: &mut impl Sink) -> Samples {
        let (run_flags, run_head_bytes) = run_form(self.kind, sample.key);
        let mut patch = Patch::default();
        patch.header(self.room_bytes, b"traf");
        patch.header(20, b"tfhd");
        patch.u32(TFHD_FLAGS);
        patch.u32(self.id);
        patch.u32(default_flags(self.kind));
        patch.header(20, b"tfdt");
        patch.u32(1 << 24);
        patch.u64(sample.dts_ms);
        patch.run(self.kind, run_flags, sample.data_offset);
        patch.entry(self.kind, self.last_delta_ms, sample.bytes, sample.cts_ms);
        let used_bytes = patch.bytes().len() as u32;
        patch.header(self.room_bytes - used_bytes, b"free");
        sink.patch(self.room_at, patch.bytes());
        Samples {
            first_dts_ms: sample.dts_ms,
            key: sample.key,
            used_bytes,
            run_at: self.room_at + TRAF_HEAD_BYTES as u64,
            run_head_bytes,
            run_flags,
            run_samples: 1,
            entry_at: self.room_at + u64::from(used_bytes) - entry_bytes(self.kind) as u64,
            entry_size: sample.bytes,
            entry_cts_ms: sample.cts_ms,
        }
    }

    fn close(&mut self, next_dts_ms: Option<u64>, sink: &mut impl Sink) -> Option<Closed> {
        let next_room_bytes = self.next_room_bytes();
        let samples = self.samples.take();
        self.room_bytes = next_room_bytes;
        let (samples, last_dts_ms) = (samples?, self.last_dts_ms?);
        let mut last_ms = u64::from(self.last_delta_ms);
        if let Some(delta_ms) = next_dts_ms.map(|next| next - last_dts_ms).filter(|delta_ms| *delta_ms <= SAMPLE_MS_MAX && *delta_ms != last_ms) {
            last_ms = delta_ms;
            sink.patch(samples.entry_at, &(delta_ms as u32).to_be_bytes());
        }
        Some(Closed { first_dts_ms: samples.first_dts_ms, duration_ms: last_dts_ms - samples.first_dts_ms + last_ms, key: samples.key })
    }
}

/// The `prft` box of a fragment whose first sample is decoded at `dts_ms` (media time).
fn producer_time(zero: WallTime, flags: u32, track_id: u32, dts_ms: u64) -> Patch {
    let micros = zero.unix_micros().saturating_add((dts_ms as i64 - MEDIA_TIME_BIAS_MS as i64).saturating_mul(1_000));
    let seconds = micros.div_euclid(1_000_000).saturating_add(UNIX_EPOCH_IN_NTP_SECONDS) as u32;
    let fraction = ((micros.rem_euclid(1_000_000) as u64) << 32) / 1_000_000;
    let mut patch = Patch::default();
    patch.raw(PRFT_HEADER);
    patch.u32(1 << 24 | flags);
    patch.u32(track_id);
    patch.u64(u64::from(seconds) << 32 | fraction);
    patch.u64(dts_ms);
    patch
}

/// Flags and length of the head of a run whose first sample is a key frame of a picture, or not.
fn run_form(kind: TrackKind, key: bool) -> (u32, u32) {
    match (kind, key) {
        (TrackKind::Video, true) => (TRUN_VIDEO_KEY, TRUN_KEY_HEAD_BYTES as u32),
        (TrackKind::Video, false) => (TRUN_VIDEO, TRUN_HEAD_BYTES as u32),
        (TrackKind::Audio, _) => (TRUN_AUDIO, TRUN_HEAD_BYTES as u32),
    }
}

/// Appends a `free` box of so many bytes.
fn append_room(sink: &mut impl Sink, bytes: u32) {
    let mut patch = Patch::default();
    patch.header(bytes, b"free");
    sink.append(patch.bytes());
    append_zeros(sink, bytes as usize - FREE_HEAD_BYTES);
}

fn append_zeros(sink: &mut impl Sink, mut count: usize) {
    const ZEROS: [u8; 1024] = [0; 1024];
    while count > 0 {
        let part = count.min(ZEROS.len());
        sink.append(&ZEROS[..part]);
        count -= part;
    }
}

/// Bytes of one store, built on the stack.
struct Patch {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Patch {
    /// The longest: the beginning of a video `traf` up to the header of the free room.
    const BYTES_MAX: usize = TRAF_HEAD_BYTES + TRUN_KEY_HEAD_BYTES + entry_bytes(TrackKind::Video) + FREE_HEAD_BYTES;

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    fn raw<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(&bytes);
        self.len += N;
    }
    fn u32(&mut self, value: u32) {
        self.raw(value.to_be_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.raw(value.to_be_bytes());
    }
    fn header(&mut self, size: u32, kind: &[u8; 4]) {
        self.u32(size);
        self.raw(*kind);
    }
    /// The header of a `trun` with one sample.
    fn run(&mut self, kind: TrackKind, flags: u32, data_offset: u32) {
        let key = flags == TRUN_VIDEO_KEY;
        let head_bytes = if key { TRUN_KEY_HEAD_BYTES } else { TRUN_HEAD_BYTES };
        self.header((head_bytes + entry_bytes(kind)) as u32, b"trun");
        self.u32(flags);
        self.u32(1);
        self.u32(data_offset);
        if key {
            self.u32(FLAGS_SYNC);
        }
    }
    fn entry(&mut self, kind: TrackKind, duration_ms: u32, bytes: u32, cts_ms: i32) {
        self.u32(duration_ms);
        self.u32(bytes);
        if kind == TrackKind::Video {
            self.u32(cts_ms as u32);
        }
    }
}

impl Default for Patch {
    fn default() -> Self {
        Self { bytes: [0; Self::BYTES_MAX], len: 0 }
    }
}
