//! What opening a media file takes, as a record in the arena: it stands there until the disk writer has carried it out, so that a process that is
//! killed in between loses neither the file nor the frames that already lie in its blocks.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::container::{MediaPath, OpenMedia};
use crate::domain::RecordingIdentity;
use crate::limits::{APP_BYTES_MAX, DOMAIN_BYTES_MAX, QUERY_BYTES_MAX, SEQUENCE_HEADER_BYTES_MAX, STREAM_BYTES_MAX, TRACKS_MAX};
use crate::units::FileId;

use super::arena::SLAB_BYTES;
use super::{faults, finish, headers};

/// The headers of all tracks, with the colours and channels of the first two, and what a container says besides of each track.
const HEADERS_BYTES_MAX: usize = (TRACKS_MAX + 2) * SEQUENCE_HEADER_BYTES_MAX + TRACKS_MAX * (1 << 10);
/// Addresses and names may be escaped letter by letter, and the publisher's stand twice in it.
const IDENTITY_BYTES_MAX: usize = 2 * 6 * (2 * DOMAIN_BYTES_MAX + APP_BYTES_MAX + STREAM_BYTES_MAX + 2 * QUERY_BYTES_MAX) + (8 << 10);
/// The most that a record can come to: headers stand in the head, in pieces, and in a small file beside it, and two recordings may begin with it. An FLV head,
/// which holds up to 32 headers of further tracks as they were sent, comes to less. Base64 with what stands around each piece is two fifths longer.
const RECORD_BYTES_MAX: usize = 2 * HEADERS_BYTES_MAX * 7 / 5 + 2 * IDENTITY_BYTES_MAX;
const _: () = assert!(RECORD_BYTES_MAX <= SLAB_BYTES, "a file whose record finds no place could never be begun");

/// More than any head has.
const HEAD_BYTES_MAX: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
struct RecordPath {
    folder: FileId,
    part: u32,
    extension: String,
}

impl RecordPath {
    fn of(path: MediaPath) -> Self {
        Self { folder: path.folder, part: path.part, extension: path.extension.to_owned() }
    }

    fn in_folder(&self, recording: &Path) -> std::path::PathBuf {
        recording.join(self.folder.to_string()).join(finish::media_name(self.part, &self.extension))
    }
}

#[derive(Serialize, Deserialize)]
struct Piece {
    at: usize,
    base64: String,
}

#[derive(Serialize, Deserialize)]
struct Small {
    folder: FileId,
    name: String,
    base64: String,
}

/// See the module.
#[derive(Serialize, Deserialize)]
pub struct OpenRecord {
    /// Of its data folder.
    #[serde(default)]
    pub label: String,
    media: RecordPath,
    link: Option<RecordPath>,
    begin: Vec<RecordingIdentity>,
    small_files: Vec<Small>,
    head_bytes: usize,
    head: Vec<Piece>,
}

impl OpenRecord {
    /// `label`: of the data folder where it is to be.
    pub fn of(open: &OpenMedia, label: &str) -> Self {
        Self {
            label: label.to_owned(),
            media: RecordPath::of(open.media),
            link: open.link.map(RecordPath::of),
            begin: open.begin.clone(),
            small_files: (open.small_files.iter())
                .map(|small| Small { folder: small.folder, name: small.name.clone(), base64: BASE64.encode(&small.bytes) })
                .collect(),
            head_bytes: open.head.len(),
            head: headers::pieces(&open.head).map(|(at, piece)| Piece { at, base64: BASE64.encode(piece) }).collect(),
        }
    }

    /// The folders of recordings that its files lie in.
    pub fn folders(&self) -> impl Iterator<Item = FileId> {
        std::iter::once(&self.media).chain(&self.link).map(|path| path.folder)
    }

    /// Those, and the recordings that begin with it.
    pub fn recordings(&self) -> impl Iterator<Item = FileId> {
        self.folders().chain(self.begin.iter().map(|identity| identity.file_id))
    }

    /// Do recordings begin with it?
    pub fn is_begin(&self) -> bool {
        !self.begin.is_empty()
    }

    /// The bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// If the bytes are no record, or one that cannot be ours: names that lead out of their folders, a head that does not hold its pieces.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        let record: Self = serde_json::from_slice(bytes)?;
        let extensions = std::iter::once(&record.media).chain(&record.link).map(|path| &path.extension);
        let mut names = extensions.chain(record.small_files.iter().map(|small| &small.name));
        // Base64: three bytes from four letters.
        let fits = |piece: &Piece| piece.at.checked_add(piece.base64.len() / 4 * 3).is_some_and(|end| end <= record.head_bytes.saturating_add(2));
        let is_ours = names.all(|name| !name.contains(['/', '\0'])) && record.head_bytes <= HEAD_BYTES_MAX && record.head.iter().all(fits);
        is_ours.then_some(record).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the record makes no sense"))
    }

    /// The names that the media file gets: recording and part.
    pub fn parts(&self) -> impl Iterator<Item = (FileId, u32)> + use<'_> {
        [Some(&self.media), self.link.as_ref()].into_iter().flatten().map(|path| (path.folder, path.part))
    }

    /// Carries out what is missing of it. Returns the recordings that begin with the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn carry_out(&self, recording: &Path) -> io::Result<Vec<FileId>> {
        faults::before(faults::Step::Create, &self.media.in_folder(recording))?;
        let decoded = |text: &str| BASE64.decode(text).map_err(io::Error::other);
        for identity in &self.begin {
            let folder = recording.join(identity.file_id.to_string());
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(finish::IDENTITY_NAME), finish::identity_text(identity)?)?;
        }
        for small in &self.small_files {
            std::fs::write(recording.join(small.folder.to_string()).join(&small.name), decoded(&small.base64)?)?;
        }
        let path = self.media.in_folder(recording);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() < self.head_bytes as u64 {
            file.set_len(self.head_bytes as u64)?;
        }
        for piece in &self.head {
            file.write_all_at(&decoded(&piece.base64)?, piece.at as u64)?;
        }
        if let Some(link) = &self.link {
            match std::fs::hard_link(&path, link.in_folder(recording)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(self.begin.iter().map(|identity| identity.file_id).collect())
    }
}

