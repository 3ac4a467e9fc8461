//! The `moov` box, for a file that goes on (with `mvex`) and for a finished one, and reading back what we wrote.

use super::fragment::{AUDIO_TRACK_ID, VIDEO_TRACK_ID, default_flags, track_id};
use super::tables::{SampleTable, Timing};
use crate::container::boxes::{BoxWriter, be16, be32, boxes, find};
use crate::media::{AudioCodec, AudioTrack, TrackKind, Tracks, VideoTrack};

/// Ticks a second of movie and tracks: RTMP's milliseconds.
const TIMESCALE: u32 = 1_000;
/// Unity matrix of `mvhd` and `tkhd` (ISO/IEC 14496-12, 6.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// `und` as packed ISO 639-2/T code (8.4.2.3).
const LANGUAGE_UNDETERMINED: u16 = 0x55C4;
/// Object type indications (ISO/IEC 14496-1, 7.2.6.6): MPEG-4 audio, MPEG-2 audio part 3, MPEG-1 audio.
const OTI_AAC: u8 = 0x40;
const OTI_MP3_MPEG2: u8 = 0x69;
const OTI_MP3_MPEG1: u8 = 0x6B;
/// The lowest sampling rate of MPEG-1 audio; lower ones belong to MPEG-2.
const MPEG1_RATE_HZ_MIN: u32 = 32_000;

/// What a file says of one track; the `stsd` box is carried over verbatim from the initial `moov` into the final one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackEntry {
    pub kind: TrackKind,
    /// `h264`, `aac`, `mp3`.
    pub codec: &'static str,
    pub width: u16,
    pub height: u16,
    pub sample_rate_hz: u32,
    pub channels: u8,
    stsd: Vec<u8>,
}

impl TrackEntry {
    /// The whole `stsd` box.
    pub fn stsd(&self) -> &[u8] {
        &self.stsd
    }
}

/// The tracks as the file will name them, video first.
pub fn entries(tracks: &Tracks) -> Vec<TrackEntry> {
    let video = tracks.video.as_deref().map(|video| TrackEntry {
        kind: TrackKind::Video,
        codec: video.codec.name(),
        width: u16::try_from(video.width).unwrap_or(u16::MAX),
        height: u16::try_from(video.height).unwrap_or(u16::MAX),
        sample_rate_hz: 0,
        channels: 0,
        stsd: stsd(|out| avc1(out, video)),
    });
    let audio = tracks.audio.as_deref().map(|audio| TrackEntry {
        kind: TrackKind::Audio,
        codec: audio.codec.name(),
        width: 0,
        height: 0,
        sample_rate_hz: audio.sample_rate_hz,
        channels: audio.channels,
        stsd: stsd(|out| mp4a(out, audio)),
    });
    video.into_iter().chain(audio).collect()
}

/// The `moov` before the first fragment. `bias_ms`: media time at which the presentation begins, taken off by an edit list.
pub fn fragmented_moov(out: &mut BoxWriter, entries: &[TrackEntry], bias_ms: Option<u64>) {
    let empty = SampleTable::default();
    out.container(b"moov", |out| {
        mvhd(out, 0);
        for entry in entries {
            // A duration of 0 in a fragmented movie: to the end of what the fragments bring (8.6.6).
            let timing = Timing { media_time_ms: bias_ms.unwrap_or(0), ..Timing::default() };
            trak(out, entry, &empty, bias_ms.is_some(), &timing, 0);
        }
        out.container(b"mvex", |out| {
            for entry in entries {
                out.full(b"trex", 0, 0, |out| {
                    out.u32(track_id(entry.kind));
                    out.u32(1);
                    out.u32(0);
                    out.u32(0);
                    out.u32(default_flags(entry.kind));
                });
            }
        });
    });
}

/// The `moov` of the finished file. Tracks without a sample are left out. `shift_bytes` is added to every chunk offset.
pub fn final_moov(tracks: &[(TrackEntry, SampleTable)], shift_bytes: u64) -> Vec<u8> {
    let start_ms = first_pts_ms(tracks);
    let capacity: usize = tracks.iter().map(|(_, table)| table.bytes()).sum();
    let mut out = BoxWriter::with_capacity(capacity + (4 << 10));
    out.container(b"moov", |out| {
        let timed = || tracks.iter().filter_map(|(entry, table)| Some((entry, table, table.timing(start_ms)?)));
        mvhd(out, timed().map(|(_, _, timing)| timing.delay_ms + timing.duration_ms).max().unwrap_or(0));
        for (entry, table, timing) in timed() {
            trak(out, entry, table, true, &timing, shift_bytes);
        }
    });
    out.into_bytes()
}

