//! Sample entries: what a file says of the codec of each track, and reading it back.

use super::MEDIA_TIME_BIAS_MS;
use super::fragment::{TRACKS_MAX, further_track_id, track_id};
use super::tables::{SampleTable, Scale};
use crate::codec::aac::parse_aac_config;
use crate::codec::flac;
use crate::container::boxes::{BoxWriter, be16, be32, boxes, find};
use crate::media::label::Label;
use crate::media::{AudioCodec, AudioTrack, Colour, FurtherDescription, TrackKind, Tracks, VideoCodec, VideoTrack};

/// Object type indications (ISO/IEC 14496-1, 7.2.6.6): MPEG-4 audio, MPEG-2 audio part 3, MPEG-1 audio.
const OTI_AAC: u8 = 0x40;
const OTI_MP3_MPEG2: u8 = 0x69;
const OTI_MP3_MPEG1: u8 = 0x6B;
/// The lowest sampling rate of MPEG-1 audio; lower ones belong to MPEG-2.
const MPEG1_RATE_HZ_MIN: u32 = 32_000;
/// Where the boxes begin in a visual and in an audio sample entry.
const VISUAL_BYTES: usize = 78;
const AUDIO_BYTES: usize = 28;

/// What a file says of one track; the `stsd` box is carried over verbatim from the initial `moov` into the final one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackEntry {
    pub id: u32,
    pub kind: TrackKind,
    /// [`VideoCodec::name`] or [`AudioCodec::name`].
    pub codec: &'static str,
    pub width: u16,
    pub height: u16,
    pub sample_rate_hz: u32,
    pub channels: u8,
    /// Samples at the beginning of this file that are not to be heard (Opus).
    pub pre_skip: u32,
    pub stsd: Vec<u8>,
    pub label: Label,
}

impl TrackEntry {
    /// The whole milliseconds of `pre_skip`, rounded up.
    pub fn pre_skip_ms(&self) -> u64 {
        (u64::from(self.pre_skip) * 1_000).div_ceil(u64::from(self.sample_rate_hz.max(1)))
    }

    pub fn pre_skip_ticks(&self, scale: &Scale) -> u32 {
        (u64::from(self.pre_skip) * u64::from(scale.ticks_per_second()) / u64::from(self.sample_rate_hz.max(1))) as u32
    }

    /// The name of the stream in the `CODECS` attribute of a playlist (RFC 6381).
    pub fn codecs(&self) -> String {
        let Some((fourcc, entry)) = self.stsd.get(16..).and_then(|entries| boxes(entries).next()) else { return self.codec.to_owned() };
        match VideoCodec::of_fourcc(&fourcc) {
            Some(codec) => {
                let boxes_of = entry.get(VISUAL_BYTES..).unwrap_or_default();
                let config = match codec {
                    VideoCodec::Avc => find(boxes_of, b"avcC"),
                    VideoCodec::Hevc => find(boxes_of, b"hvcC"),
                    VideoCodec::Av1 => find(boxes_of, b"av1C"),
                    VideoCodec::Vvc => find(boxes_of, b"vvcC").and_then(|body| body.get(4..)),
                    VideoCodec::Vp8 | VideoCodec::Vp9 => find(boxes_of, b"vpcC").and_then(|body| body.get(4..)),
                };
                VideoTrack::new(codec, config.unwrap_or_default().to_vec(), 0, 0).codecs()
            }
            None => {
                let codec = AudioCodec::ALL.into_iter().find(|codec| codec.name() == self.codec).unwrap_or(AudioCodec::Aac);
                AudioTrack::new(codec, self.audio_config().unwrap_or_default().to_vec(), self.sample_rate_hz, self.channels, 0).codecs()
            }
        }
    }

    /// The `AudioSpecificConfig`, where there is one.
    fn audio_config(&self) -> Option<&[u8]> {
        let (_, entry) = boxes(self.stsd.get(16..)?).next()?;
        find(entry.get(AUDIO_BYTES..)?, b"esds")?.get(4 + 4 * DESCRIPTOR_HEAD_BYTES + 3 + 13 - DESCRIPTOR_HEAD_BYTES..)
    }

