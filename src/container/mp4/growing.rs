//! A file that is being recorded as the samples that lie on the disk so far: goes on where it stopped.

use super::event;
use super::fragment::{MDAT_HEAD_BYTES, PRFT_BYTES, PRFT_HEADER, trafs};
use super::head::{Head, read};
use super::movie::{Movie, MovieSample, MovieTrack};
use super::scan::moof_bytes;
use crate::container::boxes::be32;
use crate::container::window::is_written;
use crate::container::{ReadAt, ScanError};
use crate::media::TrackKind;

/// Before the last bytes on the disk, so much may be on its way there: blocks are written in any order.
const UNDER_WAY_BYTES: u64 = 8 << 20;

/// The first track of each kind.
#[derive(Clone, Debug)]
pub struct Growing {
    movie: Movie,
    ids: Vec<u32>,
    /// Where the next fragment is looked for.
    at: u64,
}

/// A fragment that another box follows: nothing is changed in it any more.
struct Closed {
    at: u64,
    moof_bytes: usize,
    end: u64,
}

impl Growing {
    /// Reads the head of the file.
    ///
    /// # Errors
    /// [`ScanError::Head`] if it is none of [`super::Mp4Writer`], [`ScanError::Read`].
    pub fn begin<R: ReadAt + ?Sized>(file: &R) -> Result<Self, ScanError> {
        let head = Head::find(file)?;
        let (mut tracks, mut ids) = (Vec::new(), Vec::new());
        for entry in head.entries {
            if tracks.iter().all(|track: &MovieTrack| track.kind != entry.kind) {
                ids.push(entry.id);
                let (kind, stsd, width, height, label) = (entry.kind, entry.stsd, entry.width, entry.height, entry.label);
                tracks.push(MovieTrack { id: entry.id, kind, ticks_per_second: 1_000, stsd, width, height, samples: Vec::new(), start: 0, label });
            }
        }
        Ok(Self { movie: Movie { tracks }, ids, at: head.bytes })
    }

    /// Takes the fragments that have come since.
    ///
    /// # Errors
    /// [`ScanError::Read`].
    pub fn go_on<R: ReadAt + ?Sized>(&mut self, file: &R) -> Result<(), ScanError> {
        let closed = self.closed(file)?;
        let end = closed.last().map_or(0, |last| last.end);
        for Closed { at, moof_bytes, end: fragment_end } in closed {
            if fragment_end + UNDER_WAY_BYTES > end && !is_written(file, at..fragment_end)? {
                break;
            }
            let mut moof = vec![0; moof_bytes];
            read(file, at, &mut moof)?;
            self.take(&moof, at);
            self.at = fragment_end;
        }
        Ok(())
    }

    /// What there is; `None` as long as the first track has nothing.
    pub fn movie(&self) -> Option<&Movie> {
        (!self.movie.tracks.first()?.samples.is_empty()).then_some(&self.movie)
    }

    fn closed<R: ReadAt + ?Sized>(&self, file: &R) -> Result<Vec<Closed>, ScanError> {
        let mut closed: Vec<Closed> = Vec::new();
        let (mut at, mut header) = (self.at, [0; 8]);
        let mut open: Option<Closed> = None;
        loop {
            read(file, at, &mut header)?;
            let other = event::box_bytes(&header).or(event::room_bytes(&header)).or((header == PRFT_HEADER).then_some(PRFT_BYTES));
            let moof = moof_bytes(&header);
            if other.is_none() && moof.is_none() {
                return Ok(closed);
            }
            closed.extend(open.take());
            let Some(moof_bytes) = moof else {
                at += other.unwrap_or_default() as u64;
                continue;
            };
            read(file, at + moof_bytes as u64, &mut header)?;
            let mdat_bytes = be32(&header, 0).unwrap_or(0) as usize;
            let end = at + (moof_bytes + mdat_bytes) as u64;
            if &header[4..] != b"mdat" || mdat_bytes < MDAT_HEAD_BYTES || end + 8 > file.len() {
                return Ok(closed);
            }
            open = Some(Closed { at, moof_bytes, end });
            at = end;
        }
    }

    fn take(&mut self, moof: &[u8], moof_at: u64) {
        let is_first = self.movie.tracks.iter().all(|track| track.samples.is_empty());
        for traf in trafs(moof) {
            let place = self.ids.iter().position(|id| *id == traf.track_id);
            let Some(track) = place.map(|place| &mut self.movie.tracks[place]).filter(|track| track.kind == traf.kind) else { continue };
            let mut dts = traf.dts_ms;
            for run in traf.runs(moof) {
                let mut offset = moof_at + run.data_offset;
                for (index, entry) in run.entries(moof, traf.kind).enumerate() {
                    if let Some(last) = track.samples.last_mut() {
                        dts = dts.max(last.dts);
                        last.duration = u32::try_from(dts - last.dts).unwrap_or(u32::MAX);
                    }
                    let sync = traf.kind == TrackKind::Audio || (run.key && index == 0);
                    track.samples.push(MovieSample { offset, bytes: entry.bytes, dts, cts: entry.cts_ms, duration: entry.duration_ms, sync });
                    dts += u64::from(entry.duration_ms);
                    offset += u64::from(entry.bytes);
                }
            }
        }
        if is_first {
            // As in the finished file, the first presentation is at 0.
            let begin = self.movie.begin_ms();
            self.movie.tracks.iter_mut().for_each(|track| track.start = -begin);
        }
    }
}

/// Any bytes as a file that grows by steps: what is found lies in it.
pub fn fuzz_growing(data: &[u8]) {
    let Ok(mut growing) = Growing::begin(data) else { return };
    for part in [data.len() / 2, data.len()] {
        if growing.go_on(&data[..part]).is_err() {
            return;
        }
        let _ = growing.movie().map(|movie| super::segments(movie, 2_000));
    }
}
