//! FLV tag headers for frames that are read from another container.

use super::{AudioCodec, AudioTrack, FurtherDescription, FurtherTrack, TagHeader, VideoCodec, VideoTrack};

/// Bit of the first byte of a video tag body: Enhanced RTMP.
const VIDEO_EX_HEADER: u8 = 0x80;
/// Sound format 9: Enhanced RTMP.
const AUDIO_EX_HEADER: u8 = 0x90;
/// Packet type of coded frames in both.
const CODED_FRAMES: u8 = 1;
/// Packet types of one of several tracks.
const VIDEO_MULTITRACK: u8 = 6;
const AUDIO_MULTITRACK: u8 = 5;

impl TagHeader {
    /// In the form in which the track's sequence header was sent: as of old, or enhanced.
    pub fn of_video(track: &VideoTrack, key: bool, cts_ms: i32) -> Self {
        let frame_type = if key { 1 } else { 2 };
        let [_, cts @ ..] = cts_ms.to_be_bytes();
        match track.sequence_header.first() {
            Some(first) if first & VIDEO_EX_HEADER == 0 => Self::new(&[frame_type << 4 | first & 0x0F, CODED_FRAMES]).with(&cts),
            None if track.codec == VideoCodec::Avc => Self::new(&[frame_type << 4 | 7, CODED_FRAMES]).with(&cts),
            _ => {
                let header = Self::new(&[VIDEO_EX_HEADER | frame_type << 4 | CODED_FRAMES]).with(track.codec.fourcc());
                if track.codec.has_composition_time() { header.with(&cts) } else { header }
            }
        }
    }

    /// The same of an audio frame.
    pub fn of_audio(track: &AudioTrack) -> Self {
        let first = track.sequence_header.first().copied();
        match (track.codec, first) {
            (AudioCodec::Aac, Some(first)) if first >> 4 == 10 => Self::new(&[first, 1]),
            (AudioCodec::Aac, None) => Self::new(&[0xAF, 1]),
            (AudioCodec::Mp3, None) => {
                let rate = match track.sample_rate_hz {
                    0..=11_025 => 1,
                    11_026..=24_000 => 2,
                    _ => 3,
                };
                Self::new(&[2 << 4 | rate << 2 | 2 | u8::from(track.channels > 1)])
            }
            _ => Self::new(&[AUDIO_EX_HEADER | CODED_FRAMES]).with(track.codec.fourcc()),
        }
    }

    /// Of a frame of a further track: one of several tracks in a tag of its own.
    pub fn of_further(track: &FurtherTrack, key: bool, cts_ms: i32) -> Self {
        let one_track = |first: u8, fourcc: &[u8; 4]| Self::new(&[first, CODED_FRAMES]).with(fourcc).with(&[track.number]);
        match &track.description {
            FurtherDescription::Video(video) => {
                let frame_type = if key { 1 } else { 2 };
                let header = one_track(VIDEO_EX_HEADER | frame_type << 4 | VIDEO_MULTITRACK, video.codec.fourcc());
                let [_, cts @ ..] = cts_ms.to_be_bytes();
                if video.codec.has_composition_time() { header.with(&cts) } else { header }
            }
            FurtherDescription::Audio(audio) => one_track(AUDIO_EX_HEADER | AUDIO_MULTITRACK, audio.codec.fourcc()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_take_the_form_of_their_sequence_headers() {
        let video = |codec, first: &'static [u8]| {
            let mut track = VideoTrack::new(codec, Vec::new(), 0, 0);
            track.sequence_header = bytes::Bytes::from_static(first);
            track
        };
        for (track, key, expected) in [
            (video(VideoCodec::Avc, &[0x17, 0]), true, &[0x17, 1, 0, 0, 80][..]),
            (video(VideoCodec::Avc, &[]), false, &[0x27, 1, 0, 0, 80]),
            (video(VideoCodec::Hevc, &[0x1C, 0]), false, &[0x2C, 1, 0, 0, 80]),
            (video(VideoCodec::Hevc, b"\x90hvc1"), true, b"\x91hvc1\0\0\x50"),
            (video(VideoCodec::Av1, b"\x90av01"), false, b"\xA1av01"),
            (video(VideoCodec::Vp9, &[]), true, b"\x91vp09"),
        ] {
            assert_eq!(TagHeader::of_video(&track, key, 80).as_slice(), expected, "{:?}", track.codec);
        }
        assert_eq!(TagHeader::of_video(&video(VideoCodec::Avc, &[0x17]), true, -40).as_slice(), [0x17, 1, 0xFF, 0xFF, 0xD8]);
        let audio = |codec, first: &'static [u8], rate| {
            let mut track = AudioTrack::new(codec, Vec::new(), rate, 2, 1024);
            track.sequence_header = bytes::Bytes::from_static(first);
            track
        };
        for (track, expected) in [
            (audio(AudioCodec::Aac, &[0xAE, 0], 48_000), &[0xAE, 1][..]),
            (audio(AudioCodec::Aac, &[], 48_000), &[0xAF, 1]),
            (audio(AudioCodec::Aac, b"\x90mp4a", 48_000), b"\x91mp4a"),
            (audio(AudioCodec::Mp3, &[], 44_100), &[0x2F]),
            (audio(AudioCodec::Opus, b"\x90Opus", 48_000), b"\x91Opus"),
            (audio(AudioCodec::Ac3, &[], 48_000), b"\x91ac-3"),
        ] {
            assert_eq!(TagHeader::of_audio(&track).as_slice(), expected, "{:?}", track.codec);
        }
    }
}