    /// The time scale of the finished track: for sound one that knows both milliseconds and samples.
    pub fn scale(&self, table: &SampleTable) -> Scale {
        if self.kind == TrackKind::Video || self.sample_rate_hz == 0 {
            return Scale::default();
        }
        let (samples, roll) = self.frame();
        let (mut common, mut rest) = (1_000, self.sample_rate_hz);
        while rest > 0 {
            (common, rest) = (rest, common % rest);
        }
        let Some(ticks_per_ms) = Some(self.sample_rate_hz / common).filter(|ticks| *ticks <= TICKS_PER_MS_MAX && table.fits(*ticks)) else {
            return Scale { roll, ..Scale::default() };
        };
        // Whole, since the rate divides the time scale.
        let exact = samples * (ticks_per_ms * 1_000 / self.sample_rate_hz);
        let said = table.last_ms().map(|last_ms| last_ms * ticks_per_ms);
        let last = said.filter(|said| samples > 0 && said.abs_diff(exact) < 2 * ticks_per_ms).map(|_| exact);
        Scale { ticks_per_ms, last, roll }
    }

    /// Samples of each frame where the codec fixes them, else 0; and how many frames before it a decoder needs.
    fn frame(&self) -> (u32, u16) {
        match self.codec {
            "aac" => {
                let parsed = self
                    .audio_config()
                    .and_then(|config| parse_aac_config(config).ok())
                    .filter(|parsed| parsed.sample_rate_hz == self.sample_rate_hz);
                (parsed.map_or(0, |parsed| parsed.samples_per_frame), 1)
            }
            "mp3" => (if self.sample_rate_hz >= MPEG1_RATE_HZ_MIN { 1152 } else { 576 }, 0),
            "ac3" => (1536, 0),
            // 80 ms (RFC 7845, 4.6), of 20 ms each.
            "opus" => (0, 4),
            _ => (0, 0),
        }
    }
}

/// Bound for odd sampling rates: durations must stay small numbers.
const TICKS_PER_MS_MAX: u32 = 1_000;

/// The tracks as the file will name them: the first video, the first audio, and the others in their order.
pub fn entries(tracks: &Tracks) -> Vec<TrackEntry> {
    let labelled = |entry: TrackEntry, number| TrackEntry { label: tracks.label(entry.kind, number), ..entry };
    let video = tracks.video.as_deref().map(|video| labelled(video_entry(track_id(TrackKind::Video), video), 0));
    let audio = tracks.audio.as_deref().map(|audio| labelled(audio_entry(track_id(TrackKind::Audio), audio), 0));
    let further = tracks.further.iter().enumerate().map(|(index, track)| {
        let entry = match &track.description {
            FurtherDescription::Video(video) => video_entry(further_track_id(index), video),
            FurtherDescription::Audio(audio) => audio_entry(further_track_id(index), audio),
        };
        labelled(entry, track.number)
    });
    video.into_iter().chain(audio).chain(further).collect()
}

fn video_entry(id: u32, video: &VideoTrack) -> TrackEntry {
    TrackEntry {
        id,
        kind: TrackKind::Video,
        codec: video.codec.name(),
        width: side(video.width),
        height: side(video.height),
        sample_rate_hz: 0,
        channels: 0,
        pre_skip: 0,
        stsd: stsd(|out| visual(out, video)),
        label: Label::default(),
    }
}

fn audio_entry(id: u32, audio: &AudioTrack) -> TrackEntry {
    TrackEntry {
        id,
        kind: TrackKind::Audio,
        codec: audio.codec.name(),
        width: 0,
        height: 0,
        sample_rate_hz: audio.sample_rate_hz,
        channels: audio.channels,
        pre_skip: audio.pre_skip,
        stsd: stsd(|out| sound(out, audio)),
        label: Label::default(),
    }
}

fn side(pixels: u32) -> u16 {
    u16::try_from(pixels).unwrap_or(u16::MAX)
}

pub(super) fn stsd(entry: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
    let mut out = BoxWriter::default();
    out.full(b"stsd", 0, 0, |out| {
        out.u32(1);
        entry(out);
    });
    out.into_bytes()
}

