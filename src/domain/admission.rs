//! Who may publish: domains, signatures of push addresses, forbidden streams. Looked at when publishing begins; a running stream is not cut when its
//! signature expires.

use std::collections::HashMap;

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::digest::{hex, same};
use crate::limits::DOMAIN_BYTES_MAX;
use crate::units::{StreamKey, WallTime};

/// What a domain is for (`DomainType` of the API).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DomainKind {
    Push,
    Play,
}

/// A domain that AddLiveDomain has entered. Its name is in lower case.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LiveDomain {
    pub name: String,
    pub kind: DomainKind,
    /// False: forbidden; publications are refused.
    pub enabled: bool,
    pub create_time: WallTime,
    /// Where it may be played: 1 to 3. Without effect here, as the next two.
    pub play_type: u64,
    pub is_delay_live: u64,
    pub is_mini_program_live: u64,
    pub auth: PushAuth,
}

/// Signatures of a domain's push addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PushAuth {
    pub enabled: bool,
    pub master_key: String,
    /// Empty: there is none.
    pub backup_key: String,
    /// A signature is good until `txTime` and this, seconds.
    pub delta_s: u64,
}

/// A stream that nobody may publish for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForbiddenStream {
    /// Its domain is in lower case.
    pub key: StreamKey,
    pub create_time: WallTime,
    pub resume_time: WallTime,
    pub reason: String,
}

/// Domains and forbidden streams, as the ingest cores see them.
#[derive(Debug, Default)]
pub struct Admission {
    pub domains: HashMap<String, LiveDomain>,
    /// Until when.
    pub forbidden: HashMap<StreamKey, WallTime>,
}

/// Can calls name this domain? Labels of letters, digits and `-`, with a dot, or `localhost`; in lower case.
pub fn is_domain_name(name: &str) -> bool {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    name.len() <= DOMAIN_BYTES_MAX && name.split('.').all(is_label) && (name.contains('.') || name == "localhost")
}

/// Why a publication is refused, by the number behind 18.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAdmitted {
    DomainInvalid,
    DomainDisabled,
    StreamForbidden,
    TimeMissing,
    Expired,
    SecretMissing,
    SecretWrong,
}

impl NotAdmitted {
    pub const fn message(self) -> &'static str {
        match self {
            NotAdmitted::DomainInvalid => "18/302 no push domain of this appliance",
            NotAdmitted::DomainDisabled => "18/303 the domain is disabled",
            NotAdmitted::StreamForbidden => "18/305 the stream is forbidden",
            NotAdmitted::TimeMissing => "18/500 txTime is missing or unreadable",
            NotAdmitted::Expired => "18/501 txTime has expired",
            NotAdmitted::SecretMissing => "18/502 txSecret is missing",
            NotAdmitted::SecretWrong => "18/503 txSecret is wrong",
        }
    }
}

/// `txSecret` and `txTime` of a push address, as they are written there.
#[derive(Clone, Copy, Default, Debug)]
pub struct PushSignature<'a> {
    pub secret: Option<&'a str>,
    pub time: Option<&'a str>,
}

impl Admission {
    /// May this publication begin? `added_only`: a domain that nobody has added is refused, too.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn check(&self, key: &StreamKey, signature: PushSignature<'_>, now: WallTime, added_only: bool) -> Result<(), NotAdmitted> {
        if key.domain.len() > DOMAIN_BYTES_MAX {
            return Err(NotAdmitted::DomainInvalid);
        }
        match self.domains.get(&*key.domain) {
            None if added_only => return Err(NotAdmitted::DomainInvalid),
            Some(domain) if domain.kind == DomainKind::Play => return Err(NotAdmitted::DomainInvalid),
            Some(domain) if !domain.enabled => return Err(NotAdmitted::DomainDisabled),
            None | Some(_) => {}
        }
        if self.forbidden.get(key).is_some_and(|until| now < *until) {
            return Err(NotAdmitted::StreamForbidden);
        }
        match self.domains.get(&*key.domain) {
            Some(domain) if domain.auth.enabled => domain.auth.check(&key.stream, signature, now),
            _ => Ok(()),
        }
    }
}

