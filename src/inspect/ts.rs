//! MPEG-2 transport streams of any origin (ISO/IEC 13818-1): packets of 188 bytes, or 192 (with a time before each) and 204 (with parity behind).

use std::collections::BTreeMap;

use super::Report;
use super::report::TrackReport;
use crate::container::window::Window;
use crate::container::{ReadAt, ScanError, TrackSummary};

const SYNC: u8 = 0x47;
const PACKET_BYTES: u64 = 188;
/// Packet identifiers have 13 bits, so no table here grows beyond that.
const PID_MASK: u16 = 0x1FFF;
const PID_NULL: u16 = 0x1FFF;
/// Sync bytes in a row that make a transport stream.
const SYNC_RUN: usize = 3;

/// Where packets lie: from one to the next, and the sync byte of the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    step: u64,
    offset: u64,
}

pub fn packet_layout(head: &[u8]) -> Option<Layout> {
    let fits = |step: usize, offset: usize| {
        let places = (offset..head.len()).step_by(step);
        let count = places.clone().count();
        // A file of one or two packets has no more to show.
        (count >= SYNC_RUN || head.len() == offset + count * step) && count > 0 && places.take(SYNC_RUN).all(|place| head[place] == SYNC)
    };
    [(188, 0), (192, 4), (204, 0)]
        .into_iter()
        .find(|(step, offset)| fits(*step, *offset))
        .map(|(step, offset)| Layout { step: step as u64, offset: offset as u64 })
}

#[derive(Default)]
struct Stream {
    /// `stream_type` of the PMT.
    kind: Option<u8>,
    packets: u64,
    bytes: u64,
    units: u64,
    key_frames: u64,
    counter: Option<u8>,
    jumps: u64,
    scrambled: bool,
    pts: Option<(i64, i64)>,
    pts_last: i64,
}

pub fn explain<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, layout: Layout) -> Result<Report, ScanError> {
    let mut report = Report::new("MPEG-TS");
    let mut streams: BTreeMap<u16, Stream> = BTreeMap::new();
    let mut programs: BTreeMap<u16, ()> = BTreeMap::new();
    let mut at = layout.offset;
    let end = window.file_len();
    let mut packets = 0_u64;
    while at < end {
        let Some(packet) = window.array::<{ PACKET_BYTES as usize }>(at)? else {
            report.fault(format!("the last packet is cut: {} of {PACKET_BYTES} bytes are there", end - at));
            break;
        };
        if packet[0] != SYNC {
            let lost = at;
            if window.zeros_behind(at)? {
                report.fault(format!("the last {} bytes are zeros: room that was never written", end - at));
                break;
            }
            while at < end && !(window.at(at, 1)? == [SYNC] && (at + layout.step >= end || window.at(at + layout.step, 1)? == [SYNC])) {
                at += 1;
            }
            report.fault(format!("{} bytes from byte {lost} on are no packets", at - lost));
            continue;
        }
        packets += 1;
        take(&mut streams, &mut programs, &packet);
        at += layout.step;
    }
    report.note(format!("{packets} packets, {} streams of data.", streams.len()));
    if programs.is_empty() {
        report.fault("no PAT names a program: players have to guess what is in it");
    }
    for (pid, stream) in streams {
        describe(pid, stream, &mut report);
    }
    Ok(report)
}

