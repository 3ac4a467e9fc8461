//! What a player is told by the name of its configuration, and how addresses of an application are signed.

use serde::{Deserialize, Serialize};

use super::url_sign::UrlProtection;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlayerConfig {
    /// `AdaptiveDynamicStream`, `Transcode` or `Original`.
    pub audio_video_type: String,
    /// `ON`: encrypted streams only.
    pub drm_switch: String,
    pub adaptive_dynamic_streaming_definition: u64,
    pub drm_streamings_info: DrmStreamings,
    pub transcode_definition: u64,
    pub image_sprite_definition: u64,
    pub resolution_name_set: Vec<ResolutionName>,
    /// Host of the addresses, or `Default`.
    pub domain: String,
    /// `HTTP`, `HTTPS` or `Default`.
    pub scheme: String,
    pub comment: String,
}

impl Default for PlayerConfig {
    fn default() -> Self {
        let name = |min_edge_length, name: &str| ResolutionName { min_edge_length, name: name.to_owned() };
        Self {
            audio_video_type: "AdaptiveDynamicStream".to_owned(),
            drm_switch: "OFF".to_owned(),
            adaptive_dynamic_streaming_definition: 0,
            drm_streamings_info: DrmStreamings::default(),
            transcode_definition: 0,
            image_sprite_definition: 0,
            resolution_name_set: vec![
                name(240, "FLU"),
                name(480, "SD"),
                name(720, "HD"),
                name(1_080, "FHD"),
                name(1_440, "2K"),
                name(2_160, "4K"),
                name(4_320, "8K"),
            ],
            domain: "Default".to_owned(),
            scheme: "Default".to_owned(),
            comment: String::new(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DrmStreamings {
    pub simple_aes_definition: u64,
    pub widevine_definition: u64,
    pub fair_play_definition: u64,
}

/// What an application's addresses and signatures are made with.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Distribution {
    /// Signs what a player may play.
    pub play_key: String,
    /// Signs addresses.
    pub key_protection: UrlProtection,
}

/// Up to this short edge, a rendition is called so.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResolutionName {
    pub min_edge_length: u64,
    pub name: String,
}