/// `VisualSampleEntry` (ISO/IEC 14496-12, 12.1.3) with the box of the codec's configuration.
fn visual(out: &mut BoxWriter, video: &VideoTrack) {
    out.container(video.codec.fourcc(), |out| {
        out.zeros(6);
        out.u16(1);
        out.zeros(16);
        out.u16(side(video.width));
        out.u16(side(video.height));
        out.u32(0x48_0000);
        out.u32(0x48_0000);
        out.u32(0);
        out.u16(1);
        out.zeros(32);
        out.u16(0x18);
        out.u16(0xFFFF);
        match video.codec {
            VideoCodec::Avc => out.container(b"avcC", |out| out.raw(&video.config)),
            VideoCodec::Hevc => out.container(b"hvcC", |out| out.raw(&video.config)),
            VideoCodec::Vvc => out.full(b"vvcC", 0, 0, |out| out.raw(&video.config)),
            VideoCodec::Av1 => out.container(b"av1C", |out| out.raw(&video.config)),
            VideoCodec::Vp8 | VideoCodec::Vp9 => out.full(b"vpcC", 1, 0, |out| out.raw(&video.config)),
        }
        if let Some(colour) = &video.colour {
            colours(out, colour);
        }
    });
}

/// `colr`, `mdcv` and `clli` (12.1.5, 12.1.7, 12.1.6).
fn colours(out: &mut BoxWriter, colour: &Colour) {
    out.container(b"colr", |out| {
        out.raw(b"nclx");
        out.u16(colour.primaries);
        out.u16(colour.transfer);
        out.u16(colour.matrix);
        // Enhanced RTMP tells no range; the codec's own header does.
        out.u8(0);
    });
    if let Some(display) = &colour.mastering {
        out.container(b"mdcv", |out| {
            for (x, y) in display.primaries.iter().chain([&display.white_point]) {
                out.u16(*x);
                out.u16(*y);
            }
            out.u32(display.luminance_max);
            out.u32(display.luminance_min);
        });
    }
    if let Some((content, average)) = colour.light_level {
        out.container(b"clli", |out| {
            out.u16(content);
            out.u16(average);
        });
    }
}

/// `AudioSampleEntry` (12.2.3) with the box of the codec's configuration.
fn sound(out: &mut BoxWriter, audio: &AudioTrack) {
    let fourcc = match audio.codec {
        AudioCodec::Mp3 => b"mp4a",
        codec => codec.fourcc(),
    };
    let sample_bits = match audio.codec {
        AudioCodec::Flac => flac::stream_info(&audio.config).map_or(16, |info| u16::from(info.bits_per_sample)),
        _ => 16,
    };
    out.container(fourcc, |out| {
        out.zeros(6);
        out.u16(1);
        out.zeros(8);
        out.u16(u16::from(audio.channels));
        out.u16(sample_bits);
        out.u32(0);
        // 16.16; rates beyond it are told by the configuration alone.
        out.u32(u16::try_from(audio.sample_rate_hz).map_or(0, |rate_hz| u32::from(rate_hz) << 16));
        match audio.codec {
            AudioCodec::Aac | AudioCodec::Mp3 => esds(out, audio),
            AudioCodec::Opus => out.container(b"dOps", |out| out.raw(&audio.config)),
            AudioCodec::Flac => out.full(b"dfLa", 0, 0, |out| out.raw(&audio.config)),
            AudioCodec::Ac3 => out.container(b"dac3", |out| out.raw(&audio.config)),
            AudioCodec::Eac3 => out.container(b"dec3", |out| out.raw(&audio.config)),
        }
    });
}

