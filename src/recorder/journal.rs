//! What a killed process leaves of frames that no file had taken yet: at the begin of a publication, at a split, while storage is busy.
//!
//! Such frames lie in the log, each behind a head that says what it is, and between them what stands between them. As long as an output is behind, a *note* beside the log says which outputs wait
//! for which frames. Both are in memory that outlives the process; [`replay`] puts them through a recorder again, into the files that would have begun.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::container::Store;
use crate::domain::{EndReason, RecordTemplate, RecordingSource};
use crate::media::label::{Label, TrackLabel};
use crate::media::{Payload, TrackKind};
use crate::units::{FileId, MonoTime, PublicationId, StreamKey, WallTime};

use super::cache::{FrameHead, Sequence};
use super::item::What;
use super::{MoovReserve, Now, Publication, Recorder, RecorderSettings};

/// The head of an item in the log: magic, kind, length of the tag header, 1 for a further track, an unused byte, media length, epoch, sequence, DTS; little endian.
const HEAD_BYTES: usize = 32;
const MAGIC: [u8; 4] = *b"CAPF";
/// Bytes of a frame in the log besides its media.
pub const FRAME_OVERHEAD_BYTES: usize = HEAD_BYTES + 8;
/// Ids kept ready for the files of one output: a replay that is itself killed begins again with the same ones.
pub const IDS_PER_OUTPUT: usize = 6;
/// Media that are replayed to one output; the cache holds less than half of it.
const REPLAY_FRAMES_MAX: usize = 1 << 20;

/// Type byte of an FLV tag.
const VIDEO: u8 = 9;
const AUDIO: u8 = 8;
const SCRIPT: u8 = 18;

/// Hands the bytes that stand before the media of an item to `append`.
pub fn write_head(item: &FrameHead, media_bytes: usize, sequence: Sequence, mut append: impl FnMut(&[u8])) {
    let tag_header = item.tag_header();
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = match item.what {
        What::Frame(TrackKind::Video) | What::Further(TrackKind::Video) => VIDEO,
        What::Frame(TrackKind::Audio) | What::Further(TrackKind::Audio) => AUDIO,
        What::Data => SCRIPT,
    };
    head[5] = tag_header.len() as u8;
    head[6] = u8::from(matches!(item.what, What::Further(_)));
    head[8..12].copy_from_slice(&(media_bytes as u32).to_le_bytes());
    head[12..16].copy_from_slice(&item.epoch.to_le_bytes());
    head[16..24].copy_from_slice(&sequence.to_le_bytes());
    head[24..32].copy_from_slice(&item.dts_ms.to_le_bytes());
    append(&head);
    append(tag_header);
}

/// An item as the log tells it: the body of its FLV tag, and when it was.
#[derive(Debug, PartialEq, Eq)]
pub struct LoggedFrame<'a> {
    what: What,
    epoch: u32,
    sequence: Sequence,
    dts_ms: i64,
    body: &'a [u8],
}

/// The frames in a run of log bytes that begins with a head. What is none is damaged: it goes on with the next head.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = LoggedFrame<'_>> {
    std::iter::from_fn(move || {
        loop {
            match frame(bytes) {
                Some((frame, rest)) => {
                    bytes = rest;
                    return Some(frame);
                }
                None => bytes = &bytes[1 + find_head(bytes.get(1..)?)?..],
            }
        }
    })
}

fn find_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

