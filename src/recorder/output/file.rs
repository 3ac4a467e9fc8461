//! An open media file: what it holds, and the writer of its container.

use crate::container::es::{AdtsWriter, Mp3Writer};
use crate::container::flv::{FlvWriter, PREVIOUS_TAG_SIZE_BYTES};
use crate::container::hls::TsStart;
use crate::container::mp4::Mp4Writer;
use crate::container::mpegts::seal::{SEAL_BYTES_MAX, Sealer};
use crate::container::mpegts::{SEGMENT_START_BYTES, TsWriter};
use crate::container::{Sink, Store};
use crate::domain::Receipt;
use crate::domain::receipt::{Continued, FrameLength, FurtherReceipt, TrackReceipt};
use crate::media::flv_tag;
use crate::media::note;
use crate::media::note::Note;
use crate::media::timeline::COMPOSITION_MS_MAX;
use crate::media::{Frame, TrackKind};
use crate::units::{FileId, MonoTime};

use super::super::DropReason;
use super::super::cache::{ChainId, FrameHead};
use super::super::item::{Between, What};

use super::context::{Context, Losses};
use super::end::lose;
use super::hls::HlsRecording;
use super::{Output, State};

pub(super) enum Writer {
    Flv(Box<FlvWriter>),
    Mp4(Box<Mp4Writer>),
    Ts(Box<TsWriter>),
    Adts(AdtsWriter),
    Mp3(Mp3Writer),
}

impl Writer {
    pub(super) fn push_bytes_max(&self, frame: &Frame<'_>) -> usize {
        match self {
            Writer::Flv(writer) => writer.push_bytes_max(frame),
            Writer::Mp4(writer) => writer.push_bytes_max(frame.media.len()),
            Writer::Ts(writer) => SEAL_BYTES_MAX + SEGMENT_START_BYTES + writer.push_bytes_max(frame),
            Writer::Adts(writer) => writer.push_bytes_max(frame),
            Writer::Mp3(writer) => writer.push_bytes_max(frame),
        }
    }

    /// Where in the file the media bytes of the last frame lie, which ends at `end`. `None`: not in a row.
    pub(super) fn last_media(&self, frame: &Frame<'_>, end: u64) -> Option<std::ops::Range<u64>> {
        let end = match self {
            Writer::Flv(_) => end - PREVIOUS_TAG_SIZE_BYTES as u64,
            Writer::Mp4(_) | Writer::Adts(_) | Writer::Mp3(_) => end,
            Writer::Ts(_) => return None,
        };
        Some(end - frame.media.len() as u64..end)
    }
}

/// The frame that a file begins with.
#[derive(Clone, Copy)]
pub(super) struct Opener {
    pub(super) pts_ms: i64,
    pub(super) is_video: bool,
    pub(super) key: bool,
}

/// A further track of a file, and what it was given.
pub(super) struct Further {
    pub(super) kind: TrackKind,
    pub(super) number: u8,
    pub(super) receipt: TrackReceipt,
}

/// An open media file.
pub(super) struct OpenFile<F> {
    pub(super) file: F,
    /// Its name in the cache, once frames there lie in it.
    pub(super) chain: Option<ChainId>,
    pub(super) writer: Writer,
    pub(super) epoch: u32,
    /// The recording that is this one file; `None` for a part of an HLS recording alone.
    pub(super) recording: Option<FileId>,
    pub(super) has_video: bool,
    pub(super) has_audio: bool,
    /// Further tracks in the file, in their order.
    pub(super) further: Vec<Further>,
    /// Data messages in it.
    pub(super) data_messages: u64,
    pub(super) opener: Opener,
    pub(super) first_dts_ms: i64,
    pub(super) last_dts_ms: i64,
    /// Transport stream whose segments are encrypted.
    pub(super) sealer: Option<Box<Sealer>>,
    /// Transport stream: the last place where a segment may begin.
    pub(super) ts_start: Option<TsStart>,
    /// Its time is that of its first video frame, not of audio before.
    pub(super) ts_timed: bool,
    pub(super) opened: MonoTime,
    pub(super) video: TrackReceipt,
    pub(super) audio: TrackReceipt,
    /// Of every audio frame, where all are alike.
    pub(super) audio_frame: Option<FrameLength>,
    pub(super) continues: Option<Continued>,
}

/// What an open file does with a frame.
pub(super) enum Step {
    Write,
    Unwanted,
    /// The file is long enough: another begins with this frame.
    Cut,
    NewEpoch,
}

impl<F> OpenFile<F> {
    /// The same for what waits in the cache. What stands between the frames goes where it comes.
    pub(super) fn step_of(&self, head: &FrameHead, interval_ms: Option<i64>) -> Step {
        match head.what {
            What::Frame(track) => self.step(track, head.key, head.dts_ms, head.epoch, interval_ms),
            _ if self.epoch != head.epoch => Step::NewEpoch,
            What::Further(_) | What::Data => Step::Write,
        }
    }

