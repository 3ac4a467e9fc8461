//! What one media file serves: a format, or MP4 and HLS together.

use crate::container::{es, mpegts};
use crate::domain::FormatParam;
use crate::domain::sealing::HlsEncryption;
use crate::media::{AudioCodec, AudioTrack, Tracks};
use crate::units::Format;

/// What one media file serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Single(Format, FormatParam),
    /// Fragmented MP4: an MP4 recording, an HLS recording, or both from one write.
    Hybrid {
        mp4: Option<FormatParam>,
        hls: Option<FormatParam>,
    },
    /// HLS as one MPEG transport stream with byte ranges.
    TransportStream(FormatParam, Option<HlsEncryption>),
}

impl Kind {
    pub(super) fn interval_ms(&self) -> Option<i64> {
        let param = match self {
            Kind::Single(_, param) => param,
            Kind::Hybrid { mp4: Some(param), .. } => param,
            Kind::Hybrid { mp4: None, .. } | Kind::TransportStream(..) => return None,
        };
        Some(i64::try_from(param.record_interval_s.saturating_mul(1_000)).unwrap_or(i64::MAX))
    }

    pub(super) fn hls(&self) -> Option<&FormatParam> {
        match self {
            Kind::Hybrid { hls, .. } => hls.as_ref(),
            Kind::TransportStream(param, _) => Some(param),
            Kind::Single(..) => None,
        }
    }

    /// `None`: its files hold media as they came.
    pub(super) fn encryption(&self) -> Option<HlsEncryption> {
        if let Kind::TransportStream(_, encryption) = self { *encryption } else { None }
    }

    pub(super) fn is_audio_only(&self) -> bool {
        matches!(self, Kind::Single(Format::Aac | Format::Mp3, _))
    }

    /// The tracks of the epoch that this output can hold.
    pub(super) fn suitable(&self, tracks: &Tracks) -> Tracks {
        let audio_if = |fits: fn(&AudioTrack) -> bool| Tracks { audio: tracks.audio.clone().filter(|audio| fits(audio)), ..Tracks::default() };
        match self {
            Kind::Single(Format::Aac, _) => audio_if(es::adts_holds),
            Kind::Single(Format::Mp3, _) => audio_if(|audio| audio.codec == AudioCodec::Mp3),
            Kind::TransportStream(..) => Tracks {
                video: tracks.video.clone().filter(|video| mpegts::holds_video(video.codec)),
                audio: tracks.audio.clone().filter(|audio| mpegts::holds_audio(audio)),
                ..Tracks::default()
            },
            _ => tracks.clone(),
        }
    }

    /// What a track is that has no place here.
    pub(super) fn lacking(&self, audio: &AudioTrack) -> &'static str {
        match (self, audio.codec) {
            (Kind::Single(Format::Aac, _) | Kind::TransportStream(..), AudioCodec::Aac) => "aac of a kind that ADTS headers cannot tell",
            (_, codec) => codec.name(),
        }
    }

    /// Can it hold more than one track of a kind?
    pub(super) fn holds_further(&self) -> bool {
        matches!(self, Kind::Single(Format::Flv, _) | Kind::Hybrid { .. })
    }

    /// Each of its files, also those with further tracks, has times from 0 on.
    pub(super) fn counts_from_zero(&self) -> bool {
        matches!(self, Kind::Single(Format::Flv, _))
    }

    /// Has it a place for what stands between the frames?
    pub(super) fn holds_messages(&self) -> bool {
        matches!(self, Kind::Single(Format::Flv, _) | Kind::Hybrid { .. } | Kind::TransportStream(..))
    }

    /// The container by its name for the log.
    pub(super) fn container(&self) -> &'static str {
        match self {
            Kind::Single(Format::Flv, _) => "FLV",
            Kind::Single(Format::Mp3, _) => "MP3",
            Kind::Single(..) => "ADTS",
            Kind::Hybrid { mp4: Some(_), .. } => "MP4",
            Kind::Hybrid { mp4: None, .. } => "HLS",
            Kind::TransportStream(..) => "MPEG-TS",
        }
    }

    pub(super) fn extension(&self) -> &'static str {
        match self {
            Kind::Single(format, _) => format.extension(),
            Kind::Hybrid { mp4: Some(_), .. } => "mp4",
            Kind::Hybrid { mp4: None, .. } => "m4s",
            Kind::TransportStream(..) => "ts",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::media::{VideoCodec, VideoTrack};

    #[test]
    fn sound_that_adts_cannot_tell_costs_itself_alone() {
        let param = FormatParam::default();
        let (aac, transport) = (Kind::Single(Format::Aac, param.clone()), Kind::TransportStream(param, None));
        let video = VideoTrack::new(VideoCodec::Avc, &[1, 0x64, 0, 0x28, 0xff, 0xe0, 0][..], 0, 0);
        for (name, config, fits) in [
            ("stereo", &[0x12, 0x10][..], true),
            ("a program of four channels", b"\x11\x80\x04\xc4\x04\x00\x21\x10\x00", true),
            ("7.1 by number 12", &[0x12, 0x60], false),
            ("frames of 960 samples", &[0x12, 0x14], false),
            ("40 kHz", &[0x17, 0x80, 0x4e, 0x20, 0x10], false),
        ] {
            let audio = AudioTrack::new(AudioCodec::Aac, config, 44_100, 2, 1024);
            let tracks =
                Tracks { video: Some(Arc::new(video.clone())), audio: Some(Arc::new(audio.clone())), further: Vec::new(), labels: Arc::default() };
            let (alone, both) = (aac.suitable(&tracks), transport.suitable(&tracks));
            assert_eq!((alone.audio.is_some(), both.audio.is_some(), both.video.is_some()), (fits, fits, true), "{name}");
            assert!(transport.lacking(&audio).contains("ADTS"));
        }
    }
}