/// What lies in the blocks of an arena, and beside recordings, may be damaged: nothing panics, and what is read is read again as the same.
pub fn fuzz_recovery(data: &[u8]) {
    super::orphans::fuzz_orphans(data);
    if let Ok(record) = OpenRecord::decode(data) {
        let again = record.encode();
        assert_eq!(OpenRecord::decode(&again).expect("what we wrote").encode(), again);
        assert!(record.parts().count() == record.folders().count());
    }
    fn read_again<T: Serialize + serde::de::DeserializeOwned>(data: &[u8]) {
        let Ok(value) = serde_json::from_slice::<T>(data) else { return };
        let again = serde_json::to_value(&value).expect("plain values become JSON");
        let second: T = serde_json::from_value(again.clone()).expect("what we wrote");
        assert_eq!(serde_json::to_value(&second).expect("plain values become JSON"), again);
    }
    read_again::<RecordingIdentity>(data);
    read_again::<crate::domain::FinishedFile>(data);
    read_again::<crate::domain::PausedRecording>(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"media": {"folder": FILE, "part": 1, "extension": "mp4"}, "link": null, "begin": [],
        "small_files": [{"folder": FILE, "name": "init.mp4", "base64": ""}], "head_bytes": 600, "head": [{"at": 512, "base64": "AAAA"}]}"#;

    fn record() -> String {
        RECORD.replace("FILE", &FileId::MIN.to_string())
    }

    #[test]
    fn a_record_that_cannot_be_ours_is_not_carried_out() {
        assert!(OpenRecord::decode(record().as_bytes()).is_ok());
        for (from, to) in [
            ("init.mp4", "../init.mp4"),
            ("init.mp4", "/init.mp4"),
            ("\"mp4\"", "\"x/../../mp4\""),
            ("600", "514"),
            ("600", "6000000000000"),
            ("512", "18446744073709551615"),
        ] {
            let changed = record().replace(from, to);
            assert_ne!(changed, record());
            // Two bytes more than the head are within what base64 rounds up.
            assert_eq!(OpenRecord::decode(changed.as_bytes()).is_ok(), to == "514", "{to}");
        }
    }

    #[test]
    fn the_longest_record_fits_into_a_block() {
        let folder = FileId::new(FileId::MIN).expect("an id");
        let worst = |bytes: usize| "\u{1}".repeat(bytes);
        let key = crate::units::StreamKey::new(&worst(DOMAIN_BYTES_MAX), &worst(APP_BYTES_MAX), &worst(STREAM_BYTES_MAX));
        let identity = RecordingIdentity {
            push_url: worst(DOMAIN_BYTES_MAX + APP_BYTES_MAX + STREAM_BYTES_MAX + QUERY_BYTES_MAX),
            stream_param: worst(QUERY_BYTES_MAX),
            alias_domain: worst(DOMAIN_BYTES_MAX),
            ..RecordingIdentity::example(folder, crate::units::Format::Mp4, key)
        };
        let media = MediaPath { folder, part: u32::MAX, extension: "mp4" };
        let open = OpenMedia {
            media,
            link: Some(media),
            writer: 1,
            begin: vec![identity.clone(), identity],
            small_files: vec![crate::container::SmallFile { folder, name: "init-1.m4s".to_owned(), bytes: vec![1; HEADERS_BYTES_MAX] }],
            // Somewhere in reserved room.
            head: [vec![0; 1 << 20], vec![1; HEADERS_BYTES_MAX], vec![0; 1 << 20]].concat(),
        };
        let bytes = OpenRecord::of(&open, "d12345678").encode();
        assert!(bytes.len() <= RECORD_BYTES_MAX, "{} bytes, at most {RECORD_BYTES_MAX}", bytes.len());
        assert!(bytes.len() > RECORD_BYTES_MAX / 4 * 3, "{} bytes", bytes.len());
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(at in 0..RECORD.len(), byte in proptest::num::u8::ANY, cut in 0..400_usize) {
            let mut damaged = record().into_bytes();
            let at = at.min(damaged.len() - 1);
            damaged[at] = byte;
            fuzz_recovery(&damaged);
            damaged.truncate(cut);
            fuzz_recovery(&damaged);
        }
    }
}
