//! Finished files, read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use capstan::container::mp4;
use capstan::domain::FinishedFile;
use capstan::domain::content_key::decrypt_cbc;
use capstan::media::TrackKind;
use capstan::segment::finish;
use capstan::units::Format;

use crate::marks::{Kind, Mark};
use crate::store::entries;
use crate::{MASTER_KEY, Simulation};

/// Room that is left for the index in front of an MP4 file.
const INDEX_ROOM_BYTES: usize = 32 << 10;

/// A finished file, read again.
pub struct Contents {
    pub file: FinishedFile,
    /// As they stand in the file.
    pub marks: Vec<Mark>,
    /// Its parts are transport streams.
    pub transport_stream: bool,
    pub sealed: bool,
    /// The index of one of its media files did not fit into the room in front: `true` if room was made, `false` if it is at the end.
    pub large_index: Option<bool>,
}

impl Simulation {
    pub fn read_all(&self) -> Vec<Contents> {
        let dts: BTreeMap<Mark, i64> = self
            .truths
            .iter()
            .flat_map(|truth| {
                let truth = truth.borrow();
                let beside = truth.beside.iter().map(|(frame, _)| frame);
                truth.frames.iter().chain(beside).map(|frame| (frame.mark, frame.dts_ms)).collect::<Vec<_>>()
            })
            .collect();
        entries(&self.catalog).values().map(|(disk, file)| self.read(*disk, file, &dts)).collect()
    }

    fn read(&self, disk: usize, file: &FinishedFile, dts: &BTreeMap<Mark, i64>) -> Contents {
        let folder = self.finish[disk].data_folder.join(&file.folder);
        let what = (file.identity.file_id, file.identity.format);
        let faults = capstan::inspect::verify(&folder).unwrap_or_else(|error| panic!("{what:?}: {error}"));
        assert!(faults.is_empty() || !file.receipt.damaged.is_empty(), "{what:?}: {faults:?}");
        let parts: Vec<PathBuf> = if file.identity.format == Format::Hls {
            let parts = finish::media_files(&folder, &file.identity, &file.entry).expect("listed");
            parts.into_iter().map(|(_, name)| folder.join(name)).collect()
        } else {
            vec![folder.join(&file.entry)]
        };
        let mut contents = Contents {
            file: file.clone(),
            marks: Vec::new(),
            transport_stream: false,
            sealed: file.identity.encryption.is_some(),
            large_index: None,
        };
        if contents.sealed {
            contents.transport_stream = true;
            contents.marks = Mark::find(&unsealed(&folder, &file.entry)).into_iter().map(|(_, mark)| mark).collect();
        } else {
            for part in parts {
                let bytes = std::fs::read(&part).expect("a media file");
                let found = Mark::find(&bytes);
                self.check_times(&part, &bytes, &found, dts);
                match part.extension().and_then(|extension| extension.to_str()) {
                    Some("ts") => contents.transport_stream = true,
                    Some("mp4" | "m4s") => contents.large_index = contents.large_index.or(large_index(&bytes)),
                    _ => {}
                }
                contents.marks.extend(found.into_iter().map(|(_, mark)| mark));
            }
        }
        for (track, kind) in [(&file.summary.video, Kind::Picture), (&file.summary.audio, Kind::Sound)] {
            let held = contents.marks.iter().filter(|mark| mark.kind == kind).count() as u64;
            let told = track.as_ref().map_or(0, |track| track.frames);
            assert!(told == held || self.has_unmarked(), "{what:?}: {held} frames ({kind:?}), {told} are told");
        }
        contents
    }

    /// Some garbage was taken for frames.
    fn has_unmarked(&self) -> bool {
        self.truths.iter().any(|truth| truth.borrow().unmarked > 0)
    }

