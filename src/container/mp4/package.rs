//! HLS segments of a finished movie, made for a request: an init segment, and one fragment for each segment, with the samples as they are.

use std::io;
use std::ops::Range;

use super::fragment::default_flags;
use super::moov::{Head, mvhd, trak};
use super::movie::Movie;
use super::tables::{SampleTable, Scale};
use crate::container::boxes::BoxWriter;
use crate::media::TrackKind;

/// Media time moves up by this, so that a sample from before the movie's begin has a decoding time (`tfdt` is unsigned).
const BIAS_MS: i64 = 10_000;
/// A key frame this little before the wanted length ends the segment.
const CUT_EARLY_MS: i64 = 100;
/// Media of one segment that are held in memory.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// One segment of a movie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MovieSegment {
    pub start_ms: i64,
    pub duration_ms: u64,
    /// Samples of each track.
    pub ranges: Vec<Range<usize>>,
}

impl MovieSegment {
    /// All of a movie.
    pub fn whole(movie: &Movie) -> Self {
        let ranges = movie.tracks.iter().map(|track| 0..track.samples.len()).collect();
        Self { start_ms: movie.begin_ms(), duration_ms: movie.duration_ms(), ranges }
    }
}

/// Cuts a movie into segments that begin with key frames, about `segment_ms` long.
pub fn segments(movie: &Movie, segment_ms: u64) -> Vec<MovieSegment> {
    let leading = &movie.tracks[0];
    let is_video = leading.kind == TrackKind::Video;
    let mut starts = vec![0];
    for index in 1..leading.samples.len() {
        let begun = leading.pts(starts[starts.len() - 1]);
        let long = leading.ms(leading.pts(index) - begun) + CUT_EARLY_MS >= segment_ms as i64;
        if long && (!is_video || leading.samples[index].sync) {
            starts.push(index);
        }
    }
    let mut segments: Vec<MovieSegment> = Vec::with_capacity(starts.len());
    let mut others = vec![0; movie.tracks.len()];
    for (number, &from) in starts.iter().enumerate() {
        let next = starts.get(number + 1).copied();
        let to = next.unwrap_or(leading.samples.len());
        let start_ms = leading.ms(leading.pts(from));
        let end_ms = next.map_or_else(|| leading.ms(leading.end()), |next| leading.ms(leading.pts(next)));
        let mut ranges = Vec::with_capacity(movie.tracks.len());
        ranges.push(from..to);
        for (track, begin) in movie.tracks.iter().zip(&mut others).skip(1) {
            let behind = match next {
                Some(_) => {
                    let end = track.ticks(end_ms);
                    let mut behind = *begin;
                    while behind < track.samples.len() && track.pts(behind) < end {
                        behind += 1;
                    }
                    behind
                }
                None => track.samples.len(),
            };
            ranges.push(*begin..behind);
            *begin = behind;
        }
        segments.push(MovieSegment { start_ms, duration_ms: (end_ms - start_ms).max(1) as u64, ranges });
    }
    segments
}

/// The init segment (EXT-X-MAP).
pub fn init(movie: &Movie) -> Vec<u8> {
    let mut out = BoxWriter::default();
    out.raw(b"\0\0\0\x20ftypisom\0\0\x02\0isomiso6avc1mp41");
    let empty = SampleTable::default();
    let heads = Head::of_movie(movie.tracks.iter());
    out.container(b"moov", |out| {
        mvhd(out, 0, 1_000, 0, heads.iter().map(|head| head.id).max().unwrap_or(0) + 1);
        for head in &heads {
            trak(out, head, &[], 0, |out| empty.write(out, 0, &Scale::default()));
        }
        out.container(b"mvex", |out| {
            for (track, head) in movie.tracks.iter().zip(&heads) {
                out.full(b"trex", 0, 0, |out| {
                    out.u32(head.id);
                    out.u32(1);
                    out.u32(0);
                    out.u32(0);
                    out.u32(default_flags(track.kind));
                });
            }
        });
    });
    out.into_bytes()
}

/// One segment: `moof` and `mdat`. `read` fills a buffer from an offset of the movie's file.
///
/// # Errors
/// Those of `read`, and [`io::ErrorKind::InvalidData`] for a segment above [`SEGMENT_BYTES_MAX`].
pub fn fragment(movie: &Movie, number: u32, segment: &MovieSegment, mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let heads = Head::of_movie(movie.tracks.iter());
    let chosen = || movie.tracks.iter().zip(&heads).zip(&segment.ranges).filter(|(_, range)| !range.is_empty());
    let media_bytes: u64 = chosen().flat_map(|((track, _), range)| &track.samples[range.clone()]).map(|sample| u64::from(sample.bytes)).sum();
    if media_bytes > SEGMENT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a segment of this recording is too large to be packaged"));
    }
    let moof = |moof_bytes: u32| {
        let mut out = BoxWriter::default();
        let mut data_offset = moof_bytes + 8;
        out.container(b"moof", |out| {
            out.full(b"mfhd", 0, 0, |out| out.u32(number));
            for ((track, head), range) in chosen() {
                let samples = &track.samples[range.clone()];
                let first = samples[0].dts as i64 + track.start + track.ticks(BIAS_MS);
                out.container(b"traf", |out| {
                    // default-base-is-moof (8.8.7).
                    out.full(b"tfhd", 0, 0x2_0000, |out| out.u32(head.id));
                    out.full(b"tfdt", 1, 0, |out| out.u64(first.max(0) as u64));
                    // Data offset; duration, size, flags and composition offset of each sample (8.8.8).
                    out.full(b"trun", 1, 0xF01, |out| {
                        out.u32(samples.len() as u32);
                        out.u32(data_offset);
                        for sample in samples {
                            out.u32(sample.duration);
                            out.u32(sample.bytes);
                            out.u32(if sample.sync { 0x0200_0000 } else { 0x0101_0000 });
                            out.u32(sample.cts as u32);
                        }
                    });
                });
                data_offset += samples.iter().map(|sample| sample.bytes).sum::<u32>();
            }
        });
        out.into_bytes()
    };
    let length = moof(0).len() as u32;
    let mut bytes = moof(length);
    bytes.extend_from_slice(&(media_bytes as u32 + 8).to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    for ((track, _), range) in chosen() {
        let mut samples = track.samples[range.clone()].iter().peekable();
        while let Some(first) = samples.next() {
            // Samples that lie in a row are read together.
            let mut length = u64::from(first.bytes);
            while samples.peek().is_some_and(|next| next.offset == first.offset + length) {
                length += samples.next().map_or(0, |next| u64::from(next.bytes));
            }
            let at = bytes.len();
            bytes.resize(at + length as usize, 0);
            read(first.offset, &mut bytes[at..])?;
        }
    }
    Ok(bytes)
}
