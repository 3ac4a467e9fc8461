//! From what lies on the disk to the plan of the finished file; the same for a clean end and after a crash.

use super::entry::TrackEntry;
use super::event::{self, Event};
use super::fragment::{
    FREE_HEAD_BYTES, MDAT_HEAD_BYTES, MOOF_BYTES_MAX, MOOF_HEAD_BYTES, PRFT_BYTES, PRFT_HEADER, ROOM_BYTES_MAX, Run, Traf, track_id, trafs,
};
use super::head::{FTYP_BYTES, Head, INSERT_AT, read};
use super::moov::{final_moov, first_pts_ms};
use super::tables::{SampleTable, TableSample};
use super::{Fragment, MEDIA_TIME_BIAS_MS};
use crate::container::boxes::{LARGE_HEADER_BYTES, be32};
use crate::container::window::Near;
use crate::container::{FinishPlan, HEAD_ALIGN_BYTES, Insert, MediaSummary, ReadAt, ScanError, TrackSummary};
use crate::media::TrackKind;

/// What [`scan`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mp4Scan {
    pub plan: FinishPlan,
    /// Offsets as they are once the plan is applied.
    pub fragments: Vec<Fragment>,
    /// How far the plan's insertion moves the fragments.
    pub shift: u64,
}

/// Reads the head and the `moof`s of a file that [`super::Mp4Writer`] wrote, whether it ended well, is torn, or is finished already (then the plan changes
/// nothing). Of a torn fragment the samples that lie in the file completely stay; samples of nothing but zeros at the end of a fragment never reached the disk.
///
/// `insert_supported`: the file system can make room inside a file. Else a `moov` that does not fit into the head goes to the end.
///
/// # Errors
/// [`ScanError::Head`] if the tracks cannot be read, [`ScanError::Empty`] without a single sample, [`ScanError::Read`].
pub fn scan<R: ReadAt + ?Sized>(file: &R, insert_supported: bool) -> Result<Mp4Scan, ScanError> {
    let file = &Near::new(file);
    let head = Head::find(file)?;
    let mut walk = Walk::new(file, &head);
    walk.run()?;
    let Walk { mut tracks, mut fragments, last, events, .. } = walk;
    let (Some(last), Some(last_fragment)) = (last, fragments.last_mut()) else { return Err(ScanError::Empty) };
    // Messages behind the last fragment stay where it is whole.
    let end = last.events_end.filter(|_| last.media_end == last.mdat_end).unwrap_or(last.media_end);
    last_fragment.bytes = end - last_fragment.offset;
    tracks.iter_mut().for_each(|(_, table)| table.finish());
    let repairs = last.repairs(file)?;
    let messages = messages(events.iter().filter(|event| event.offset < end), &tracks);
    plan(file, &head, Found { tracks: &tracks, messages: messages.as_ref(), fragments, end }, repairs, insert_supported)
}

/// The samples of the timed-metadata track: each lasts until the next, the last to the end of sound and picture. `None` without a message.
fn messages<'a>(events: impl Iterator<Item = &'a Event>, tracks: &[(TrackEntry, SampleTable)]) -> Option<SampleTable> {
    let start_ms = first_pts_ms(tracks);
    let end_ms = tracks
        .iter()
        .filter_map(|(_, table)| Some(start_ms + table.timing(start_ms).map(|timing| timing.delay_ms + timing.duration_ms)? as i64))
        .max();
    let (start_ms, end_ms) = (start_ms.max(0) as u64, end_ms.unwrap_or(0).max(0) as u64);
    let mut events: Vec<_> = events.map(|event| Event { time_ms: event.time_ms.max(start_ms), ..*event }).collect();
    // Encoders interleave them loosely.
    events.sort_by_key(|event| event.time_ms);
    let mut table = SampleTable::default();
    for Event { time_ms, offset, bytes } in &events {
        table.begin_chunk(*offset);
        let duration_ms = u32::try_from(end_ms.saturating_sub(*time_ms)).unwrap_or(u32::MAX).max(1);
        table.push(TableSample { dts_ms: *time_ms, cts_ms: 0, duration_ms, bytes: *bytes, sync: true });
    }
    table.finish();
    (!events.is_empty()).then_some(table)
}

