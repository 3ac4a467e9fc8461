//! Reading back what was written: where the last whole frame ends, what the file holds, and where its segments begin.

use super::tables::Program;
use super::tally::{Kind, Tally};
use super::{
    HAS_ADAPTATION, HAS_PAYLOAD, PACKET_BYTES, PACKET_HEADER_BYTES, PAYLOAD_UNIT_START, PID_AUDIO, PID_MESSAGES, PID_PAT, PID_PMT, PID_VIDEO,
    RANDOM_ACCESS, SYNC_BYTE, TRANSPORT_PRIORITY,
};
use crate::container::mp4::Fragment;
use crate::container::window::{WINDOW_BYTES, Window, apply};
use crate::container::{FinishPlan, ReadAt, ScanError, hls};
use crate::media::AudioCodec;

/// A PAT and a PMT.
const TABLES_BYTES: usize = 2 * PACKET_BYTES;
/// What a transport stream holds, and its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsScan {
    pub plan: FinishPlan,
    /// In order, each with a whole frame at least.
    pub segments: Vec<TsSegment>,
    /// The first presentation of all tracks, in milliseconds since the `zero_ms` of the writer.
    pub begin_ms: i64,
}

impl TsScan {
    /// The segments, as a playlist takes them: each ends where the next begins.
    pub fn fragments(&self) -> Vec<Fragment> {
        let first_ms = self.segments.first().map_or(0, |segment| segment.pts_ms);
        let end = (self.plan.truncate_to, first_ms.saturating_add_unsigned(self.plan.summary.duration_ms));
        let ends = self.segments.iter().skip(1).map(|next| (next.offset, next.pts_ms)).chain([end]);
        let until = |(segment, (end_offset, end_ms)): (&TsSegment, (u64, i64))| {
            hls::TsStart { offset: segment.offset, start_ms: segment.pts_ms, key: segment.key }.until(end_offset, end_ms)
        };
        self.segments.iter().zip(ends).map(until).collect()
    }
}

/// Where an HLS segment begins. It ends where the next begins, the last one at [`FinishPlan::truncate_to`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TsSegment {
    /// Of its PAT.
    pub offset: u64,
    /// Presentation time of its first frame (of video, if there is video), in milliseconds since the `zero_ms` of the writer.
    pub pts_ms: i64,
    /// Its first video frame is a key frame, or there is no video.
    pub key: bool,
}

/// Walks the packets to the end of the last whole frame.
///
/// A packet that is none of ours, a continuity counter out of step, or a frame that begins before the one under way has ended: that is where the
/// file is torn, and what follows is cut off.
///
/// A hole at the beginning, where the disk has not taken the first write, gets tables at its end: frames behind it are for every reader.
///
/// # Errors
/// [`ScanError::Head`] for a file without PAT and PMT at its beginning (or behind a hole there), [`ScanError::Empty`] without a whole frame, [`ScanError::Read`].
pub fn scan<R: ReadAt + ?Sized>(file: &R) -> Result<TsScan, ScanError> {
    let mut window = Window::new(file);
    if window.file_len() < PACKET_BYTES as u64 {
        return Err(ScanError::Empty);
    }
    if let Some(program) = program_at(&mut window, 0)? {
        let mut walk = Walk::new(program);
        walk_from(&mut window, &mut walk, 0)?;
        return walk.tally.finish(walk.whole_end, window.torn_bytes(walk.whole_end)?);
    }
    if window.array::<PACKET_BYTES>(0)?.is_some_and(|packet| packet == [0; PACKET_BYTES]) {
        return scan_behind_hole(&mut window);
    }
    Err(ScanError::Head { what: "no PAT and PMT" })
}

fn scan_behind_hole<R: ReadAt + ?Sized>(window: &mut Window<'_, R>) -> Result<TsScan, ScanError> {
    let mut tables_at = PACKET_BYTES as u64;
    let program = loop {
        if let Some(program) = program_at(window, tables_at)? {
            break program;
        }
        tables_at += PACKET_BYTES as u64;
        if tables_at + TABLES_BYTES as u64 > window.file_len() {
            return Err(ScanError::Empty);
        }
    };
    let tables = window.array::<TABLES_BYTES>(tables_at)?.ok_or(ScanError::Empty)?;
    let mut from = TABLES_BYTES as u64;
    loop {
        let first = frame_start(window, from, tables_at)?;
        if first >= tables_at {
            break;
        }
        // What the new tables take the place of is the hole, or the end of a frame that begins in it.
        let (begin, new) = (first - TABLES_BYTES as u64, tables_before(tables));
        let mut walk = Walk::new(program);
        walk.tally.start_segment(begin);
        walk.tables_counters = [0, 1].map(|table| Some(new[table * PACKET_BYTES + 3] & 0x0f));
        let end = walk_from(window, &mut walk, first)?;
        if end >= tables_at {
            let mut found = walk.tally.finish(walk.whole_end, window.torn_bytes(walk.whole_end)?)?;
            found.plan.writes.push((begin, new.to_vec()));
            if let Some(before) = begin.checked_sub(PACKET_BYTES as u64).filter(|_| from > TABLES_BYTES as u64) {
                // What lies between the holes stays apart, whatever is left of the one behind it.
                found.plan.writes.push((before, vec![0; PACKET_BYTES]));
            }
            return Ok(found);
        }
        // Another hole: nothing leads from what lies before it to what lies behind.
        from = end.max(first) + PACKET_BYTES as u64;
    }
    let mut walk = Walk::new(program);
    walk.tally.start_segment(tables_at);
    walk_from(window, &mut walk, tables_at)?;
    walk.tally.finish(walk.whole_end, window.torn_bytes(walk.whole_end)?)
}

