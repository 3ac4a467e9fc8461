//! The signature with which a backend lets a player play one file: a JSON Web Token (RFC 7519), HS256 with the application's playback key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use super::player::ResolutionName;
use super::url_sign::Terms;

/// Longer ones are nobody's.
const TOKEN_BYTES_MAX: usize = 8 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PsignError {
    #[error("psign is no JSON Web Token signed with HS256")]
    Form,
    #[error("psign is not signed with the playback key of the application")]
    Signature,
    #[error("psign is of another application or file")]
    Other,
    #[error("psign has expired")]
    Expired,
    #[error("psign has claims of a wrong type: numbers are numbers, not text")]
    Claims,
}

/// What a player may play.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    pub app_id: u64,
    pub file_id: String,
    #[serde(default)]
    pub content_info: Option<ContentInfo>,
    #[serde(default)]
    pub current_time_stamp: u64,
    /// Unix seconds; absent: never.
    #[serde(default)]
    pub expire_time_stamp: Option<i64>,
    /// Name of a player configuration: the older form.
    #[serde(default)]
    pub pcfg: Option<String>,
    #[serde(default)]
    pub url_access_info: Option<UrlAccess>,
}

/// What the addresses allow that the player gets, where addresses are protected.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UrlAccess {
    /// Unix seconds, hexadecimal.
    pub t: String,
    pub exper: Option<u64>,
    pub rlimit: Option<u64>,
    pub us: String,
}

impl UrlAccess {
    pub fn terms(&self) -> Terms {
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        Terms { t: self.t.clone(), exper: number(self.exper), rlimit: number(self.rlimit), us: self.us.clone(), ..Terms::default() }
    }
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContentInfo {
    /// `RawAdaptive`, `ProtectedAdaptive`, `Transcode` or `Original`.
    pub audio_video_type: String,
    pub raw_adaptive_definition: i64,
    pub drm_adaptive_info: DrmAdaptive,
    pub transcode_definition: i64,
    pub image_sprite_definition: i64,
    pub resolution_names: Vec<Resolution>,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrmAdaptive {
    pub private_encryption_definition: i64,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resolution {
    pub min_edge_length: u64,
    pub name: String,
}

impl ContentInfo {
    pub fn resolution_name_set(&self) -> Vec<ResolutionName> {
        self.resolution_names.iter().map(|name| ResolutionName { min_edge_length: name.min_edge_length, name: name.name.clone() }).collect()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Checks a signature for this application and file at this Unix second.
///
/// # Errors
/// [`PsignError`].
pub fn check(token: &str, key: &str, app_id: u64, file_id: &str, now_s: i64) -> Result<Claims, PsignError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(PsignError::Form);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(PsignError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(PsignError::Form)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).map_err(|_| PsignError::Form);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| PsignError::Form)?;
    // Nothing else: a token must not choose how it is checked.
    if header.alg != "HS256" {
        return Err(PsignError::Form);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| PsignError::Signature)?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&decode(signature)?).map_err(|_| PsignError::Signature)?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| PsignError::Claims)?;
    if claims.app_id != app_id || claims.file_id != file_id {
        return Err(PsignError::Other);
    }
    if claims.expire_time_stamp.is_some_and(|expire| now_s > expire) {
        return Err(PsignError::Expired);
    }
    Ok(claims)
}

/// Any token: it is refused or its claims are those that were asked for.
pub fn fuzz_psign(data: &[u8]) {
    if let Ok(token) = std::str::from_utf8(data)
        && let Ok(claims) = check(token, "playkeyEXAMPLE0001", 1, "387702290000000001", 0)
    {
        assert!(claims.app_id == 1 && claims.file_id == "387702290000000001");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "playkeyEXAMPLE0001";
    const FILE: &str = "387702290000000001";
    const APP: u64 = 1_300_000_001;
    /// Made by somebody else's library.
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhcHBJZCI6MTMwMDAwMDAwMSwiZmlsZUlkIjoiMzg3NzAyMjkwMDAwMDAwMDAxIiwiY29udGVudEluZm8iOnsiYXVkaW9WaWRlb1R5cGUiOiJPcmlnaW5hbCJ9LCJjdXJyZW50VGltZVN0YW1wIjoxNzY3MjI1NjAwLCJleHBpcmVUaW1lU3RhbXAiOjE3NjczMTIwMDB9.Nwy7YSkaCltGzOQf4uEaLpA-y-RPIUOZx8lv-0CfzQU";

    fn signed(header: &str, claims: &str) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn the_vector_of_the_contract() {
        let claims = check(TOKEN, KEY, APP, FILE, 1_767_312_000).unwrap();
        assert_eq!(claims.content_info.unwrap().audio_video_type, "Original");
        assert_eq!(check(TOKEN, KEY, APP, FILE, 1_767_312_001), Err(PsignError::Expired));
        assert_eq!(check(TOKEN, "playkeyEXAMPLE0002", APP, FILE, 0), Err(PsignError::Signature));
        assert_eq!(check(TOKEN, KEY, APP + 1, FILE, 0), Err(PsignError::Other));
        assert_eq!(check(TOKEN, KEY, APP, "387702290000000002", 0), Err(PsignError::Other));
        for at in 0..TOKEN.len() {
            assert!(check(&TOKEN[..at], KEY, APP, FILE, 0).is_err(), "{at}");
        }
    }

    #[test]
    fn claims_and_headers_of_other_kinds() {
        let good = r#"{"alg":"HS256"}"#;
        let of = |header: &str, claims: &str| check(&signed(header, claims), KEY, 1, "5", 0).map(|claims| claims.pcfg);
        assert_eq!(of(good, r#"{"appId":1,"fileId":"5","pcfg":"default"}"#), Ok(Some("default".to_owned())));
        assert_eq!(of(good, r#"{"appId":"1","fileId":"5"}"#), Err(PsignError::Claims));
        assert_eq!(of(good, r#"{"appId":1,"fileId":"5","expireTimeStamp":"9"}"#), Err(PsignError::Claims));
        assert_eq!(of(good, r#"{"fileId":"5"}"#), Err(PsignError::Claims));
        assert_eq!(of(r#"{"alg":"none"}"#, r#"{"appId":1,"fileId":"5"}"#), Err(PsignError::Form));
        assert_eq!(of(r#"{"alg":"HS512"}"#, r#"{"appId":1,"fileId":"5"}"#), Err(PsignError::Form));
        assert_eq!(check("a.b", KEY, 1, "5", 0), Err(PsignError::Form));
        assert_eq!(check(&"a".repeat(9_000), KEY, 1, "5", 0), Err(PsignError::Form));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused(text in "[A-Za-z0-9_.=-]{0,80}") {
            fuzz_psign(text.as_bytes());
        }
    }
}