/// What goes into the plan.
struct Found<'a> {
    tracks: &'a [(TrackEntry, SampleTable)],
    messages: Option<&'a SampleTable>,
    fragments: Vec<Fragment>,
    /// Behind the last byte that stays.
    end: u64,
}

/// Goes from fragment to fragment.
struct Walk<'a, R: ReadAt + ?Sized> {
    file: &'a R,
    at: u64,
    tracks: Vec<(TrackEntry, SampleTable)>,
    fragments: Vec<Fragment>,
    last: Option<LastFragment>,
    /// Data messages in the order of the file.
    events: Vec<Event>,
    /// Where the messages in front of the next fragment begin.
    begin_at: u64,
}

/// The last fragment that holds a sample: the file will end with it.
struct LastFragment {
    moof_at: u64,
    moof_bytes: usize,
    /// Ids of the tracks that the head names.
    ids: Vec<u32>,
    limit: Limit,
    mdat_end: u64,
    /// Where the messages right behind it end.
    events_end: Option<u64>,
    /// Where its last complete sample ends.
    media_end: u64,
}

/// How far the media of a fragment can be trusted; file offsets.
#[derive(Clone, Copy)]
struct Limit {
    start: u64,
    /// End of the `mdat`, or of the file where that comes first.
    end: u64,
    /// From here to the end of the last sample there are only zeros: room that was reserved and never written.
    zeros_from: u64,
}

impl Limit {
    /// The writer never enters an empty sample, so one without bytes is damage.
    fn holds(&self, start: u64, end: u64) -> bool {
        start >= self.start && start < end && end <= self.end && start < self.zeros_from
    }
}

impl<'a, R: ReadAt + ?Sized> Walk<'a, R> {
    fn new(file: &'a R, head: &Head) -> Self {
        let tracks = head.entries.iter().map(|entry| (entry.clone(), SampleTable::default())).collect();
        Self { file, at: head.bytes, tracks, fragments: Vec::new(), last: None, events: Vec::new(), begin_at: head.bytes }
    }

    /// Ends where no `moof` with its `mdat` follows. One read a fragment from the disk: the last media bytes, and the next `moof` behind them.
    fn run(&mut self) -> Result<(), ScanError> {
        let mut bytes = Vec::with_capacity(2 * ROOM_BYTES_MAX as usize);
        let mut tail = [0; TAIL_BYTES + 8];
        read(self.file, self.at, &mut tail[TAIL_BYTES..])?;
        loop {
            loop {
                if let Some(event_bytes) = event::box_bytes(&tail[TAIL_BYTES..]) {
                    self.event(event_bytes)?;
                } else if let Some(room_bytes) = event::room_bytes(&tail[TAIL_BYTES..]) {
                    self.at += room_bytes as u64;
                } else {
                    break;
                }
                read(self.file, self.at, &mut tail[TAIL_BYTES..])?;
            }
            if tail[TAIL_BYTES..] == PRFT_HEADER {
                // The time of day of the fragment behind it.
                self.at += PRFT_BYTES as u64;
                read(self.file, self.at, &mut tail[TAIL_BYTES..])?;
            }
            let Some(moof_bytes) = moof_bytes(&tail[TAIL_BYTES..]) else { break };
            bytes.resize(moof_bytes + MDAT_HEAD_BYTES, 0);
            read(self.file, self.at, &mut bytes)?;
            let (moof, mdat_head) = bytes.split_at(moof_bytes);
            let mdat_bytes = be32(mdat_head, 0).unwrap_or(0) as usize;
            let media_at = self.at + bytes.len() as u64;
            if &mdat_head[4..] != b"mdat" || mdat_bytes < MDAT_HEAD_BYTES || media_at > self.file.len() {
                break;
            }
            let mdat_end = media_at + (mdat_bytes - MDAT_HEAD_BYTES) as u64;
            let end = mdat_end.min(self.file.len());
            read(self.file, end - TAIL_BYTES as u64, &mut tail)?;
            let ends_in_zeros = tail[TAIL_BYTES - 1] == 0;
            let limit = self.limit(moof, Limit { start: media_at, end, zeros_from: end }, ends_in_zeros)?;
            self.fragment(moof, mdat_end, limit);
            self.at = mdat_end;
        }
        Ok(())
    }