/// Where the first packet from `from` on lies that begins a frame; `until`, if none before does.
fn frame_start<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, from: u64, until: u64) -> Result<u64, ScanError> {
    let mut offset = from;
    while offset < until {
        let Some(bytes) = window.array::<PACKET_BYTES>(offset)? else { break };
        if Packet::parse(&bytes).is_some_and(|packet| packet.unit_start && ![PID_PAT, PID_PMT].contains(&packet.pid)) {
            return Ok(offset);
        }
        offset += PACKET_BYTES as u64;
    }
    Ok(until)
}

/// The PAT and PMT that come before these and begin a segment.
fn tables_before(mut tables: [u8; TABLES_BYTES]) -> [u8; TABLES_BYTES] {
    tables[1] |= TRANSPORT_PRIORITY;
    for packet in tables.as_chunks_mut::<PACKET_BYTES>().0 {
        packet[3] = packet[3] & 0xf0 | (packet[3].wrapping_sub(1) & 0x0f);
    }
    tables
}

/// Takes packets from `offset` on, up to one that does not follow; returns where that is.
fn walk_from<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, walk: &mut Walk, mut offset: u64) -> Result<u64, ScanError> {
    while let Some(bytes) = window.array::<PACKET_BYTES>(offset)? {
        let packet_end = offset + PACKET_BYTES as u64;
        let Some(packet) = Packet::parse(&bytes) else { break };
        if walk.may_be_torn(&packet) && window.file_len() > packet_end && window.zeros_behind(packet_end)? {
            break;
        }
        match walk.take(offset, &packet) {
            Some(Taken::FrameEnd) => walk.whole_end = packet_end,
            Some(Taken::More) => {}
            None => break,
        }
        offset = packet_end;
    }
    Ok(offset)
}

/// What the PAT and PMT at `offset` say, if they are there.
fn program_at<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, offset: u64) -> Result<Option<Program>, ScanError> {
    let packets = window.array::<TABLES_BYTES>(offset)?;
    Ok(packets.as_ref().and_then(|packets| {
        let pat = Packet::parse(&packets[..PACKET_BYTES])?;
        let pmt = Packet::parse(&packets[PACKET_BYTES..])?;
        ((pat.pid, pmt.pid) == (PID_PAT, PID_PMT)).then(|| Program::parse_pmt(pmt.payload)).flatten()
    }))
}