/// The frame whose head `bytes` begins with, and what follows it.
fn frame(bytes: &[u8]) -> Option<(LoggedFrame<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    if head[..4] != MAGIC {
        return None;
    }
    let what = match (head[4], head[6]) {
        (VIDEO, 0) => What::Frame(TrackKind::Video),
        (AUDIO, 0) => What::Frame(TrackKind::Audio),
        (VIDEO, 1) => What::Further(TrackKind::Video),
        (AUDIO, 1) => What::Further(TrackKind::Audio),
        (SCRIPT, 0) => What::Data,
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(usize::from(head[5]) + word(8) as usize)?;
    Some((LoggedFrame { what, epoch: word(12), sequence: long(16), dts_ms: long(24) as i64, body }, rest))
}

/// The parts of the note that do not change while outputs wait.
#[derive(Serialize, Deserialize)]
pub struct Note {
    pub publication: PublicationId,
    pub key: StreamKey,
    pub push_url: String,
    pub stream_param: String,
    #[serde(default)]
    pub alias_domain: String,
    pub wall: WallTime,
    pub media_start_ms: i64,
    pub hls_segment_ms: u64,
    pub moov_whole: bool,
    pub epochs: Vec<NotedEpoch>,
    pub outputs: Vec<NotedOutput>,
}

/// The sequence headers of an epoch, as they were sent.
#[derive(Serialize, Deserialize)]
pub struct NotedEpoch {
    pub number: u32,
    /// Empty: there is none.
    pub video: Vec<u8>,
    pub audio: Vec<u8>,
    /// Sequence headers and the like of further tracks, tag bodies for one track each.
    #[serde(default)]
    pub other_video: Vec<Vec<u8>>,
    #[serde(default)]
    pub other_audio: Vec<Vec<u8>>,
    /// Video (else audio), number, language, name.
    #[serde(default)]
    pub labels: Vec<(bool, u8, String, String)>,
}

#[derive(Serialize, Deserialize)]
pub struct NotedOutput {
    /// See [`OpenMedia::writer`](crate::container::OpenMedia::writer).
    pub writer: u64,
    pub source: RecordingSource,
    pub template: RecordTemplate,
    pub transport_stream: bool,
    /// The HLS recording that goes on, and its last part.
    pub hls: Option<(FileId, u32)>,
    pub ids: Vec<FileId>,
}

/// The next frame of an output, and the one before which it ends.
pub type Range = (Sequence, Sequence);
const RANGE_BYTES: usize = 16;
/// No end is known.
pub const OPEN_END: Sequence = Sequence::MAX;

impl Note {
    /// The note's bytes: how many outputs there are, the [`Range`] of each, then the rest.
    pub fn encode(&self, ranges: &[Range]) -> Vec<u8> {
        assert_eq!(ranges.len(), self.outputs.len(), "a range for each output");
        let mut bytes = (ranges.len() as u64).to_le_bytes().to_vec();
        ranges.iter().for_each(|range| bytes.extend_from_slice(&range_bytes(*range)));
        serde_json::to_writer(&mut bytes, self).expect("plain values become JSON");
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Self, Vec<Range>)> {
        let (count, rest) = bytes.split_at_checked(8)?;
        let count = usize::try_from(u64::from_le_bytes(count.try_into().ok()?)).ok()?;
        let (ranges, text) = rest.split_at_checked(count.checked_mul(RANGE_BYTES)?)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let ranges: Vec<Range> = ranges.chunks_exact(RANGE_BYTES).map(|range| (number(&range[..8]), number(&range[8..]))).collect();
        let note: Self = serde_json::from_slice(text).ok()?;
        (note.outputs.len() == ranges.len()).then_some((note, ranges))
    }
}

/// Where in the note the range of output `index` stands.
pub fn range_at(index: usize) -> usize {
    8 + index * RANGE_BYTES
}

pub fn range_bytes((next, end): Range) -> [u8; RANGE_BYTES] {
    let mut bytes = [0; RANGE_BYTES];
    bytes[..8].copy_from_slice(&next.to_le_bytes());
    bytes[8..].copy_from_slice(&end.to_le_bytes());
    bytes
}

/// The note is not one, or does not fit the log beside it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the note beside the frames cannot be read")]
pub struct UnreadableNote;

/// Puts the frames of `log` (its blocks in order, each with its offset) through a recorder for every output that `note` says was waiting. `taken`: the
/// first frame that each writer had not taken, as its blocks tell, and `parts`: the last part of each HLS recording; the note follows a moment later, and a
/// kill may come in between. `store` makes the store of one output from the ids that are kept ready for it, and is told the recording that goes on. Returns how many frames were replayed, and the
/// stores.
///
/// # Errors
/// [`UnreadableNote`].
pub fn replay<S: Store>(
    note: &[u8],
    log: &[(u64, Vec<u8>)],
    (taken, parts): (&HashMap<u64, Sequence>, &HashMap<FileId, u32>),
    mut store: impl FnMut(&[FileId], Option<FileId>) -> S,
) -> Result<(u64, Vec<S>), UnreadableNote> {
    let (note, ranges) = Note::decode(note).ok_or(UnreadableNote)?;
    let runs = runs(log);
    // A frame may have been written twice: once for the cache, once for an output that joined.
    let logged: BTreeMap<Sequence, LoggedFrame<'_>> =
        runs.iter().flat_map(|run| frames(run)).take(REPLAY_FRAMES_MAX).map(|frame| (frame.sequence, frame)).collect();
    let (mut replayed, mut stores) = (0, Vec::new());
    for (output, (next, end)) in note.outputs.iter().zip(ranges) {
        let next = taken.get(&output.writer).map_or(next, |taken| next.max(*taken));
        if next >= end {
            continue;
        }
        let waiting: Vec<&LoggedFrame<'_>> = logged.range(next..end).map(|(_, frame)| frame).collect();
        if !waiting.is_empty() {
            replayed += waiting.len() as u64;
            let mut store = store(&output.ids, output.hls.map(|(id, _)| id));
            let hls = output.hls.map(|(id, part)| (id, parts.get(&id).map_or(part, |last| part.max(*last))));
            replay_output(&note, (output, hls), &waiting, &mut store);
            stores.push(store);
        }
    }
    Ok((replayed, stores))
}

/// The log's bytes from the first head on, cut where a block is missing. A block that does not continue the one before it begins somewhere in a frame:
/// what follows is found by its magic.
fn runs(log: &[(u64, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (offset, bytes) in log {
        match runs.last_mut() {
            Some((end, run)) if end == offset => {
                run.extend_from_slice(bytes);
                *end = end.saturating_add(bytes.len() as u64);
            }
            _ => {
                let begin = if *offset == 0 { 0 } else { find_head(bytes).unwrap_or(bytes.len()) };
                runs.push((offset.saturating_add(bytes.len() as u64), bytes[begin..].to_vec()));
            }
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

fn replay_output<S: Store>(note: &Note, (output, hls): (&NotedOutput, Option<(FileId, u32)>), frames: &[&LoggedFrame<'_>], store: &mut S) {
    let publication = Publication {
        id: note.publication,
        key: note.key.clone(),
        push_url: note.push_url.clone(),
        stream_param: note.stream_param.clone(),
        alias_domain: note.alias_domain.clone(),
    };
    let settings = RecorderSettings {
        hls_transport_stream: output.transport_stream,
        hls_segment_ms: note.hls_segment_ms,
        trust_encoder_clock: false,
        moov_reserve: if note.moov_whole { MoovReserve::Whole } else { MoovReserve::Insert },
    };
    let now = Now { mono: MonoTime::default(), wall: note.wall };
    let mut recorder = Recorder::<S>::new(publication, settings);
    recorder.replay(output.source.clone(), &Arc::new(output.template.clone()), hls, note.media_start_ms, now, store);
    let mut epoch = None;
    for frame in frames {
        let timestamp_ms = frame.dts_ms as u32;
        if epoch != Some(frame.epoch) {
            epoch = Some(frame.epoch);
            let headers = note.epochs.iter().find(|epoch| epoch.number == frame.epoch);
            let first = headers.into_iter().flat_map(|epoch| [(TrackKind::Video, &epoch.video), (TrackKind::Audio, &epoch.audio)]);
            let others = headers.into_iter().flat_map(|epoch| {
                let video = epoch.other_video.iter().map(|header| (TrackKind::Video, header));
                video.chain(epoch.other_audio.iter().map(|header| (TrackKind::Audio, header)))
            });
            for (kind, header) in first.chain(others) {
                if !header.is_empty() {
                    push(&mut recorder, What::Frame(kind), timestamp_ms, header, now, store);
                }
            }
            let labels = headers.into_iter().flat_map(|epoch| &epoch.labels).map(|(video, number, language, name)| TrackLabel {
                kind: if *video { TrackKind::Video } else { TrackKind::Audio },
                number: *number,
                label: Label::new(language, name),
            });
            recorder.label(labels.collect());
            // Tracks whose frames say what they are: the file knows them from its beginning, as the one that was to begin would have.
            for further in frames.iter().filter(|other| other.epoch == frame.epoch) {
                if let What::Further(kind) = further.what {
                    recorder.expect_further(kind, further.body);
                }
            }
            recorder.take_any_frame();
        }
        push(&mut recorder, frame.what, timestamp_ms, frame.body, now, store);
    }
    recorder.finish(EndReason::Recovered, now, store);
}

fn push<S: Store>(recorder: &mut Recorder<S>, what: What, timestamp_ms: u32, body: &[u8], now: Now, store: &mut S) {
    let payload = Payload::contiguous(body);
    // What cannot be read was not taken when it came, either.
    let _ = match what {
        What::Frame(TrackKind::Video) | What::Further(TrackKind::Video) => recorder.video(timestamp_ms, payload, now, store),
        What::Frame(TrackKind::Audio) | What::Further(TrackKind::Audio) => recorder.audio(timestamp_ms, payload, now, store),
        What::Data => {
            recorder.data(timestamp_ms, payload, now, store);
            Ok(())
        }
    };
}

/// Notes and logs may be damaged: nothing panics, and frames before and behind the damage are found.
pub fn fuzz_journal(data: &[u8]) {
    let _ = Note::decode(data);
    let logged = |sequence: Sequence| {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[4] = VIDEO;
        head[16..24].copy_from_slice(&sequence.to_le_bytes());
        head
    };
    let log = [&logged(1), data, &logged(2)].concat();
    let sequences: Vec<Sequence> = frames(&log).map(|frame| frame.sequence).collect();
    assert_eq!(sequences.first(), Some(&1));
    // Unless the damage looks like a frame that goes on.
    assert!(sequences.last() == Some(&2) || find_head(data).is_some());
    let cut = data.len() / 2;
    for frame in runs(&[(0, data[..cut].to_vec()), (cut as u64, data[cut..].to_vec())]).iter().flat_map(|run| frames(run)) {
        assert!(frame.body.len() <= data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn damage_between_frames_costs_neither(data in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            fuzz_journal(&data);
        }
    }
}
