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
use crate::units::FileId;

use super::finish;

/// Heads are mostly reserved room: pieces of this size that are all zeros are left out.
const PIECE_BYTES: usize = 512;

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
        let pieces = open.head.chunks(PIECE_BYTES).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
        Self {
            label: label.to_owned(),
            media: RecordPath::of(open.media),
            link: open.link.map(RecordPath::of),
            begin: open.begin.clone(),
            small_files: (open.small_files.iter())
                .map(|small| Small { folder: small.folder, name: small.name.clone(), base64: BASE64.encode(&small.bytes) })
                .collect(),
            head_bytes: open.head.len(),
            head: pieces.map(|(index, piece)| Piece { at: index * PIECE_BYTES, base64: BASE64.encode(piece) }).collect(),
        }
    }

    /// The folders of recordings that its files lie in.
    pub fn folders(&self) -> impl Iterator<Item = FileId> {
        std::iter::once(&self.media).chain(&self.link).map(|path| path.folder)
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
    /// If the bytes are no record.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        Ok(serde_json::from_slice(bytes)?)
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
        let decoded = |text: &str| BASE64.decode(text).map_err(io::Error::other);
        for identity in &self.begin {
            let folder = recording.join(identity.file_id.to_string());
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(finish::IDENTITY_NAME), serde_json::to_vec_pretty(identity).map_err(io::Error::other)?)?;
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
