//! Keys of encrypted streams: how a segment is encrypted, how a key is kept and named (`edk`), and who may have it.
//!
//! An `edk` is the key itself, encrypted with the appliance's master key and bound to the file it belongs to: what lies on the disk and what stands in
//! playlists tells nobody anything without the master key.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::units::FileId;

/// Bytes of chance that each wrapping needs.
pub const NONCE_BYTES: usize = 12;
const TOKEN_MAC_BYTES: usize = 16;

/// What encrypts the segments of one rendition.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey(pub [u8; 16]);

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKey")
    }
}

fn initialization_vector(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

/// The address of a key as playlists in a file's folder name it: the key service beside them, whatever stands in front of our addresses.
pub fn key_address(file_id: FileId, edk: &str) -> String {
    format!("../../../vodkey?fileId={file_id}&keySource=VodBuildInKMS&edk={edk}")
}

/// A whole segment, AES-128 in CBC mode with PKCS #7 padding; the initialization vector is its number (RFC 8216, 5.2).
pub fn encrypt_segment(key: &ContentKey, number: u64, plain: &[u8]) -> Vec<u8> {
    cbc::Encryptor::<aes::Aes128>::new(&key.0.into(), &initialization_vector(number).into()).encrypt_padded_vec::<Pkcs7>(plain)
}

/// The reverse of [`encrypt_segment`]; `None`: not encrypted with this key.
pub fn decrypt_segment(key: &ContentKey, number: u64, encrypted: &[u8]) -> Option<Vec<u8>> {
    decrypt_cbc(key, initialization_vector(number), encrypted)
}

/// As [`decrypt_segment`], with an initialization vector of its own.
pub fn decrypt_cbc(key: &ContentKey, vector: [u8; 16], encrypted: &[u8]) -> Option<Vec<u8>> {
    cbc::Decryptor::<aes::Aes128>::new(&key.0.into(), &vector.into()).decrypt_padded_vec::<Pkcs7>(encrypted).ok()
}

/// The one secret of the appliance that all others are kept with.
#[derive(Clone)]
pub struct MasterKey(pub [u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// Bytes that only this key gives, for what `purpose` and `label` name.
    pub fn derive<const BYTES: usize>(&self, purpose: &str, label: &str) -> [u8; BYTES] {
        const { assert!(BYTES <= 32, "one block of the function") };
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).expect("any length will do");
        mac.update(format!("derived {purpose}: {label}").as_bytes());
        let all = mac.finalize().into_bytes();
        std::array::from_fn(|at| all[at])
    }

    /// Encrypts a key of a file; `nonce` is fresh chance.
    pub fn wrap(&self, file_id: FileId, key: &ContentKey, nonce: [u8; NONCE_BYTES]) -> String {
        let mut plain = file_id.get().to_be_bytes().to_vec();
        plain.extend_from_slice(&key.0);
        let sealed = Aes256Gcm::new(&self.0.into()).encrypt(&Nonce::from(nonce), plain.as_slice()).unwrap_or_default();
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// The file and the key of an `edk`; `None`: none of ours.
    pub fn unwrap(&self, edk: &str) -> Option<(FileId, ContentKey)> {
        let bytes = URL_SAFE_NO_PAD.decode(edk).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let plain = Aes256Gcm::new(&self.0.into()).decrypt(&Nonce::from(*nonce), sealed).ok()?;
        let (file_id, key) = plain.split_first_chunk::<8>()?;
        Some((FileId::new(u64::from_be_bytes(*file_id))?, ContentKey(key.try_into().ok()?)))
    }

    /// A token for the keys of a file, valid until this Unix second. Letters, digits and `-`: it stands in file names.
    pub fn token(&self, file_id: FileId, expire_s: i64) -> String {
        let mac: String =
            self.mac(file_id, expire_s).finalize().into_bytes().iter().take(TOKEN_MAC_BYTES).map(|byte| format!("{byte:02x}")).collect();
        format!("{expire_s:x}-{mac}")
    }

    /// Is this a token for the file that is still valid?
    pub fn accepts(&self, token: &str, file_id: FileId, now_s: i64) -> bool {
        let Some((expire, mac)) = token.split_once('-') else { return false };
        let Ok(expire_s) = i64::from_str_radix(expire, 16) else { return false };
        let bytes: Option<Vec<u8>> = (0..mac.len()).step_by(2).map(|at| u8::from_str_radix(mac.get(at..at + 2)?, 16).ok()).collect();
        let is_ours = bytes.is_some_and(|bytes| bytes.len() == TOKEN_MAC_BYTES && self.mac(file_id, expire_s).verify_truncated_left(&bytes).is_ok());
        is_ours && now_s <= expire_s
    }

    fn mac(&self, file_id: FileId, expire_s: i64) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).expect("any length will do");
        mac.update(format!("drm token of {file_id} until {expire_s}").as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u64) -> FileId {
        FileId::new(FileId::MIN + number).unwrap()
    }

    #[test]
    fn the_segment_cipher_is_the_standard_one() {
        // printf segment | openssl enc -aes-128-cbc -K 000102…0f -iv 00…02
        let key = ContentKey(std::array::from_fn(|at| at as u8));
        let encrypted = encrypt_segment(&key, 2, b"segment");
        let hex: String = encrypted.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c8cde30c1aa3f6b9a01e0fb6792b93df");
        assert_eq!(decrypt_segment(&key, 2, &encrypted).as_deref(), Some(b"segment".as_slice()));
    }

    #[test]
    fn wrapped_keys_tell_nothing_and_come_back() {
        let (master, key) = (MasterKey([7; 32]), ContentKey([9; 16]));
        let edk = master.wrap(file(1), &key, [1; NONCE_BYTES]);
        assert_eq!(master.unwrap(&edk), Some((file(1), key.clone())));
        assert_ne!(master.wrap(file(1), &key, [2; NONCE_BYTES]), edk);
        assert_eq!(MasterKey([8; 32]).unwrap(&edk), None);
        for at in 0..edk.len() {
            let mut damaged = edk.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(damaged).unwrap();
            assert_eq!(master.unwrap(&text), None, "{at}");
            assert_eq!(master.unwrap(&edk[..at]), None, "{at}");
        }
        assert!(!format!("{master:?} {key:?}").contains('9'));
    }

    #[test]
    fn tokens() {
        let master = MasterKey([7; 32]);
        let token = master.token(file(1), 1_000);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        assert!(master.accepts(&token, file(1), 1_000));
        assert!(!master.accepts(&token, file(1), 1_001), "late");
        assert!(!master.accepts(&token, file(2), 1_000), "of another file");
        assert!(!MasterKey([8; 32]).accepts(&token, file(1), 1_000));
        for bad in ["", "-", "3e8-", "3e8", &token[..token.len() - 2], &token.replace("3e8-", "3e9-"), "3e8-zz", "é-é"] {
            assert!(!master.accepts(bad, file(1), 0), "{bad}");
        }
    }
}