/// The smallest presentation time of all tracks.
pub fn first_pts_ms(tracks: &[(TrackEntry, SampleTable)]) -> i64 {
    tracks.iter().filter_map(|(_, table)| table.first_pts_ms()).min().unwrap_or(0)
}

fn version_for(duration_ms: u64) -> u8 {
    u8::from(duration_ms > u64::from(u32::MAX))
}

fn time(out: &mut BoxWriter, version: u8, value: u64) {
    match version {
        0 => out.u32(value as u32),
        _ => out.u64(value),
    }
}

fn mvhd(out: &mut BoxWriter, duration_ms: u64) {
    let version = version_for(duration_ms);
    out.full(b"mvhd", version, 0, |out| {
        time(out, version, 0);
        time(out, version, 0);
        out.u32(TIMESCALE);
        time(out, version, duration_ms);
        out.u32(0x1_0000);
        out.u16(0x0100);
        out.zeros(10);
        MATRIX.iter().for_each(|value| out.u32(*value));
        out.zeros(24);
        out.u32(AUDIO_TRACK_ID + 1);
    });
}

fn trak(out: &mut BoxWriter, entry: &TrackEntry, table: &SampleTable, edit: bool, timing: &Timing, shift_bytes: u64) {
    let is_video = entry.kind == TrackKind::Video;
    let track_ms = timing.delay_ms + timing.duration_ms;
    out.container(b"trak", |out| {
        let version = version_for(track_ms);
        // Enabled and in the movie (8.3.2).
        out.full(b"tkhd", version, 3, |out| {
            time(out, version, 0);
            time(out, version, 0);
            out.u32(track_id(entry.kind));
            out.u32(0);
            time(out, version, track_ms);
            out.zeros(8);
            out.u16(0);
            out.u16(0);
            out.u16(if is_video { 0 } else { 0x0100 });
            out.u16(0);
            MATRIX.iter().for_each(|value| out.u32(*value));
            out.u32(u32::from(entry.width) << 16);
            out.u32(u32::from(entry.height) << 16);
        });
        if edit {
            edts(out, timing);
        }
        out.container(b"mdia", |out| {
            let version = version_for(timing.media_ms);
            out.full(b"mdhd", version, 0, |out| {
                time(out, version, 0);
                time(out, version, 0);
                out.u32(TIMESCALE);
                time(out, version, timing.media_ms);
                out.u16(LANGUAGE_UNDETERMINED);
                out.u16(0);
            });
            out.full(b"hdlr", 0, 0, |out| {
                out.u32(0);
                out.raw(if is_video { b"vide" } else { b"soun" });
                out.zeros(12);
                out.raw(if is_video { b"VideoHandler\0" } else { b"SoundHandler\0" });
            });
            out.container(b"minf", |out| {
                match is_video {
                    true => out.full(b"vmhd", 0, 1, |out| out.zeros(8)),
                    false => out.full(b"smhd", 0, 0, |out| out.zeros(4)),
                }
                out.container(b"dinf", |out| {
                    out.full(b"dref", 0, 0, |out| {
                        out.u32(1);
                        // The media are in this file (8.7.2).
                        out.full(b"url ", 0, 1, |_| {});
                    });
                });
                out.container(b"stbl", |out| {
                    out.raw(&entry.stsd);
                    table.write(out, shift_bytes);
                });
            });
        });
    });
}

/// Edit list (8.6.5, 8.6.6): an empty edit for a track that starts later than the first, then its media from its first presentation on.
fn edts(out: &mut BoxWriter, timing: &Timing) {
    let version = version_for(timing.delay_ms.max(timing.duration_ms).max(timing.media_time_ms));
    out.container(b"edts", |out| {
        out.full(b"elst", version, 0, |out| {
            out.u32(if timing.delay_ms > 0 { 2 } else { 1 });
            if timing.delay_ms > 0 {
                time(out, version, timing.delay_ms);
                time(out, version, u64::MAX);
                out.u32(0x1_0000);
            }
            time(out, version, timing.duration_ms);
            time(out, version, timing.media_time_ms);
            out.u32(0x1_0000);
        });
    });
}