    /// Timestamps keep their differences, by millisecond in FLV and by tick in MP4.
    fn check_times(&self, part: &Path, bytes: &[u8], found: &[(usize, Mark)], dts: &BTreeMap<Mark, i64>) {
        let mut times: Vec<(Mark, i64)> = Vec::new();
        match part.extension().and_then(|extension| extension.to_str()) {
            Some("flv") => {
                let (mut at, mut marks) = (13, found.iter().peekable());
                while at + 11 <= bytes.len() {
                    let word = |at: usize| usize::from(bytes[at]) << 16 | usize::from(bytes[at + 1]) << 8 | usize::from(bytes[at + 2]);
                    let (size, time) = (word(at + 1), word(at + 4) | usize::from(bytes[at + 7]) << 24);
                    let end = at + 11 + size + 4;
                    if let Some((_, mark)) = marks.next_if(|(place, _)| *place < end) {
                        times.push((*mark, i64::from(time as u32)));
                    }
                    at = end;
                }
            }
            Some("mp4" | "m4s") => {
                let movie = mp4::read_movie(bytes).unwrap_or_else(|error| panic!("{}: {error}", part.display()));
                for track in &movie.tracks {
                    for sample in &track.samples {
                        let range = sample.offset as usize..sample.offset as usize + sample.bytes as usize;
                        let Some((_, mark)) = Mark::find(&bytes[range]).first().copied() else {
                            assert!(self.has_unmarked(), "{}: a sample without a frame", part.display());
                            continue;
                        };
                        assert_eq!(mark.kind.is_picture(), track.kind == TrackKind::Video);
                        times.push((mark, (sample.dts as f64 * 1_000.0 / f64::from(track.ticks_per_second)).round() as i64));
                    }
                }
            }
            _ => {}
        }
        for kind in [Kind::Picture, Kind::Sound, Kind::FurtherPicture, Kind::FurtherSound] {
            let track: Vec<_> = times.iter().filter(|(mark, _)| mark.kind == kind).collect();
            for pair in track.windows(2) {
                let [(before, before_ms), (after, after_ms)] = pair else { unreachable!("windows of two") };
                let (Some(from), Some(to)) = (dts.get(before), dts.get(after)) else { continue };
                assert_eq!(after_ms - before_ms, to - from, "{}: from {before:?} to {after:?}", part.display());
            }
        }
    }
}

/// See [`Contents::large_index`].
fn large_index(bytes: &[u8]) -> Option<bool> {
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let mut size = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        if size == 1 {
            size = u64::from_be_bytes(bytes[at + 8..at + 16].try_into().expect("eight bytes")) as usize;
        }
        if &bytes[at + 4..at + 8] == b"moov" {
            return (size > INDEX_ROOM_BYTES).then_some(at < INDEX_ROOM_BYTES);
        }
        at += size.max(8);
    }
    None
}

/// What a player gets of an encrypted recording: each segment of its playlist, with the key that stands in front of it.
fn unsealed(folder: &Path, entry: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(folder.join(entry)).expect("a playlist");
    let (mut plain, mut key, mut range) = (Vec::new(), None, (0, 0));
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("#EXT-X-KEY:METHOD=AES-128,") {
            let edk = line.split("edk=").nth(1).and_then(|rest| rest.split('"').next()).expect("a key");
            let iv = line.split("IV=0x").nth(1).and_then(|iv| u128::from_str_radix(&iv[..32], 16).ok()).expect("an initialization vector");
            key = Some((MASTER_KEY.unwrap(edk).expect("a key of ours").1, iv.to_be_bytes()));
        } else if let Some(line) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            let (length, offset) = line.split_once('@').expect("a place");
            range = (offset.parse().expect("an offset"), length.parse::<usize>().expect("a length"));
        } else if !line.starts_with('#') && !line.is_empty() {
            let bytes = std::fs::read(folder.join(line)).expect("a part");
            let (key, iv) = key.as_ref().expect("a key stands before every segment");
            let segment: &[u8] = &bytes[range.0..][..range.1];
            plain.extend(decrypt_cbc(key, *iv, segment).expect("a segment under this key"));
        }
    }
    plain
}
