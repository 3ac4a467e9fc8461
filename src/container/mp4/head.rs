//! The head of a file: what is written before the first frame, and finding it again whatever happened since.

use super::MEDIA_TIME_BIAS_MS;
use super::entry::{TrackEntry, entries, parse_entries};
use super::moov::fragmented_moov;
use crate::container::boxes::{BoxWriter, HEADER_BYTES, LARGE_HEADER_BYTES, be32, be64, find};
use crate::container::{HEAD_ALIGN_BYTES, ReadAt, ScanError};
use crate::media::Tracks;
use crate::units::WallTime;

/// The box at the end of the head: header, length of the `moov` before it, mark, room for the header of the final `mdat`.
const LOCATOR_BYTES: usize = HEADER_BYTES + 8 + LARGE_HEADER_BYTES;
const LOCATOR_MARK: [u8; 4] = *b"cpst";
/// Where [`crate::container::Insert`] makes room: the first page boundary, inside the reserve of every head.
pub const INSERT_AT: u64 = HEAD_ALIGN_BYTES as u64;
/// The initial `moov` holds no samples; sequence headers are at most 64 KiB each, of at most 16 tracks.
const INITIAL_MOOV_BYTES_MAX: u32 = 2 << 20;
/// Where the first fragment may begin at most: some 2,000 hours of index. A file that is none of ours is read no further.
const HEAD_BYTES_MAX: u64 = 1 << 30;
/// From the begin of 1904, which `mvhd` counts from, to that of 1970.
const UNIX_EPOCH_IN_1904_SECONDS: i64 = 2_082_844_800;
/// Bytes of `ftyp`, which the final `moov` follows.
pub const FTYP_BYTES: u64 = 36;

/// The head of a new file: whole pages, with at least `reserve_bytes` for the final `moov`.
pub fn head(tracks: &Tracks, reserve_bytes: usize) -> Vec<u8> {
    head_of(tracks, reserve_bytes, None)
}

/// The same for a file whose first frame was at `created`.
pub fn head_of(tracks: &Tracks, reserve_bytes: usize, created: Option<WallTime>) -> Vec<u8> {
    let mut moov = BoxWriter::default();
    let created = created.and_then(|wall| u64::try_from(wall.unix_micros().div_euclid(1_000_000) + UNIX_EPOCH_IN_1904_SECONDS).ok()).unwrap_or(0);
    fragmented_moov(&mut moov, &entries(tracks), Some(MEDIA_TIME_BIAS_MS), created);
    let moov = moov.into_bytes();

    // The final moov and the header of the `free` box behind it must not touch the initial moov; the insertion point lies in the reserve.
    let reserve_end = (FTYP_BYTES as usize + reserve_bytes + HEADER_BYTES).max(INSERT_AT as usize + HEADER_BYTES);
    let head_bytes = (reserve_end + moov.len() + LOCATOR_BYTES).next_multiple_of(HEAD_ALIGN_BYTES);
    let free_bytes = head_bytes - LOCATOR_BYTES - moov.len() - FTYP_BYTES as usize;

    let mut out = BoxWriter::with_capacity(head_bytes);
    ftyp(&mut out);
    out.container(b"free", |out| out.zeros(free_bytes - HEADER_BYTES));
    out.raw(&moov);
    out.container(b"free", |out| {
        out.u32(moov.len() as u32);
        out.raw(&LOCATOR_MARK);
        out.zeros(LARGE_HEADER_BYTES);
    });
    out.into_bytes()
}

/// The init segment of HLS playlists (EXT-X-MAP): `ftyp` and `moov`, without edit list, for the same fragments.
pub fn init_segment(tracks: &Tracks) -> Vec<u8> {
    let mut out = BoxWriter::default();
    ftyp(&mut out);
    fragmented_moov(&mut out, &entries(tracks), None, 0);
    out.into_bytes()
}

fn ftyp(out: &mut BoxWriter) {
    out.container(b"ftyp", |out| {
        out.raw(b"isom");
        out.u32(0x200);
        // iso6: fragments whose base is their moof, signed composition offsets.
        for brand in [b"isom", b"iso2", b"iso6", b"avc1", b"mp41"] {
            out.raw(brand);
        }
    });
}

/// A head found in a file.
#[derive(Debug)]
pub struct Head {
    /// Its length: the offset of the first fragment.
    pub bytes: u64,
    /// The final `moov` and one more box header fit between `ftyp` and here, the start of the initial `moov`.
    pub reserve_end: u64,
    pub entries: Vec<TrackEntry>,
    /// Seconds since 1904, as `mvhd` has it; 0: nobody said.
    pub created: u64,
}

impl Head {
    /// Looks for the locator before every page boundary: the reserve in front of it may have grown by an insertion, may be zeros, half a final `moov` or a whole one.
    pub fn find<R: ReadAt + ?Sized>(file: &R) -> Result<Self, ScanError> {
        let mut first = [0; HEADER_BYTES];
        read(file, 0, &mut first)?;
        if &first[4..] != b"ftyp" {
            return Err(ScanError::Head { what: "no ftyp box at the start" });
        }
        let mut end = 2 * INSERT_AT;
        while end <= file.len().min(HEAD_BYTES_MAX) {
            let mut locator = [0; 8];
            let locator_at = end - LOCATOR_BYTES as u64;
            read(file, locator_at + HEADER_BYTES as u64, &mut locator)?;
            let moov_bytes = be32(&locator, 0).unwrap_or(0);
            let reserve_end = locator_at.saturating_sub(u64::from(moov_bytes));
            if locator[4..] == LOCATOR_MARK && moov_bytes <= INITIAL_MOOV_BYTES_MAX && reserve_end > INSERT_AT {
                let mut moov = vec![0; moov_bytes as usize];
                read(file, reserve_end, &mut moov)?;
                if let Some(entries) = parse_entries(&moov) {
                    let mvhd = find(&moov, b"moov").and_then(|body| find(body, b"mvhd"));
                    let created = mvhd.and_then(|mvhd| if mvhd.first() == Some(&1) { be64(mvhd, 4) } else { be32(mvhd, 4).map(u64::from) });
                    return Ok(Self { bytes: end, reserve_end, entries, created: created.unwrap_or(0) });
                }
            }
            end += HEAD_ALIGN_BYTES as u64;
        }
        Err(ScanError::Head { what: "no initial moov box before a page boundary" })
    }
}

/// Fills `buffer`, with zeros where the file is shorter.
pub fn read<R: ReadAt + ?Sized>(file: &R, offset: u64, buffer: &mut [u8]) -> Result<(), ScanError> {
    let count = file.read_at(offset, buffer).map_err(|source| ScanError::Read { offset, source })?;
    buffer[count..].fill(0);
    Ok(())
}