    pub(super) fn step(&self, track: TrackKind, key: bool, dts_ms: i64, epoch: u32, interval_ms: Option<i64>) -> Step {
        if self.epoch != epoch {
            return Step::NewEpoch;
        }
        let wanted = match track {
            TrackKind::Video => self.has_video,
            TrackKind::Audio => self.has_audio,
        };
        if !wanted {
            return Step::Unwanted;
        }
        let may_cut = !self.has_video || (track == TrackKind::Video && key);
        if may_cut && interval_ms.is_some_and(|interval_ms| dts_ms - self.first_dts_ms >= interval_ms) { Step::Cut } else { Step::Write }
    }
}

impl<F: Sink> OpenFile<F> {
    /// Writes what is no frame of the first tracks, if the container has a place for it; it is to be committed.
    pub(super) fn push_between<S: Store<File = F>>(
        &mut self,
        between: &Between<'_>,
        hls: Option<&mut HlsRecording>,
        context: &mut Context<'_, S::Pin>,
        store: &mut S,
    ) -> Written {
        match between.track {
            Some(kind) => self.push_further(kind, between, hls, store),
            None => self.push_message(between, hls, context, store),
        }
    }

    fn push_further<S: Store<File = F>>(&mut self, kind: TrackKind, between: &Between<'_>, hls: Option<&mut HlsRecording>, store: &mut S) -> Written {
        let frame = flv_tag::further_frame(kind, between.body);
        let index = frame.as_ref().and_then(|(number, _)| self.further.iter().position(|known| (known.kind, known.number) == (kind, *number)));
        match &mut self.writer {
            Writer::Flv(writer) => {
                if !store.reserve(&mut self.file, writer.push_message_bytes_max(between.body)) {
                    return Written::Blocked;
                }
                writer.push_message(Some(kind), between.time_ms, between.body, &mut self.file);
            }
            Writer::Mp4(writer) => {
                let Some((_, part)) = frame.as_ref().filter(|_| !self.further.is_empty()) else { return Written::Done };
                let Some(index) = index else { return Written::Lost(DropReason::BeforeSequenceHeader) };
                if !store.reserve(&mut self.file, writer.push_bytes_max(part.media.len())) {
                    return Written::Blocked;
                }
                let closed = writer.push_further(index, &part.at(kind, between.time_ms), &mut self.file);
                if let Some(recording) = hls {
                    recording.take(closed, &mut self.file, store);
                }
            }
            Writer::Ts(_) | Writer::Adts(_) | Writer::Mp3(_) => return Written::Done,
        }
        if let (Some((_, part)), Some(index)) = (frame, index) {
            self.further[index].receipt.count(between.time_ms, part.media.len());
        }
        Written::Done
    }

    fn push_message<S: Store<File = F>>(
        &mut self,
        between: &Between<'_>,
        hls: Option<&mut HlsRecording>,
        context: &mut Context<'_, S::Pin>,
        store: &mut S,
    ) -> Written {
        if let Writer::Flv(writer) = &mut self.writer {
            if !store.reserve(&mut self.file, writer.push_message_bytes_max(between.body)) {
                return Written::Blocked;
            }
            writer.push_message(None, between.time_ms, between.body, &mut self.file);
            self.data_messages += 1;
            return Written::Done;
        }
        // What is no name with values has no form in JSON.
        let Some(note) = note::parse(between.body) else { return Written::Done };
        let Some(recording) = self.note_to(between.time_ms, &note, hls, store) else { return Written::Blocked };
        let (fits, hls) = recording;
        if let Some(recording) = hls {
            let wall = context.epoch_of_file(self.epoch).and_then(|epoch| epoch.wall(between.time_ms)).unwrap_or(context.now.wall);
            recording.mark(wall, &note, store);
        }
        if !fits {
            return Written::Lost(DropReason::Unfit);
        }
        self.data_messages += 1;
        Written::Done
    }

