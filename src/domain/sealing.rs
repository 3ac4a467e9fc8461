//! Encrypted recordings: which key and which initialization vector each segment has, and the line of the playlist that says so (RFC 8216, 4.3.2.4).
//!
//! The keys are derived from the appliance's master key (HMAC-SHA256 as the pseudo-random function of SP 800-108), so that nothing but that key has to
//! survive for a recording to be finished after a crash and to be played; in playlists they stand wrapped, as an `edk`.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::content_key::{ContentKey, MasterKey, NONCE_BYTES};
use crate::units::FileId;

/// The key of this appliance: one in a process, known before the first recording begins.
static MASTER: OnceLock<MasterKey> = OnceLock::new();

/// Makes the master key known to recorders and finishers. The first call counts.
pub fn hold_master_key(key: &MasterKey) {
    let _ = MASTER.set(key.clone());
}

/// What a template says of the encryption of its HLS recordings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HlsEncryption {
    /// Segments to a key; 0: one key for all.
    pub rotation_segments: u64,
}

/// How the segments of one file of a recording are encrypted.
#[derive(Clone, Debug)]
pub struct Sealing {
    master: MasterKey,
    file_id: FileId,
    part: u32,
    rotation_segments: u64,
}

impl Sealing {
    /// Of part `part` of a recording. `None`: this process has no master key.
    pub fn of(file_id: FileId, part: u32, terms: HlsEncryption) -> Option<Self> {
        Some(Self { master: MASTER.get()?.clone(), file_id, part, rotation_segments: terms.rotation_segments })
    }

    /// Which key segment number `segment` of the part has.
    fn turn(&self, segment: u64) -> String {
        match segment.checked_div(self.rotation_segments) {
            Some(turn) => format!("{} part {} key {turn}", self.file_id, self.part),
            None => format!("{} key", self.file_id),
        }
    }

    pub fn key(&self, segment: u64) -> ContentKey {
        ContentKey(self.master.derive("content", &self.turn(segment)))
    }

    /// Different for every segment of the recording.
    pub fn initialization_vector(&self, segment: u64) -> [u8; 16] {
        (u128::from(self.part) << 64 | u128::from(segment)).to_be_bytes()
    }

    /// The line in front of the segment. The key service is found from the recording's own address.
    pub fn key_line(&self, segment: u64) -> String {
        // The same key is wrapped the same way wherever it is named: one address, one request of a player.
        let nonce: [u8; NONCE_BYTES] = self.master.derive("nonce", &self.turn(segment));
        let edk = self.master.wrap(self.file_id, &self.key(segment), nonce);
        let address = super::content_key::key_address(self.file_id, &edk);
        let iv: String = self.initialization_vector(segment).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{address}\",IV=0x{iv}\n")
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The master key that all tests of this binary share.
    pub fn sealing(part: u32, rotation_segments: u64) -> Sealing {
        hold_master_key(&MasterKey([7; 32]));
        Sealing::of(FileId::new(FileId::MIN + 5).unwrap(), part, HlsEncryption { rotation_segments }).unwrap()
    }

    #[test]
    fn keys_turn_and_lines_name_them() {
        let (whole, turning) = (sealing(1, 0), sealing(1, 3));
        assert_eq!(whole.key(0), whole.key(1_000));
        assert_eq!(whole.key(0), sealing(2, 0).key(0), "one key for all parts");
        assert_eq!((turning.key(0), turning.key(3)), (turning.key(2), turning.key(5)));
        assert_ne!(turning.key(2), turning.key(3));
        assert_ne!(turning.key(0), sealing(2, 3).key(0));
        assert_ne!(whole.initialization_vector(1), sealing(2, 0).initialization_vector(1));
        let line = turning.key_line(4);
        assert_eq!(line, turning.key_line(4));
        assert!(line.ends_with(",IV=0x00000000000000010000000000000004\n"), "{line}");
        let edk = line.split("edk=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(turning.master.unwrap(edk), Some((turning.file_id, turning.key(4))));
    }
}