impl Admission {
    /// Nobody may publish this stream now, whatever the signature.
    pub fn is_forbidden(&self, key: &StreamKey, now: WallTime) -> bool {
        self.domains.get(&*key.domain).is_some_and(|domain| !domain.enabled) || self.forbidden.get(key).is_some_and(|until| now < *until)
    }
}

impl PushAuth {
    /// `txSecret` is the hex MD5 (or, with 64 digits, SHA-256) of key, stream name and `txTime` as written.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn check(&self, stream: &str, signature: PushSignature<'_>, now: WallTime) -> Result<(), NotAdmitted> {
        let given = |text: Option<&'_ str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let written = given(signature.time).ok_or(NotAdmitted::TimeMissing)?;
        let time_s = read_time(&written).ok_or(NotAdmitted::TimeMissing)?;
        let secret = given(signature.secret).ok_or(NotAdmitted::SecretMissing)?.to_ascii_lowercase();
        if now.unix_seconds() > time_s.saturating_add_unsigned(self.delta_s) {
            return Err(NotAdmitted::Expired);
        }
        let keys = [&self.master_key, &self.backup_key];
        let is_good = keys.into_iter().filter(|key| !key.is_empty()).any(|key| {
            let text = format!("{key}{stream}{written}");
            match secret.len() {
                32 => same(&hex(&Md5::digest(text.as_bytes())), &secret),
                64 => same(&hex(&Sha256::digest(text.as_bytes())), &secret),
                _ => false,
            }
        });
        if is_good { Ok(()) } else { Err(NotAdmitted::SecretWrong) }
    }
}