pub(super) struct Packet<'a> {
    pub pid: u16,
    pub unit_start: bool,
    pub priority: bool,
    pub random_access: bool,
    counter: u8,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` for a packet that we do not write.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[sync, flags, pid_low, control], rest) = bytes.split_first_chunk::<PACKET_HEADER_BYTES>()?;
        if sync != SYNC_BYTE || flags & 0x80 != 0 || control & HAS_PAYLOAD == 0 || control & 0xc0 != 0 {
            return None;
        }
        let (adaptation, payload) = if control & HAS_ADAPTATION != 0 {
            let (&length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(length))?
        } else {
            (&[][..], rest)
        };
        Some(Self {
            pid: u16::from_be_bytes([flags & 0x1f, pid_low]),
            unit_start: flags & PAYLOAD_UNIT_START != 0,
            priority: flags & TRANSPORT_PRIORITY != 0,
            random_access: adaptation.first().is_some_and(|flags| flags & RANDOM_ACCESS != 0),
            counter: control & 0x0f,
            payload,
        })
    }
}

/// Times and stream bytes at the beginning of a PES packet.
#[derive(Clone, Copy)]
pub(super) struct PesStart<'a> {
    pub pts_ticks: i64,
    pub dts_ticks: i64,
    pub stream: &'a [u8],
}

impl<'a> PesStart<'a> {
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (&[0, 0, 1, _stream_id, _, _, _, flags, header_bytes], rest) = payload.split_first_chunk::<9>()? else { return None };
        let (times, stream) = rest.split_at_checked(usize::from(header_bytes))?;
        let pts_ticks = ticks(*times.first_chunk()?);
        let dts_ticks = if flags & 0x40 != 0 { ticks(*times.get(5..)?.first_chunk()?) } else { pts_ticks };
        (flags & 0x80 != 0).then_some(Self { pts_ticks, dts_ticks, stream })
    }
}

fn ticks(field: [u8; 5]) -> i64 {
    let [a, b, c, d, e] = field.map(i64::from);
    (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
}

enum Taken {
    FrameEnd,
    More,
}

struct Walk {
    tally: Tally,
    /// The track whose frame has begun and not ended.
    under_way: Option<u16>,
    tables_counters: [Option<u8>; 2],
    /// Of video, audio and messages.
    media_counters: [Option<u8>; 3],
    whole_end: u64,
}

impl Walk {
    fn new(program: Program) -> Self {
        Self { tally: Tally::new(program), under_way: None, tables_counters: [None; 2], media_counters: [None; 3], whole_end: 0 }
    }

    /// The packet's end may be preallocated zeros: it ends a frame in a zero byte, as neither a NAL unit (ISO/IEC 14496-10, 7.4.1) nor an AAC access
    /// unit does, nor the JSON of a message. MP3 frames do.
    fn may_be_torn(&self, packet: &Packet<'_>) -> bool {
        let ends_never_in_zero = match packet.pid {
            PID_VIDEO | PID_MESSAGES => true,
            PID_AUDIO => self.tally.program().audio.is_some_and(|audio| audio.codec() == AudioCodec::Aac),
            _ => false,
        };
        ends_never_in_zero && packet.priority && packet.payload.last() == Some(&0)
    }

    /// `None` if the packet does not follow the ones before.
    fn take(&mut self, offset: u64, packet: &Packet<'_>) -> Option<Taken> {
        match packet.pid {
            PID_PAT | PID_PMT => self.take_table(offset, packet),
            PID_VIDEO | PID_AUDIO | PID_MESSAGES => self.take_media(packet),
            _ => None,
        }
    }

    fn take_table(&mut self, offset: u64, packet: &Packet<'_>) -> Option<Taken> {
        if self.under_way.is_some() || !packet.unit_start {
            return None;
        }
        let is_pat = packet.pid == PID_PAT;
        follows(&mut self.tables_counters[usize::from(!is_pat)], packet.counter)?;
        if is_pat && packet.priority {
            self.tally.start_segment(offset);
        }
        Some(Taken::More)
    }

    fn take_media(&mut self, packet: &Packet<'_>) -> Option<Taken> {
        let kind = match packet.pid {
            PID_VIDEO => Kind::Video,
            PID_AUDIO => Kind::Audio,
            _ => Kind::Messages,
        };
        follows(&mut self.media_counters[kind as usize], packet.counter)?;
        let mut stream = packet.payload;
        if packet.unit_start {
            if self.under_way.is_some() {
                return None;
            }
            let start = PesStart::parse(packet.payload)?;
            stream = start.stream;
            self.tally.begin(kind, (start.pts_ticks, start.dts_ticks), packet.random_access);
            self.tally.look_at_begin(kind, stream);
            self.under_way = Some(packet.pid);
        } else if self.under_way != Some(packet.pid) {
            return None;
        }
        self.tally.take(kind, stream.len());
        self.tally.look_at(kind, stream);
        if !packet.priority {
            return Some(Taken::More);
        }
        self.under_way = None;
        self.tally.end(kind);
        Some(Taken::FrameEnd)
    }
}

/// Continuity counters count up by one from packet to packet of a PID.
fn follows(last: &mut Option<u8>, counter: u8) -> Option<()> {
    let expected = last.map_or(counter, |last| (last + 1) & 0x0f);
    *last = Some(counter);
    (counter == expected).then_some(())
}

/// Finishing what was finished changes nothing, whatever the file; segments lie inside it.
pub fn fuzz_ts_scan(data: &[u8]) {
    super::fuzz_ts_remux(data);
    super::seal::fuzz_sealed(data);
    let Ok(found) = scan(data) else { return };
    let finished = apply(&found.plan, data);
    assert!(found.segments.is_sorted_by(|a, b| a.offset < b.offset));
    assert!(found.segments.iter().all(|segment| segment.offset < finished.len() as u64));
    let again = scan(finished.as_slice()).expect("what we finished can be read");
    assert_eq!((again.plan.truncate_to, again.plan.torn_bytes), (finished.len() as u64, 0));
    assert_eq!((again.plan.summary, again.segments), (found.plan.summary, found.segments));
}

const _: () = assert!(TABLES_BYTES <= WINDOW_BYTES);