    /// Takes a data message. What was not written to its end is passed over: behind it lies what was written later, or nothing.
    fn event(&mut self, bytes: usize) -> Result<(), ScanError> {
        let mut whole = vec![0; bytes];
        read(self.file, self.at, &mut whole)?;
        let found = event::parse(&whole, self.at);
        if let event::Found::Message(event) = found {
            self.events.push(event);
        }
        self.at += bytes as u64;
        if found != event::Found::Torn
            && let Some(last) = &mut self.last
            && self.begin_at == last.mdat_end
        {
            last.events_end = Some(self.at);
        }
        Ok(())
    }

    /// Lowers `zeros_from` of `limit` to what the samples of the fragment really hold.
    ///
    /// Only bytes of samples count, not what a torn write left behind them: it is cut off, and the next scan has to find the same samples without it.
    /// Each round drops a sample at least, or is the last.
    fn limit(&self, moof: &[u8], mut limit: Limit, ends_in_zeros: bool) -> Result<Limit, ScanError> {
        loop {
            let Some(media_end) = self.media_end(moof, limit) else { return Ok(limit) };
            if media_end == limit.end && !ends_in_zeros {
                return Ok(limit);
            }
            limit.zeros_from = zeros_from(self.file, limit.start, media_end)?;
            if self.media_end(moof, limit) == Some(media_end) {
                return Ok(limit);
            }
        }
    }

    /// Where the last sample ends that `limit` lets stay.
    fn media_end(&self, moof: &[u8], limit: Limit) -> Option<u64> {
        let ours = trafs(moof).filter(|traf| self.tracks.iter().any(|(entry, _)| is_of(entry, traf)));
        ours.flat_map(|traf| {
            let kind = traf.kind;
            kept_runs(&traf, moof, self.at, limit).map(move |(run, samples)| {
                let bytes: u64 = run.entries(moof, kind).take(samples).map(|entry| u64::from(entry.bytes)).sum();
                self.at + run.data_offset + bytes
            })
        })
        .max()
    }

    /// Takes the samples of one fragment into the tables.
    fn fragment(&mut self, moof: &[u8], mdat_end: u64, limit: Limit) {
        let moof_at = self.at;
        let mut media_end = 0;
        let begin_at = self.begin_at;
        let mut fragment = None;
        for traf in trafs(moof) {
            let has_video = self.tracks[0].0.kind == TrackKind::Video;
            let Some((_, table)) = self.tracks.iter_mut().find(|(entry, _)| is_of(entry, &traf)) else { continue };
            let mut dts_ms = traf.dts_ms;
            let mut key = None;
            for (run, samples) in kept_runs(&traf, moof, moof_at, limit) {
                let mut offset = moof_at + run.data_offset;
                table.begin_chunk(offset);
                for (index, entry) in run.entries(moof, traf.kind).take(samples).enumerate() {
                    let sync = traf.kind == TrackKind::Audio || (run.key && index == 0);
                    table.push(TableSample { dts_ms, cts_ms: entry.cts_ms, duration_ms: entry.duration_ms, bytes: entry.bytes, sync });
                    key.get_or_insert(!has_video || (sync && traf.kind == TrackKind::Video));
                    dts_ms += u64::from(entry.duration_ms);
                    offset += u64::from(entry.bytes);
                }
                media_end = media_end.max(offset);
            }
            let Some(key) = key else { continue };
            let start_ms = traf.dts_ms as i64 - MEDIA_TIME_BIAS_MS as i64;
            // Video comes first, so that it decides where it has samples.
            fragment.get_or_insert(Fragment { offset: begin_at, bytes: mdat_end - begin_at, start_ms, duration_ms: dts_ms - traf.dts_ms, key });
        }
        if let Some(fragment) = fragment {
            self.fragments.push(fragment);
            let ids = self.tracks.iter().map(|(entry, _)| entry.id).collect();
            self.last = Some(LastFragment { moof_at, moof_bytes: moof.len(), ids, limit, mdat_end, events_end: None, media_end });
            self.begin_at = mdat_end;
        }
    }
}

fn is_of(entry: &TrackEntry, traf: &Traf) -> bool {
    (entry.id, entry.kind) == (traf.track_id, traf.kind)
}

/// Bytes of media that are read with the next header, to see whether a fragment ends in zeros.
const TAIL_BYTES: usize = 16;

