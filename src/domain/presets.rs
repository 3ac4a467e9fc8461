//! The definitions, task flows and players that exist without being created.

use super::definition::{
    AdaptiveDefinition, AdaptiveStream, AnimatedGraphicsDefinition, AudioTemplate, Definition, DefinitionKind, ImageSpriteDefinition, Picture,
    SampleSnapshotDefinition, Sampling, SnapshotDefinition, TranscodeDefinition, VideoTemplate,
};
use super::flow::{AdaptiveInput, CoverInput, MediaProcess, SpriteInput};
use super::player::PlayerConfig;

/// Height of the short edge and kbit/s of the steps of an adaptive stream.
const STEPS: [(u64, u64); 6] = [(240, 256), (480, 512), (720, 1_024), (1_080, 2_500), (1_440, 3_000), (2_160, 6_000)];

fn video(width: u64, height: u64, bitrate: u64) -> VideoTemplate {
    VideoTemplate { fps: 25, bitrate, width, height, ..VideoTemplate::default() }
}

fn aac(bitrate: u64) -> AudioTemplate {
    AudioTemplate { bitrate, ..AudioTemplate::default() }
}

impl Definition for TranscodeDefinition {
    const KIND: DefinitionKind = DefinitionKind::Transcode;

    fn presets() -> Vec<(i64, Self)> {
        let rendition = |container: &str, name: String, video_template, audio_template| Self {
            container: container.to_owned(),
            name,
            video_template,
            audio_template,
            segment_type: if container == "hls" { "ts".to_owned() } else { String::new() },
            ..Self::default()
        };
        let mut presets = Vec::new();
        for (container, first) in [("mp4", 10), ("hls", 210)] {
            let steps = [(0, 320, 256), (1, 640, 512), (2, 1_280, 1_024), (3, 1_920, 2_500)];
            for (step, width, bitrate) in steps {
                presets.push((first + 10 * step, rendition(container, format!("{container}-{width}w"), video(width, 0, bitrate), aac(48))));
            }
        }
        for (container, first) in [("mp4", 100_010), ("hls", 100_210)] {
            let steps = [(0, 360, 400), (1, 540, 1_000), (2, 720, 1_800), (3, 1_080, 2_500)];
            for (step, height, bitrate) in steps {
                presets.push((first + 10 * step, rendition(container, format!("{container}-{height}p"), video(0, height, bitrate), aac(64))));
            }
        }
        for (definition, container) in [(875, "mp4"), (876, "hls")] {
            let kept = rendition(container, format!("{container}-remux"), VideoTemplate::none(), AudioTemplate::none());
            presets.push((definition, Self { remux: true, ..kept }));
        }
        let audio = |container: &str, codec: &str, bitrate: u64| Self {
            container: container.to_owned(),
            name: format!("{container}-{bitrate}k"),
            remove_video: 1,
            video_template: VideoTemplate::none(),
            audio_template: AudioTemplate { codec: codec.to_owned(), bitrate, ..AudioTemplate::default() },
            ..Self::default()
        };
        for (definition, bitrate) in [(1_010, 128), (1_020, 256)] {
            presets.push((definition, audio("mp3", "libmp3lame", bitrate)));
        }
        for (definition, bitrate) in [(1_100, 24), (1_110, 48), (1_120, 96), (1_130, 192), (1_140, 256)] {
            presets.push((definition, audio("m4a", "libfdk_aac", bitrate)));
        }
        presets.sort_by_key(|(definition, _)| *definition);
        presets
    }
}

impl Definition for AdaptiveDefinition {
    const KIND: DefinitionKind = DefinitionKind::Adaptive;

    fn presets() -> Vec<(i64, Self)> {
        let streams: Vec<AdaptiveStream> = STEPS
            .iter()
            .map(|(height, bitrate)| AdaptiveStream { video: video(0, *height, *bitrate), audio: aac(48), ..AdaptiveStream::default() })
            .collect();
        let preset = |name: &str, format: &str, drm: &str, segment: &str| Self {
            name: name.to_owned(),
            format: format.to_owned(),
            drm_type: drm.to_owned(),
            stream_infos: streams.clone(),
            segment_type: segment.to_owned(),
            segment_duration: 6,
            ..Self::default()
        };
        vec![
            (10, preset("Adaptive-HLS", "HLS", "", "ts")),
            (11, preset("Adaptive-HLS-FairPlay", "HLS", "FairPlay", "mp4")),
            (12, preset("Adaptive-HLS-Encrypt", "HLS", "SimpleAES", "ts")),
            (13, preset("Adaptive-DASH-Widevine", "MPEG-DASH", "Widevine", "mp4")),
            (20, preset("Adaptive-DASH", "MPEG-DASH", "", "mp4")),
        ]
    }
}

impl Definition for SnapshotDefinition {
    const KIND: DefinitionKind = DefinitionKind::Snapshot;