    /// Writes a name and its values into MP4 or MPEG-TS. Says whether it fits; `None`: the storage has no room now.
    fn note_to<'a, S: Store<File = F>>(
        &mut self,
        time_ms: i64,
        note: &Note,
        mut hls: Option<&'a mut HlsRecording>,
        store: &mut S,
    ) -> Option<(bool, Option<&'a mut HlsRecording>)> {
        let fits = match &mut self.writer {
            Writer::Mp4(writer) => {
                if !store.reserve(&mut self.file, writer.push_message_bytes_max(note)) {
                    return None;
                }
                let closed = writer.push_message(time_ms, note, &mut self.file);
                if let (Ok(closed), Some(recording)) = (closed, &mut hls) {
                    recording.take(closed, &mut self.file, store);
                }
                closed.is_ok()
            }
            Writer::Ts(writer) => {
                let segment_bytes = SEGMENT_START_BYTES + SEAL_BYTES_MAX;
                if !store.reserve(&mut self.file, segment_bytes + SEAL_BYTES_MAX + writer.push_message_bytes_max(note)) {
                    return None;
                }
                if self.ts_start.is_none()
                    && let Some(recording) = &mut hls
                {
                    // In front of the frame that the file begins with.
                    let Opener { pts_ms, is_video, key } = self.opener;
                    self.begin_segment(recording, (pts_ms, is_video, key), store);
                }
                let Writer::Ts(writer) = &mut self.writer else { unreachable!("it was one") };
                match &mut self.sealer {
                    Some(sealer) => writer.push_message(time_ms, note, &mut sealer.over(&mut self.file)),
                    None => writer.push_message(time_ms, note, &mut self.file),
                }
            }
            Writer::Flv(_) | Writer::Adts(_) | Writer::Mp3(_) => true,
        };
        Some((fits, hls))
    }

    /// What the file was given, and what was lost before it.
    pub(super) fn receipt(&self, lost: &Losses) -> Box<Receipt> {
        let track = |track: &TrackReceipt| Some(track).filter(|track| track.frames > 0).cloned();
        let further = self.further.iter().filter(|further| further.receipt.frames > 0).map(|further| FurtherReceipt {
            kind: kind_name(further.kind).to_owned(),
            number: further.number,
            track: further.receipt.clone(),
        });
        let (video, audio, further) = (track(&self.video), track(&self.audio), further.collect());
        let mut receipt = Box::new(Receipt { video, audio, further, data_messages: self.data_messages, ..Receipt::default() });
        lose(&mut receipt, lost);
        receipt.measure_drift(self.audio_frame);
        receipt
    }

    /// Ends the segment of a transport stream that is open, if there is one, and begins the next with a frame.
    fn begin_segment<S: Store<File = F>>(&mut self, recording: &mut HlsRecording, (start_ms, is_video, key): (i64, bool, bool), store: &mut S) {
        let Writer::Ts(writer) = &mut self.writer else { return };
        let key = !self.has_video || (is_video && key);
        let key_line = self.sealer.as_mut().and_then(|sealer| sealer.end_segment(&mut self.file));
        let position = self.file.position();
        if let Some(ended) = self.ts_start.replace(TsStart { offset: position, start_ms, key }) {
            store.flush(&mut self.file);
            recording.list_sealed(&ended.until(position, start_ms).into(), "ts", key_line.as_deref(), store);
        }
        self.ts_timed = is_video || !self.has_video;
        match &mut self.sealer {
            Some(sealer) => {
                sealer.begin_segment();
                writer.start_segment(&mut sealer.over(&mut self.file));
            }
            None => writer.start_segment(&mut self.file),
        }
    }
}

const fn kind_name(kind: TrackKind) -> &'static str {
    match kind {
        TrackKind::Video => "video",
        TrackKind::Audio => "audio",
    }
}

/// What became of what stands between the frames.
pub(super) enum Written {
    /// It is in the file, or the container has no place for it.
    Done,
    Lost(DropReason),
    /// The storage has no room now.
    Blocked,
}

impl<F: Sink> Output<F> {
    /// Writes one frame into the open file. Room is reserved. False: the container cannot hold this frame.
    pub(super) fn write<S: Store<File = F>>(&mut self, frame: &Frame<'_>, store: &mut S) -> bool {
        let State::Writing(open) = &mut self.state else { unreachable!("a frame is written to an open file") };
        open.last_dts_ms = frame.dts_ms;
        let mut fits = true;
        match &mut open.writer {
            Writer::Flv(writer) => writer.push(frame, &mut open.file),
            Writer::Adts(writer) => fits = writer.push(frame, &mut open.file).is_ok(),
            Writer::Mp3(writer) => writer.push(frame, &mut open.file),
            Writer::Mp4(writer) => {
                let closed = writer.push(frame, &mut open.file);
                if let Some(recording) = &mut self.hls {
                    recording.take(closed, &mut open.file, store);
                }
            }
            Writer::Ts(_) => {
                let is_video = frame.track == TrackKind::Video;
                let key = !open.has_video || (is_video && frame.key);
                let recording = self.hls.as_mut().expect("a transport stream belongs to an HLS recording");
                let start_ms = frame.pts_ms();
                if open.ts_start.as_ref().is_none_or(|start| recording.segmenter.is_due(start_ms - start.start_ms, key)) {
                    open.begin_segment(recording, (start_ms, is_video, frame.key), store);
                } else if let Some(start) = open.ts_start.as_mut().filter(|_| is_video && !open.ts_timed) {
                    // A segment is timed by its video, as `scan` does, also when audio came first.
                    (start.start_ms, start.key) = (start_ms, frame.key);
                    open.ts_timed = true;
                }
                let Writer::Ts(writer) = &mut open.writer else { unreachable!("it is one") };
                fits = match &mut open.sealer {
                    Some(sealer) => writer.push(frame, &mut sealer.over(&mut open.file)).is_ok(),
                    None => writer.push(frame, &mut open.file).is_ok(),
                };
            }
        }
        if fits {
            match frame.track {
                TrackKind::Video => {
                    open.video.count(frame.dts_ms, frame.media.len());
                    open.video.far_offsets += u64::from(frame.cts_ms.unsigned_abs() > COMPOSITION_MS_MAX);
                }
                TrackKind::Audio => open.audio.count(frame.dts_ms, frame.media.len()),
            }
        }
        fits
    }
}
