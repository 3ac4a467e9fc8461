//! An open media file: what it holds, and the writer of its container.

use crate::container::es::{AdtsWriter, Mp3Writer};
use crate::container::flv::{FlvWriter, PREVIOUS_TAG_SIZE_BYTES};
use crate::container::hls::TsStart;
use crate::container::mp4::Mp4Writer;
use crate::container::mpegts::seal::{SEAL_BYTES_MAX, Sealer};
use crate::container::mpegts::{SEGMENT_START_BYTES, TsWriter};
use crate::container::{Sink, Store};
use crate::domain::receipt::{Continued, FrameLength, TrackReceipt};
use crate::media::flv_tag;
use crate::media::note;
use crate::media::note::Note;
use crate::media::{Frame, TrackKind};
use crate::units::{FileId, MonoTime};

use super::super::DropReason;
use super::super::cache::{ChainId, Sequence};
use super::super::data::DataMessage;

use super::context::Context;
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
    pub(super) further: Vec<(TrackKind, u8)>,
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
    /// Writes what is no frame of the first tracks, if the container has a place for it. False: the storage has no room now.
    /// `next`: the frame behind it.
    pub(super) fn push_message<S: Store<File = F>>(
        &mut self,
        message: &DataMessage,
        next: Sequence,
        mut hls: Option<&mut HlsRecording>,
        context: &mut Context<'_, S::Pin>,
        store: &mut S,
    ) -> bool {
        if message.track.is_none() && !matches!(self.writer, Writer::Flv(_)) {
            if let Some(note) = note::parse(&message.body) {
                self.push_note(message.time_ms, &note, hls, context, store);
            }
            return true;
        }
        match &mut self.writer {
            Writer::Flv(writer) => {
                if !store.reserve(&mut self.file, writer.push_message_bytes_max(&message.body)) {
                    return false;
                }
                writer.push_message(message.track, message.time_ms, &message.body, &mut self.file);
            }
            Writer::Mp4(writer) => {
                let Some(kind) = message.track.filter(|_| !self.further.is_empty()) else { return true };
                let Some((number, part)) = flv_tag::further_frame(kind, &message.body) else { return true };
                let Some(index) = self.further.iter().position(|known| *known == (kind, number)) else {
                    context.lost[DropReason::BeforeSequenceHeader as usize] += 1;
                    return true;
                };
                if !store.reserve(&mut self.file, writer.push_bytes_max(part.media.len())) {
                    return false;
                }
                let closed = writer.push_further(index, &part.at(kind, message.time_ms), &mut self.file);
                if let Some(recording) = &mut hls {
                    recording.take(closed, &mut self.file, store);
                }
            }
            Writer::Ts(_) | Writer::Adts(_) | Writer::Mp3(_) => return true,
        }
        store.commit(&mut self.file, next);
        true
    }
}

impl<F: Sink> OpenFile<F> {
    /// Keeps a name and its values for the container, and marks in the playlist what they mark.
    fn push_note<S: Store<File = F>>(
        &mut self,
        time_ms: i64,
        note: &Note,
        hls: Option<&mut HlsRecording>,
        context: &mut Context<'_, S::Pin>,
        store: &mut S,
    ) {
        let fits = match &mut self.writer {
            Writer::Mp4(writer) => writer.push_message(time_ms, note),
            Writer::Ts(writer) => writer.push_message(time_ms, note),
            Writer::Flv(_) | Writer::Adts(_) | Writer::Mp3(_) => return,
        };
        if !fits {
            context.lost[DropReason::Unfit as usize] += 1;
        }
        let wall = context.epoch_of_file(self.epoch).and_then(|epoch| epoch.wall(time_ms)).unwrap_or(context.now.wall);
        if let Some(recording) = hls {
            recording.mark(wall, note, store);
        }
    }
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
            Writer::Ts(writer) => {
                let is_video = frame.track == TrackKind::Video;
                let key = !open.has_video || (is_video && frame.key);
                let recording = self.hls.as_mut().expect("a transport stream belongs to an HLS recording");
                let start_ms = frame.pts_ms();
                if open.ts_start.as_ref().is_none_or(|start| recording.segmenter.is_due(start_ms - start.start_ms, key)) {
                    let key_line = open.sealer.as_mut().and_then(|sealer| sealer.end_segment(&mut open.file));
                    let position = open.file.position();
                    if let Some(ended) = open.ts_start.replace(TsStart { offset: position, start_ms, key }) {
                        store.flush(&mut open.file);
                        recording.list_sealed(&ended.until(position, start_ms).into(), "ts", key_line.as_deref(), store);
                    }
                    open.ts_timed = is_video || !open.has_video;
                    match &mut open.sealer {
                        Some(sealer) => {
                            sealer.begin_segment();
                            writer.start_segment(&mut sealer.over(&mut open.file));
                        }
                        None => writer.start_segment(&mut open.file),
                    }
                } else if let Some(start) = open.ts_start.as_mut().filter(|_| is_video && !open.ts_timed) {
                    // A segment is timed by its video, as `scan` does, also when audio came first.
                    (start.start_ms, start.key) = (start_ms, frame.key);
                    open.ts_timed = true;
                }
                fits = match &mut open.sealer {
                    Some(sealer) => writer.push(frame, &mut sealer.over(&mut open.file)).is_ok(),
                    None => writer.push(frame, &mut open.file).is_ok(),
                };
            }
        }
        if fits {
            match frame.track {
                TrackKind::Video => open.video.count(frame.dts_ms, frame.media.len()),
                TrackKind::Audio => open.audio.count(frame.dts_ms, frame.media.len()),
            }
        }
        fits
    }
}