/// The size of a `moof` that we may have written.
pub(super) fn moof_bytes(header: &[u8]) -> Option<usize> {
    let bytes = be32(header, 0)? as usize;
    (&header[4..] == b"moof" && (MOOF_HEAD_BYTES..=MOOF_BYTES_MAX).contains(&bytes)).then_some(bytes)
}

/// The runs with how many of their samples lie in the file; ends with the first that is not complete.
fn kept_runs<'a>(traf: &Traf, moof: &'a [u8], moof_at: u64, limit: Limit) -> impl Iterator<Item = (Run, usize)> + use<'a> {
    let kind = traf.kind;
    let mut whole = true;
    traf.runs(moof).map_while(move |run| {
        if !whole {
            return None;
        }
        let mut end = moof_at + run.data_offset;
        let held = run.entries(moof, kind).take_while(|entry| {
            let start = end;
            end += u64::from(entry.bytes);
            limit.holds(start, end)
        });
        let samples = held.count();
        whole = samples == run.samples;
        (samples > 0).then_some((run, samples))
    })
}

impl LastFragment {
    /// What makes its `moof` and `mdat` say exactly what was kept, for players that address the fragment itself. Nothing if they do.
    fn repairs<R: ReadAt + ?Sized>(&self, file: &R) -> Result<Vec<(u64, Vec<u8>)>, ScanError> {
        let mut moof = vec![0; self.moof_bytes];
        read(file, self.moof_at, &mut moof)?;
        let found = moof.clone();
        for traf in trafs(&found) {
            let kept = kept_runs(&traf, &found, self.moof_at, self.limit).last();
            let Some((run, samples)) = kept.filter(|_| self.ids.contains(&traf.track_id)) else {
                moof[traf.range.start + 4..traf.range.start + 8].copy_from_slice(b"free");
                continue;
            };
            let end = run.end_with(traf.kind, samples);
            put32(&mut moof, run.at, end - run.at);
            put32(&mut moof, run.at + 12, samples);
            put32(&mut moof, end, traf.range.end - end);
            moof[end + 4..end + FREE_HEAD_BYTES].copy_from_slice(b"free");
        }
        let mdat_at = self.moof_at + self.moof_bytes as u64;
        let mdat_bytes = (self.media_end - mdat_at) as u32;
        Ok(vec![(self.moof_at, moof), (mdat_at, mdat_bytes.to_be_bytes().to_vec())])
    }
}

fn put32(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 4].copy_from_slice(&(value as u32).to_be_bytes());
}

/// Where the zeros begin that reach up to `end`; `start` if there is nothing else.
fn zeros_from<R: ReadAt + ?Sized>(file: &R, start: u64, end: u64) -> Result<u64, ScanError> {
    let mut buffer = [0; 4096];
    let mut at = end;
    while at > start {
        let count = buffer.len().min((at - start) as usize);
        read(file, at - count as u64, &mut buffer[..count])?;
        at -= count as u64;
        if let Some(index) = buffer[..count].iter().rposition(|byte| *byte != 0) {
            return Ok(at + index as u64 + 1);
        }
    }
    Ok(start)
}

/// Bytes of torn data from `start` on. Zeros behind it were reserved only; a stretch of them as long as a step of the search ends it.
fn torn_bytes<R: ReadAt + ?Sized>(file: &R, start: u64) -> Result<u64, ScanError> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut torn_end) = (start, start);
    while at < file.len() {
        let count = buffer.len().min((file.len() - at) as usize);
        read(file, at, &mut buffer[..count])?;
        // Half a `moov` at the end is an index that was being written, not a frame.
        if at == start && buffer[..count].get(4..8) == Some(b"moov") {
            break;
        }
        let Some(index) = buffer[..count].iter().rposition(|byte| *byte != 0) else { break };
        torn_end = at + index as u64 + 1;
        at += count as u64;
    }
    Ok(torn_end - start)
}