fn stsd(entry: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
    let mut out = BoxWriter::default();
    out.full(b"stsd", 0, 0, |out| {
        out.u32(1);
        entry(out);
    });
    out.into_bytes()
}

/// `AVCSampleEntry` (ISO/IEC 14496-15, 5.4.2.1).
fn avc1(out: &mut BoxWriter, video: &VideoTrack) {
    out.container(b"avc1", |out| {
        out.zeros(6);
        out.u16(1);
        out.zeros(16);
        out.u16(u16::try_from(video.width).unwrap_or(u16::MAX));
        out.u16(u16::try_from(video.height).unwrap_or(u16::MAX));
        out.u32(0x48_0000);
        out.u32(0x48_0000);
        out.u32(0);
        out.u16(1);
        out.zeros(32);
        out.u16(0x18);
        out.u16(0xFFFF);
        out.container(b"avcC", |out| out.raw(&video.config));
    });
}

/// `MP4AudioSampleEntry` (ISO/IEC 14496-14, 5.6).
fn mp4a(out: &mut BoxWriter, audio: &AudioTrack) {
    let object_type = match audio.codec {
        AudioCodec::Aac => OTI_AAC,
        AudioCodec::Mp3 if audio.sample_rate_hz >= MPEG1_RATE_HZ_MIN => OTI_MP3_MPEG1,
        AudioCodec::Mp3 => OTI_MP3_MPEG2,
    };
    out.container(b"mp4a", |out| {
        out.zeros(6);
        out.u16(1);
        out.zeros(8);
        out.u16(u16::from(audio.channels));
        out.u16(16);
        out.u32(0);
        // 16.16; rates beyond it are told by the AudioSpecificConfig alone.
        out.u32(u16::try_from(audio.sample_rate_hz).map_or(0, |rate_hz| u32::from(rate_hz) << 16));
        out.full(b"esds", 0, 0, |out| {
            // ES_Descriptor, DecoderConfigDescriptor, DecoderSpecificInfo, SLConfigDescriptor (ISO/IEC 14496-1, 7.2.6).
            let specific_bytes = if audio.config.is_empty() { 0 } else { DESCRIPTOR_HEAD_BYTES + audio.config.len() };
            descriptor(out, 0x03, 3 + DESCRIPTOR_HEAD_BYTES + 13 + specific_bytes + DESCRIPTOR_HEAD_BYTES + 1);
            out.u16(0);
            out.u8(0);
            descriptor(out, 0x04, 13 + specific_bytes);
            out.u8(object_type);
            // Audio stream, upstream 0, reserved 1; buffer size and bitrates unknown.
            out.u8(0x15);
            out.zeros(11);
            if specific_bytes > 0 {
                descriptor(out, 0x05, audio.config.len());
                out.raw(&audio.config);
            }
            descriptor(out, 0x06, 1);
            out.u8(2);
        });
    });
}

/// Tag and a length of always four bytes, so that positions are fixed.
const DESCRIPTOR_HEAD_BYTES: usize = 5;

fn descriptor(out: &mut BoxWriter, tag: u8, bytes: usize) {
    out.u8(tag);
    for shift in [21, 14, 7] {
        out.u8((bytes >> shift) as u8 & 0x7F | 0x80);
    }
    out.u8(bytes as u8 & 0x7F);
}

/// Reads the tracks of a `moov` (the whole box) that [`fragmented_moov`] wrote; `None` if it is damaged.
pub fn parse_entries(moov: &[u8]) -> Option<Vec<TrackEntry>> {
    let body = find(moov, b"moov")?;
    find(body, b"mvex")?;
    let entries: Option<Vec<_>> = boxes(body).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| parse_trak(trak)).collect();
    entries.filter(|entries| matches!(entries.len(), 1 | 2) && entries.first().map(|entry| entry.kind) != entries.get(1).map(|entry| entry.kind))
}