fn take(streams: &mut BTreeMap<u16, Stream>, programs: &mut BTreeMap<u16, ()>, packet: &[u8; PACKET_BYTES as usize]) {
    let pid = u16::from_be_bytes([packet[1], packet[2]]) & PID_MASK;
    if pid == PID_NULL {
        return;
    }
    let (unit_start, control) = (packet[1] & 0x40 != 0, packet[3]);
    let has_payload = control & 0x10 != 0;
    let adaptation_bytes = if control & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
    let adaptation_flags = if adaptation_bytes > 1 { packet[5] } else { 0 };
    let payload = packet.get(4 + adaptation_bytes..).filter(|_| has_payload).unwrap_or_default();
    if pid == 0 {
        for program in section(payload, unit_start, 0).unwrap_or_default().get(5..).unwrap_or_default().chunks_exact(4) {
            if program[..2] != [0, 0] {
                programs.insert(u16::from_be_bytes([program[2], program[3]]) & PID_MASK, ());
            }
        }
        return;
    }
    if programs.contains_key(&pid) {
        let body = section(payload, unit_start, 2).unwrap_or_default();
        let descriptors = usize::from(u16::from_be_bytes([body.get(7).copied().unwrap_or(0), body.get(8).copied().unwrap_or(0)]) & 0x0FFF);
        let mut at = 9 + descriptors;
        while let Some(&[kind, high, low, length_high, length_low]) = body.get(at..).and_then(|rest| rest.first_chunk::<5>()) {
            streams.entry(u16::from_be_bytes([high, low]) & PID_MASK).or_default().kind = Some(kind);
            at += 5 + usize::from(u16::from_be_bytes([length_high, length_low]) & 0x0FFF);
        }
        return;
    }
    if pid < 0x20 {
        return;
    }
    let stream = streams.entry(pid).or_default();
    stream.packets += 1;
    stream.bytes += payload.len() as u64;
    stream.scrambled |= control & 0xC0 != 0;
    let counter = control & 0x0F;
    // Only payload counts up; the same number twice is a repetition, and a marked discontinuity may do anything.
    if has_payload && adaptation_flags & 0x80 == 0 {
        stream.jumps += u64::from(stream.counter.is_some_and(|last| counter != (last + 1) & 0x0F && counter != last));
    }
    if has_payload {
        stream.counter = Some(counter);
    }
    if unit_start && let [0, 0, 1, _, _, _, _, flags, _, rest @ ..] = payload {
        stream.units += 1;
        stream.key_frames += u64::from(adaptation_flags & 0x40 != 0);
        if flags & 0x80 != 0
            && let Some(&[a, b, c, d, e]) = rest.first_chunk::<5>()
        {
            let [a, b, c, d, e] = [a, b, c, d, e].map(i64::from);
            let ticks = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1;
            // 33 bits wrap: the value nearest to the one before.
            let pts =
                if stream.pts.is_some() { stream.pts_last + ((ticks - stream.pts_last + (1 << 32)) & ((1 << 33) - 1)) - (1 << 32) } else { ticks };
            stream.pts_last = pts;
            stream.pts = Some(stream.pts.map_or((pts, pts), |(least, most)| (least.min(pts), most.max(pts))));
        }
    }
}

/// What lies between the length and the CRC of a section that begins in this packet; `None` if it is another table or goes on in the next packet.
fn section(payload: &[u8], unit_start: bool, table: u8) -> Option<&[u8]> {
    let section = payload.get(1 + usize::from(*payload.first()?)..).filter(|_| unit_start)?;
    let length = usize::from(u16::from_be_bytes([*section.get(1)?, *section.get(2)?]) & 0x0FFF);
    (section[0] == table && length >= 9).then(|| section.get(3..3 + length - 4)).flatten()
}

fn describe(pid: u16, stream: Stream, report: &mut Report) {
    let (kind, codec) = match stream.kind {
        Some(0x01 | 0x02) => ("video", "mpeg2"),
        Some(0x03 | 0x04) => ("audio", "mp3"),
        Some(0x0F) => ("audio", "aac"),
        Some(0x11) => ("audio", "aac-latm"),
        Some(0x10) => ("video", "mpeg4"),
        Some(0x1B) => ("video", "h264"),
        Some(0x24) => ("video", "hevc"),
        Some(0x81) => ("audio", "ac3"),
        Some(0x87) => ("audio", "eac3"),
        _ => ("other", ""),
    };
    if stream.kind.is_none() && stream.packets > 0 {
        report.fault(format!("stream {pid:#06x} is named by no PMT"));
    }
    if stream.packets == 0 {
        report.fault(format!("stream {pid:#06x} ({kind}) is announced and has no packet"));
    }
    if stream.jumps > 0 {
        report.fault(format!("stream {pid:#06x}: the continuity counter jumps {} times, so packets are missing there", stream.jumps));
    }
    if stream.scrambled {
        report.fault(format!("stream {pid:#06x} is scrambled"));
    }
    let duration_ms = stream.pts.map_or(0, |(least, most)| ((most - least) / 90).max(0) as u64);
    let codec = codec.to_owned();
    let summary =
        TrackSummary { codec, frames: stream.units, bytes: stream.bytes, duration_ms, key_frames: stream.key_frames, ..TrackSummary::default() };
    report.tracks.push(TrackReport { kind, summary });
}
