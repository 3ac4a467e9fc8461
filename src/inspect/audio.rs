//! Elementary audio: ADTS (ISO/IEC 14496-3, 1.A.2) and MP3 (ISO/IEC 11172-3), with the tags that players put around them.

use super::Report;
use super::report::TrackReport;
use crate::codec::aac::{ADTS_HEADER_BYTES, channels_of_access_unit, parse_adts_header};
use crate::codec::mp3::{MP3_HEADER_BYTES, parse_mp3_header};
use crate::container::window::Window;
use crate::container::{ReadAt, ScanError, TrackSummary};

const ID3V2_HEADER_BYTES: usize = 10;
const ID3V1_BYTES: u64 = 128;
/// The first frame is searched this far; further out a frame header is chance.
const FIRST_FRAME_BYTES_MAX: u64 = 64 << 10;

/// One frame header, whichever of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Frame {
    adts: bool,
    bytes: u64,
    header_bytes: u64,
    samples: u32,
    sample_rate_hz: u32,
    channels: u8,
}

/// `None`: neither of the two.
pub fn explain<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, head: &[u8]) -> Result<Option<Report>, ScanError> {
    let mut at = id3v2_bytes(head);
    let tag_bytes = at;
    let Some(first) = first_frame(window, &mut at)? else { return Ok(None) };
    let mut report = Report::new(if first.adts { "ADTS" } else { "MP3" });
    if tag_bytes > 0 {
        report.note(format!("An ID3v2 tag of {tag_bytes} bytes comes first."));
    }
    if at > tag_bytes {
        report.fault(format!("{} bytes before the first frame are no audio", at - tag_bytes));
    }
    let end = window.file_len();
    let mut track = TrackSummary { sample_rate_hz: first.sample_rate_hz, channels: first.channels, ..TrackSummary::default() };
    track.codec = if first.adts { "aac" } else { "mp3" }.to_owned();
    let mut samples = 0_u64;
    let mut changed = false;
    while at < end {
        match frame_at(window, at)?.filter(|frame| frame.adts == first.adts) {
            Some(frame) if at + frame.bytes <= end => {
                track.frames += 1;
                track.bytes += frame.bytes - if frame.adts { frame.header_bytes } else { 0 };
                samples += u64::from(frame.samples);
                if !changed && (frame.sample_rate_hz, frame.channels) != (first.sample_rate_hz, first.channels) {
                    changed = true;
                    report.fault(format!(
                        "from byte {at} on the sampling rate or the channels are others: {} Hz, {}",
                        frame.sample_rate_hz, frame.channels
                    ));
                }
                at += frame.bytes;
            }
            Some(frame) => {
                report.fault(format!("the last frame is cut: {} of {} bytes are there", end - at, frame.bytes));
                break;
            }
            None if end - at == ID3V1_BYTES && window.array::<3>(at)? == Some(*b"TAG") => {
                report.note("An ID3v1 tag comes last.");
                break;
            }
            None if window.zeros_behind(at)? => {
                report.fault(format!("the last {} bytes are zeros: room that was never written", end - at));
                break;
            }
            None => {
                let lost = at;
                while at < end && !is_frame_run(window, at, first.adts)? {
                    at += 1;
                }
                report.fault(format!("{} bytes from byte {lost} on are no audio", at - lost));
            }
        }
    }
    track.duration_ms = samples * 1000 / u64::from(first.sample_rate_hz.max(1));
    report.tracks.push(TrackReport { kind: "audio", summary: track });
    Ok(Some(report))
}

/// Bytes of an ID3v2 tag at the start; 0 without one. Its size is four times seven bits.
fn id3v2_bytes(head: &[u8]) -> u64 {
    match head {
        [b'I', b'D', b'3', _, _, _, a, b, c, d, ..] => {
            ID3V2_HEADER_BYTES as u64 + [a, b, c, d].into_iter().fold(0, |size, byte| size << 7 | u64::from(byte & 0x7F))
        }
        _ => 0,
    }
}

fn first_frame<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, at: &mut u64) -> Result<Option<Frame>, ScanError> {
    let end = window.file_len().min(at.saturating_add(FIRST_FRAME_BYTES_MAX));
    while *at < end {
        if let Some(frame) = frame_at(window, *at)?
            && is_frame_run(window, *at, frame.adts)?
        {
            return Ok(Some(frame));
        }
        *at += 1;
    }
    Ok(None)
}

/// A frame that ends with the file, or another one behind it: a single sync word may be chance.
fn is_frame_run<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, at: u64, adts: bool) -> Result<bool, ScanError> {
    let Some(frame) = frame_at(window, at)?.filter(|frame| frame.adts == adts) else { return Ok(false) };
    let next = at + frame.bytes;
    Ok(next == window.file_len() || frame_at(window, next)?.is_some_and(|next| next.adts == adts))
}

fn frame_at<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, at: u64) -> Result<Option<Frame>, ScanError> {
    if let Some(frame) = window.array::<ADTS_HEADER_BYTES>(at)?.and_then(parse_adts_header) {
        let (bytes, header_bytes) = (frame.frame_bytes as u64, frame.header_bytes as u64);
        let (samples, sample_rate_hz, mut channels) = (frame.samples, frame.sample_rate_hz, frame.channels);
        if channels == 0 {
            channels = channels_of_access_unit(window.at(at + header_bytes, frame.frame_bytes - frame.header_bytes)?).unwrap_or(0);
        }
        return Ok(Some(Frame { adts: true, bytes, header_bytes, samples, sample_rate_hz, channels }));
    }
    let frame = window.array::<MP3_HEADER_BYTES>(at)?.and_then(|header| parse_mp3_header(header).ok());
    Ok(frame.map(|frame| Frame {
        adts: false,
        bytes: u64::from(frame.frame_bytes),
        header_bytes: MP3_HEADER_BYTES as u64,
        samples: frame.samples_per_frame,
        sample_rate_hz: frame.sample_rate_hz,
        channels: frame.channels,
    }))
}