/// Unix seconds: eight hexadecimal digits, or ten decimal ones.
fn read_time(text: &str) -> Option<i64> {
    if text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let is_hex = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { i64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST_KEY: &str = "e12c46f2612d5106e2034781ab261ca3";
    const TEST_MD5: &str = "f85a2ab363fe4deaffef9754d79da6fe";
    const CAMERA_MD5: &str = "acc7886b8bc26eac3502fb69ef24c917";
    const CAMERA_SHA256: &str = "284fe83ae95b7d65b68625ca336160762cf3438294cb0794f065ea8902a2d51c";

    fn auth(master: &str, backup: &str) -> PushAuth {
        PushAuth { enabled: true, master_key: master.to_owned(), backup_key: backup.to_owned(), delta_s: 60 }
    }

    #[test]
    fn signatures() {
        use NotAdmitted::*;
        let (hex_s, camera_s) = (0x5C27_1099, 0x6955_C000);
        let upper = CAMERA_SHA256.to_uppercase();
        let decimal = hex(&Md5::digest(format!("capstanpushkeycamera-1{camera_s}").as_bytes()));
        let decimal_time = camera_s.to_string();
        let cases = [
            // main key, backup key, stream, txSecret, txTime, now
            (TEST_KEY, "", "test", Some(TEST_MD5), Some("5C271099"), hex_s, Ok(())),
            ("other", TEST_KEY, "test", Some(TEST_MD5), Some("5C271099"), hex_s, Ok(())),
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), Some("6955C000"), camera_s, Ok(())),
            ("capstanpushkey", "x", "camera-1", Some(CAMERA_SHA256), Some("6955C000"), camera_s - 86_400, Ok(())),
            ("capstanpushkey", "x", "camera-1", Some(&upper), Some("6955C000"), camera_s + 60, Ok(())),
            ("capstanpushkey", "x", "camera-1", Some(&decimal), Some(&decimal_time), camera_s, Ok(())),
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), Some("6955C000"), camera_s + 61, Err(Expired)),
            // Signed as it is written: another spelling of the same time is another text.
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), Some("6955c000"), camera_s, Err(SecretWrong)),
            ("capstanpushkey", "", "camera-2", Some(CAMERA_MD5), Some("6955C000"), camera_s, Err(SecretWrong)),
            ("wrong", "wronger", "camera-1", Some(CAMERA_MD5), Some("6955C000"), camera_s, Err(SecretWrong)),
            ("capstanpushkey", "", "camera-1", Some(&CAMERA_MD5[1..]), Some("6955C000"), camera_s, Err(SecretWrong)),
            ("capstanpushkey", "", "camera-1", Some(&CAMERA_SHA256[..32]), Some("6955C000"), camera_s, Err(SecretWrong)),
            ("capstanpushkey", "", "camera-1", Some("é"), Some("6955C000"), camera_s, Err(SecretWrong)),
            ("capstanpushkey", "", "camera-1", None, Some("6955C000"), camera_s, Err(SecretMissing)),
            ("capstanpushkey", "", "camera-1", Some(""), Some("6955C000"), camera_s, Err(SecretMissing)),
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), None, camera_s, Err(TimeMissing)),
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), Some(""), camera_s, Err(TimeMissing)),
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), Some("-955C000"), camera_s, Err(TimeMissing)),
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), Some("FFFFFFFFFFFFFFFFF"), camera_s, Err(TimeMissing)),
            ("capstanpushkey", "", "camera-1", Some(CAMERA_MD5), Some("tomorrow"), camera_s, Err(TimeMissing)),
        ];
        for (master, backup, stream, secret, time, now_s, expected) in cases {
            let outcome = auth(master, backup).check(stream, PushSignature { secret, time }, WallTime::from_unix_seconds(now_s));
            assert_eq!(outcome, expected, "{master} {backup} {stream} {secret:?} {time:?} {now_s}");
        }
        // An absent backup key is no empty key.
        let empty = hex(&Md5::digest(b"camera-16955C000"));
        let signature = PushSignature { secret: Some(&empty), time: Some("6955C000") };
        assert_eq!(auth("k", "").check("camera-1", signature, WallTime::from_unix_seconds(camera_s)), Err(SecretWrong));
    }

    #[test]
    fn domains_and_forbidden_streams() {
        use NotAdmitted::*;
        let domain = |name: &str, kind, enabled, auth: PushAuth| LiveDomain {
            name: name.to_owned(),
            kind,
            enabled,
            create_time: WallTime::default(),
            play_type: 1,
            is_delay_live: 0,
            is_mini_program_live: 0,
            auth,
        };
        let domains = [
            domain("open.example", DomainKind::Push, true, PushAuth::default()),
            domain("off.example", DomainKind::Push, false, PushAuth::default()),
            domain("play.example", DomainKind::Play, true, PushAuth::default()),
            domain("signed.example", DomainKind::Push, true, auth("k", "")),
        ];
        let mut admission = Admission { domains: domains.into_iter().map(|domain| (domain.name.clone(), domain)).collect(), ..Admission::default() };
        let until = WallTime::from_unix_seconds(100);
        for name in ["open.example", "unknown.example", "signed.example"] {
            admission.forbidden.insert(StreamKey::new(name, "live", "bad"), until);
        }
        let check = |domain: &str, stream: &str, now_s, added_only| {
            let key = StreamKey::new(domain, "live", stream);
            admission.check(&key, PushSignature::default(), WallTime::from_unix_seconds(now_s), added_only)
        };
        for (domain, stream, now_s, added_only, expected) in [
            ("open.example", "a", 0, false, Ok(())),
            ("open.example", "a", 0, true, Ok(())),
            ("unknown.example", "a", 0, false, Ok(())),
            ("unknown.example", "a", 0, true, Err(DomainInvalid)),
            ("play.example", "a", 0, false, Err(DomainInvalid)),
            ("off.example", "a", 0, false, Err(DomainDisabled)),
            ("open.example", "bad", 99, false, Err(StreamForbidden)),
            ("open.example", "bad", 100, false, Ok(())),
            ("open.example", "Bad", 0, false, Ok(())),
            ("unknown.example", "bad", 0, false, Err(StreamForbidden)),
            ("signed.example", "bad", 0, false, Err(StreamForbidden)),
            ("signed.example", "a", 0, false, Err(TimeMissing)),
            (&"x".repeat(DOMAIN_BYTES_MAX + 1), "a", 0, false, Err(DomainInvalid)),
        ] {
            assert_eq!(check(domain, stream, now_s, added_only), expected, "{domain} {stream} {now_s} {added_only}");
        }
    }
}