/// ES_Descriptor, DecoderConfigDescriptor, DecoderSpecificInfo, SLConfigDescriptor (ISO/IEC 14496-1, 7.2.6; 14496-14, 5.6).
fn esds(out: &mut BoxWriter, audio: &AudioTrack) {
    let object_type = match audio.codec {
        AudioCodec::Mp3 if audio.sample_rate_hz >= MPEG1_RATE_HZ_MIN => OTI_MP3_MPEG1,
        AudioCodec::Mp3 => OTI_MP3_MPEG2,
        _ => OTI_AAC,
    };
    out.full(b"esds", 0, 0, |out| {
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

/// Reads the tracks of a `moov` (the whole box) that [`fragmented_moov`](super::moov::fragmented_moov) wrote; `None` if it is damaged.
pub fn parse_entries(moov: &[u8]) -> Option<Vec<TrackEntry>> {
    let body = find(moov, b"moov")?;
    find(body, b"mvex")?;
    let entries: Option<Vec<_>> = boxes(body).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| parse_trak(trak)).collect();
    entries.filter(|entries| (1..=TRACKS_MAX).contains(&entries.len()) && entries.windows(2).all(|pair| pair[0].id < pair[1].id))
}

fn parse_trak(trak: &[u8]) -> Option<TrackEntry> {
    let stbl = find(find(find(trak, b"mdia")?, b"minf")?, b"stbl")?;
    let stsd = find(stbl, b"stsd")?;
    let stsd_box = stbl.get(..8 + stsd.len()).filter(|bytes| &bytes[4..8] == b"stsd")?;
    let (fourcc, entry) = boxes(stsd.get(8..)?).next()?;
    // Track id: behind flags, creation and modification time.
    let id = be32(find(trak, b"tkhd")?, 12)?;
    let label = parse_label(find(trak, b"mdia")?);
    match find(find(trak, b"mdia")?, b"hdlr")?.get(8..12)? {
        b"vide" => {
            let codec = VideoCodec::of_fourcc(&fourcc)?;
            entry.get(VISUAL_BYTES..)?;
            let (width, height) = (be16(entry, 24)?, be16(entry, 26)?);
            Some(TrackEntry {
                id,
                kind: TrackKind::Video,
                codec: codec.name(),
                width,
                height,
                sample_rate_hz: 0,
                channels: 0,
                pre_skip: 0,
                stsd: stsd_box.to_vec(),
                label,
            })
        }
        b"soun" => {
            let (codec, configured_rate_hz) = parse_sound(&fourcc, entry)?;
            let channels = u8::try_from(be16(entry, 16)?).ok()?;
            let sample_rate_hz = match be16(entry, 24)? {
                0 => configured_rate_hz.unwrap_or(0),
                rate_hz => u32::from(rate_hz),
            };
            let kind = TrackKind::Audio;
            // The edit of a file that begins in the middle of the sound passes over nothing.
            let media_time = find(trak, b"edts").and_then(|edts| find(edts, b"elst")).and_then(|elst| be32(elst, 12));
            let primed = media_time.is_some_and(|media_time| u64::from(media_time) > MEDIA_TIME_BIAS_MS);
            let said = || find(entry.get(AUDIO_BYTES..)?, b"dOps").and_then(|body| be16(body, 2));
            let pre_skip = if primed { said().map_or(0, u32::from) } else { 0 };
            Some(TrackEntry {
                id,
                kind,
                codec: codec.name(),
                width: 0,
                height: 0,
                sample_rate_hz,
                channels,
                pre_skip,
                stsd: stsd_box.to_vec(),
                label,
            })
        }
        _ => None,
    }
}

/// Language and name in a `mdia` that we wrote; of others the language, if it is told in full (8.4.6).
pub fn parse_label(mdia: &[u8]) -> Label {
    let text = |bytes: Option<&[u8]>| {
        bytes.and_then(|bytes| bytes.split(|byte| *byte == 0).next()).map(String::from_utf8_lossy).unwrap_or_default().into_owned()
    };
    let language = text(find(mdia, b"elng").and_then(|elng| elng.get(4..)));
    let name = text(find(mdia, b"hdlr").and_then(|hdlr| hdlr.get(24..)));
    let is_ours = !["VideoHandler", "SoundHandler"].contains(&name.as_str());
    Label::new(&language, if is_ours { &name } else { "" })
}

/// The codec, and the sampling rate of its configuration where the entry has no room for it.
fn parse_sound(fourcc: &[u8; 4], entry: &[u8]) -> Option<(AudioCodec, Option<u32>)> {
    let configuration = entry.get(AUDIO_BYTES..)?;
    if fourcc != b"mp4a" {
        let codec = AudioCodec::of_fourcc(fourcc).filter(|codec| *codec != AudioCodec::Mp3)?;
        let blocks = find(configuration, b"dfLa").and_then(|body| body.get(4..));
        return Some((codec, blocks.and_then(flac::stream_info).map(|info| info.sample_rate_hz)));
    }
    let config = find(configuration, b"esds")?.get(4 + 2 * DESCRIPTOR_HEAD_BYTES + 3..)?;
    let codec = match *config.first()? {
        OTI_AAC => AudioCodec::Aac,
        OTI_MP3_MPEG1 | OTI_MP3_MPEG2 => AudioCodec::Mp3,
        _ => return None,
    };
    Some((codec, config.get(13 + DESCRIPTOR_HEAD_BYTES..).and_then(high_sample_rate_hz)))
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

    use super::super::moov::fragmented_moov;
    use super::*;
    use crate::media::MasteringDisplay;

    fn read_back(name: &str, tracks: &Tracks) -> Vec<u8> {
        let written = entries(tracks);
        let mut out = BoxWriter::default();
        fragmented_moov(&mut out, &written, None, 0);
        let moov = out.into_bytes();
        assert_eq!(parse_entries(&moov).as_deref(), Some(&written[..]), "{name}");
        for cut in 0..moov.len() {
            assert_eq!(parse_entries(&moov[..cut]), None, "{name} cut at {cut}");
        }
        moov
    }

    fn holds(moov: &[u8], bytes: &[u8]) -> bool {
        moov.windows(bytes.len()).any(|window| window == bytes)
    }

    #[test]
    fn sound_reads_back_as_written() {
        let flac = [&[0x80, 0, 0, 34][..], &[0x04, 0, 0x04, 0, 0, 0, 0, 0, 0x0c, 0x16, 0x17, 0x70, 0x03, 0x70], &[0; 20]].concat();
        // name, codec, configuration, rate, bytes to be found
        let cases: [(&str, AudioCodec, &[u8], u32, &[u8]); 9] = [
            ("AAC", AudioCodec::Aac, &[0x12, 0x10], 44_100, &[OTI_AAC, 0x15]),
            ("AAC at 96 kHz", AudioCodec::Aac, &[0x10, 0x10], 96_000, &[OTI_AAC, 0x15]),
            ("AAC at an odd rate", AudioCodec::Aac, &[0x17, 0x80, 0x97, 0xA7, 0x10], 77_646, &[OTI_AAC, 0x15]),
            ("MP3", AudioCodec::Mp3, &[], 44_100, &[OTI_MP3_MPEG1, 0x15]),
            ("MP3 of MPEG-2", AudioCodec::Mp3, &[], 22_050, &[OTI_MP3_MPEG2, 0x15]),
            ("Opus", AudioCodec::Opus, &[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0], 48_000, b"\0\0\0\x13dOps\0\x02\x01\x38"),
            ("FLAC at 96 kHz", AudioCodec::Flac, &flac, 96_000, b"dfLa\0\0\0\0\x80\0\0\x22\x04"),
            ("AC-3", AudioCodec::Ac3, &[0x10, 0x08, 0xc0], 48_000, b"\0\0\0\x0bdac3\x10"),
            ("E-AC-3", AudioCodec::Eac3, &[3, 0, 0x20, 2, 0], 48_000, b"\0\0\0\x0ddec3\x03"),
        ];
        for (name, codec, config, sample_rate_hz, expected) in cases {
            let track = AudioTrack::new(codec, config.to_vec(), sample_rate_hz, 2, 1024);
            let moov = read_back(name, &Tracks { audio: Some(Arc::new(track)), ..Tracks::default() });
            assert!(holds(&moov, expected), "{name}");
        }
    }

    #[test]
    fn pictures_read_back_as_written() {
        for (codec, expected) in [
            (VideoCodec::Avc, &b"avcC\x01\x02\x03"[..]),
            (VideoCodec::Hevc, b"hvcC\x01\x02\x03"),
            (VideoCodec::Vvc, b"vvcC\0\0\0\0\x01\x02\x03"),
            (VideoCodec::Av1, b"av1C\x01\x02\x03"),
            (VideoCodec::Vp8, b"vpcC\x01\0\0\0\x01\x02\x03"),
            (VideoCodec::Vp9, b"vpcC\x01\0\0\0\x01\x02\x03"),
        ] {
            let mut track = VideoTrack::new(codec, vec![1, 2, 3], 640, 360);
            let moov = read_back(codec.name(), &Tracks { video: Some(Arc::new(track.clone())), ..Tracks::default() });
            assert!(holds(&moov, expected) && !holds(&moov, b"colr"), "{codec:?}");
            let mastering = MasteringDisplay { primaries: [(1, 2), (3, 4), (5, 6)], white_point: (7, 8), luminance_max: 9, luminance_min: 10 };
            track.colour =
                Some(Box::new(Colour { primaries: 9, transfer: 16, matrix: 9, mastering: Some(mastering), light_level: Some((1000, 400)) }));
            let moov = read_back(codec.name(), &Tracks { video: Some(Arc::new(track)), ..Tracks::default() });
            assert!(holds(&moov, b"\0\0\0\x13colrnclx\0\x09\0\x10\0\x09\0"), "{codec:?}");
            assert!(holds(&moov, b"\0\0\0\x20mdcv\0\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0\x07\0\x08\0\0\0\x09\0\0\0\x0a"), "{codec:?}");
            assert!(holds(&moov, b"\0\0\0\x0cclli\x03\xe8\x01\x90"), "{codec:?}");
        }
    }
}