fn plan<R: ReadAt + ?Sized>(
    file: &R,
    head: &Head,
    found: Found<'_>,
    repairs: Vec<(u64, Vec<u8>)>,
    insert_supported: bool,
) -> Result<Mp4Scan, ScanError> {
    let Found { tracks, messages, mut fragments, end: media_end } = found;
    let mut moov = final_moov(head.created, tracks, messages, 0);
    let mut shift = 0;
    let mut at_end = false;
    let mut finished = false;
    if missing_bytes(head, &moov) > 0 {
        finished = file.len() == media_end + moov.len() as u64 && same(file, media_end, &moov)?;
        at_end = finished || !insert_supported;
        // A larger shift may need wider chunk offsets and so, once, a larger moov.
        while !at_end && missing_bytes(head, &moov) > shift {
            shift = missing_bytes(head, &moov).next_multiple_of(HEAD_ALIGN_BYTES as u64);
            moov = final_moov(head.created, tracks, messages, shift);
        }
    }

    let mdat_at = head.bytes + shift - LARGE_HEADER_BYTES as u64;
    let mut mdat_head = 1_u32.to_be_bytes().to_vec();
    mdat_head.extend_from_slice(b"mdat");
    mdat_head.extend_from_slice(&(media_end + shift - mdat_at).to_be_bytes());

    let (mut front, append) = if at_end { (Vec::new(), moov) } else { (moov, Vec::new()) };
    let free_bytes = (mdat_at - FTYP_BYTES) as u32 - front.len() as u32;
    front.extend_from_slice(&free_bytes.to_be_bytes());
    front.extend_from_slice(b"free");

    let mut writes: Vec<_> = repairs.into_iter().map(|(offset, bytes)| (offset + shift, bytes)).collect();
    writes.push((FTYP_BYTES, front));
    writes.push((mdat_at, mdat_head));
    let mut needed = Vec::with_capacity(writes.len());
    for (offset, bytes) in writes {
        // What lies behind the insertion point moves; before it only the front is written, and that changes with an insertion.
        let before = if offset == FTYP_BYTES { offset } else { offset - shift };
        if !same(file, before, &bytes)? {
            needed.push((offset, bytes));
        }
    }
    fragments.iter_mut().for_each(|fragment| fragment.offset += shift);
    let plan = FinishPlan {
        truncate_to: if finished { file.len() } else { media_end },
        insert: (shift > 0).then_some(Insert { offset: INSERT_AT, length: shift }),
        writes: needed,
        append: if finished { Vec::new() } else { append },
        torn_bytes: if finished { 0 } else { torn_bytes(file, media_end)? },
        summary: MediaSummary { data_messages: messages.map_or(0, SampleTable::samples), ..summary(tracks) },
    };
    Ok(Mp4Scan { plan, fragments, shift })
}

/// What the reserve lacks for `moov` and the header of the `free` box behind it.
fn missing_bytes(head: &Head, moov: &[u8]) -> u64 {
    (FTYP_BYTES + (moov.len() + FREE_HEAD_BYTES) as u64).saturating_sub(head.reserve_end)
}

/// The file holds `bytes` at `offset` already.
fn same<R: ReadAt + ?Sized>(file: &R, offset: u64, bytes: &[u8]) -> Result<bool, ScanError> {
    let mut buffer = [0; 4096];
    for (index, part) in bytes.chunks(buffer.len()).enumerate() {
        let found = &mut buffer[..part.len()];
        read(file, offset + (index * 4096) as u64, found)?;
        if found != part {
            return Ok(false);
        }
    }
    Ok(true)
}

fn summary(tracks: &[(TrackEntry, SampleTable)]) -> MediaSummary {
    let start_ms = first_pts_ms(tracks);
    let mut summary = MediaSummary::default();
    for (entry, table) in tracks {
        let Some(timing) = table.timing(start_ms) else { continue };
        summary.duration_ms = summary.duration_ms.max(timing.delay_ms + timing.duration_ms);
        let track = TrackSummary {
            codec: entry.codec.to_owned(),
            frames: table.samples(),
            bytes: table.media_bytes(),
            duration_ms: timing.duration_ms,
            width: u32::from(entry.width),
            height: u32::from(entry.height),
            sample_rate_hz: entry.sample_rate_hz,
            channels: entry.channels,
            key_frames: table.sync_samples(),
        };
        match (entry.kind, entry.id == track_id(entry.kind)) {
            (TrackKind::Video, true) => summary.video = Some(track),
            (TrackKind::Audio, true) => summary.audio = Some(track),
            (TrackKind::Video, false) => summary.further_video.push(track),
            (TrackKind::Audio, false) => summary.further_audio.push(track),
        }
    }
    summary
}