    fn presets() -> Vec<(i64, Self)> {
        vec![(10, Self { name: "SnapshotByTimeOffset".to_owned(), ..Self::default() })]
    }
}

impl Definition for SampleSnapshotDefinition {
    const KIND: DefinitionKind = DefinitionKind::SampleSnapshot;

    fn presets() -> Vec<(i64, Self)> {
        let sampling = Sampling { sample_type: "Percent".to_owned(), sample_interval: 10 };
        vec![(10, Self { name: "SampleSnapshot".to_owned(), sampling, ..Self::default() })]
    }
}

impl Definition for ImageSpriteDefinition {
    const KIND: DefinitionKind = DefinitionKind::ImageSprite;

    fn presets() -> Vec<(i64, Self)> {
        let sprite = Self {
            name: "ImageSprite".to_owned(),
            picture: Picture { width: 142, height: 80, ..Picture::default() },
            sampling: Sampling { sample_type: "Time".to_owned(), sample_interval: 10 },
            row_count: 10,
            column_count: 10,
            ..Self::default()
        };
        vec![(10, sprite)]
    }
}

impl Definition for AnimatedGraphicsDefinition {
    const KIND: DefinitionKind = DefinitionKind::AnimatedGraphics;

    fn presets() -> Vec<(i64, Self)> {
        let preset = |name: &str, format: &str| Self { name: name.to_owned(), format: format.to_owned(), fps: 5, width: 320, ..Self::default() };
        vec![(20_000, preset("AnimatedGraphics-GIF", "gif")), (20_001, preset("AnimatedGraphics-WebP", "webp"))]
    }
}

/// The preset with this number.
pub fn preset<D: Definition>(definition: i64) -> Option<D> {
    D::presets().into_iter().find(|(number, _)| *number == definition).map(|(_, body)| body)
}

/// Task flows: name, remark, what is done.
pub fn procedures() -> Vec<(&'static str, &'static str, MediaProcess)> {
    let flow = |adaptive: i64| MediaProcess {
        adaptive_dynamic_streaming_task_set: vec![AdaptiveInput { definition: adaptive, ..AdaptiveInput::default() }],
        image_sprite_task_set: vec![SpriteInput { definition: 10 }],
        cover_by_snapshot_task_set: vec![CoverInput { definition: 10, position_type: "Time".to_owned(), position_value: 0.0 }],
        ..MediaProcess::default()
    };
    vec![
        ("LongVideoPreset", "An adaptive stream, pictures for the time line and a cover", flow(10)),
        ("SimpleAesEncryptPreset", "An encrypted adaptive stream, pictures for the time line and a cover", flow(12)),
    ]
}

/// Players: name and settings.
pub fn players() -> Vec<(&'static str, PlayerConfig)> {
    let plain = PlayerConfig { adaptive_dynamic_streaming_definition: 10, image_sprite_definition: 10, ..PlayerConfig::default() };
    let mut encrypted = PlayerConfig { drm_switch: "ON".to_owned(), image_sprite_definition: 10, ..PlayerConfig::default() };
    encrypted.drm_streamings_info.simple_aes_definition = 12;
    vec![("default", plain), ("basicDrmPreset", encrypted)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_preset() {
        let mut numbers: Vec<i64> = TranscodeDefinition::presets().into_iter().map(|(number, _)| number).collect();
        let expected = [
            10, 20, 30, 40, 210, 220, 230, 240, 875, 876, 1_010, 1_020, 1_100, 1_110, 1_120, 1_130, 1_140, 100_010, 100_020, 100_030, 100_040,
            100_210, 100_220, 100_230, 100_240,
        ];
        assert_eq!(numbers, expected);
        numbers.dedup();
        assert_eq!(numbers.len(), expected.len());
        let hls = preset::<TranscodeDefinition>(100_240).unwrap();
        assert_eq!((hls.container.as_str(), hls.video_template.height, hls.video_template.bitrate, hls.remux), ("hls", 1_080, 2_500, false));
        assert!(preset::<TranscodeDefinition>(875).unwrap().remux && preset::<TranscodeDefinition>(876).unwrap().remux);
        let offered: Vec<i64> = AdaptiveDefinition::presets().into_iter().filter(|(_, body)| body.is_offered()).map(|(number, _)| number).collect();
        assert_eq!(offered, [10, 12]);
        assert!(procedures().iter().all(|(_, _, flow)| flow.count() == 3));
    }

    #[test]
    fn bodies_keep_the_form_of_the_api() {
        let text = serde_json::to_string(&preset::<ImageSpriteDefinition>(10).unwrap()).unwrap();
        assert!(text.contains(r#""SampleInterval":10"#) && text.contains(r#""RowCount":10"#) && text.contains(r#""Format":"jpg""#), "{text}");
        let back: ImageSpriteDefinition = serde_json::from_str(&text).unwrap();
        assert_eq!(back, preset::<ImageSpriteDefinition>(10).unwrap());
    }
}