fn parse_trak(trak: &[u8]) -> Option<TrackEntry> {
    let stbl = find(find(find(trak, b"mdia")?, b"minf")?, b"stbl")?;
    let stsd = find(stbl, b"stsd")?;
    let stsd_box = stbl.get(..8 + stsd.len()).filter(|bytes| &bytes[4..8] == b"stsd")?;
    let (kind, entry) = boxes(stsd.get(8..)?).next()?;
    let base = TrackEntry { kind: TrackKind::Video, codec: "h264", width: 0, height: 0, sample_rate_hz: 0, channels: 0, stsd: stsd_box.to_vec() };
    // Track id: behind flags, creation and modification time.
    let entry = match (be32(find(trak, b"tkhd")?, 12)?, &kind) {
        (VIDEO_TRACK_ID, b"avc1") => TrackEntry { width: be16(entry, 24)?, height: be16(entry, 26)?, ..base },
        (AUDIO_TRACK_ID, b"mp4a") => {
            let esds = find(entry.get(28..)?, b"esds")?;
            let config = esds.get(4 + 2 * DESCRIPTOR_HEAD_BYTES + 3..)?;
            let codec = match *config.first()? {
                OTI_AAC => AudioCodec::Aac,
                OTI_MP3_MPEG1 | OTI_MP3_MPEG2 => AudioCodec::Mp3,
                _ => return None,
            };
            let sample_rate_hz = match be16(entry, 24)? {
                0 => config.get(13 + DESCRIPTOR_HEAD_BYTES..).and_then(high_sample_rate_hz).unwrap_or(0),
                rate_hz => u32::from(rate_hz),
            };
            let channels = u8::try_from(be16(entry, 16)?).ok()?;
            TrackEntry { kind: TrackKind::Audio, codec: codec.name(), sample_rate_hz, channels, ..base }
        }
        _ => return None,
    };
    Some(entry)
}

/// The sampling frequency of an `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1) that does not fit 16 bits.
fn high_sample_rate_hz(config: &[u8]) -> Option<u32> {
    let mut bytes = [0; 8];
    let count = config.len().min(bytes.len());
    bytes[..count].copy_from_slice(&config[..count]);
    let bits = u64::from_be_bytes(bytes);
    // 5 bits of object type (31: 6 more), 4 bits of index (15: 24 bits of frequency).
    let at = if bits >> 59 == 31 { 11 } else { 5 };
    match bits << at >> 60 {
        0 => Some(96_000),
        1 => Some(88_200),
        15 => Some((bits << (at + 4) >> 40) as u32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn entries_read_back_as_written() {
        let audio = |codec, config: &'static [u8], sample_rate_hz| {
            let config = Bytes::from_static(config);
            let track = AudioTrack { codec, config, sequence_header: Bytes::new(), sample_rate_hz, channels: 2, samples_per_frame: 1024 };
            Tracks { video: None, audio: Some(Arc::new(track)) }
        };
        let cases = [
            ("AAC", audio(AudioCodec::Aac, &[0x12, 0x10], 44_100), "aac", OTI_AAC),
            ("AAC at 96 kHz", audio(AudioCodec::Aac, &[0x10, 0x10], 96_000), "aac", OTI_AAC),
            ("AAC at an odd rate", audio(AudioCodec::Aac, &[0x17, 0x80, 0x97, 0xA7, 0x10], 77_646), "aac", OTI_AAC),
            ("MP3", audio(AudioCodec::Mp3, &[], 44_100), "mp3", OTI_MP3_MPEG1),
            ("MP3 of MPEG-2", audio(AudioCodec::Mp3, &[], 22_050), "mp3", OTI_MP3_MPEG2),
        ];
        for (name, tracks, codec, object_type) in cases {
            let written = entries(&tracks);
            let mut out = BoxWriter::default();
            fragmented_moov(&mut out, &written, None);
            let moov = out.into_bytes();
            assert_eq!(parse_entries(&moov).as_deref(), Some(&written[..]), "{name}");
            assert_eq!(written[0].codec, codec);
            // Object type, audio stream.
            assert!(moov.windows(2).any(|bytes| bytes == [object_type, 0x15]), "{name}");
            for cut in 0..moov.len() {
                assert_eq!(parse_entries(&moov[..cut]), None, "{name} cut at {cut}");
            }
        }
    }
}
