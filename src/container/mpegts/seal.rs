//! A transport stream whose segments are encrypted as they are written: AES-128 in CBC mode with PKCS #7 padding (RFC 8216, 4.3.2.4), each segment by itself.
//!
//! After every frame the file ends like a whole segment: the bytes that fill no cipher block are there with their padding, in a block that the next frame
//! overwrites. So nothing is missing if the process dies, and nothing lies anywhere in the clear. [`scan`] reads such a file back: it finds the segments by
//! their padding, and ends the last one properly behind its last whole frame.

use std::io;

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, BlockModeDecrypt, KeyInit, KeyIvInit};

use super::scan::{TsScan, scan as scan_plain};
use super::{PACKET_BYTES, SYNC_BYTE};
use crate::container::{ReadAt, ScanError, Sink};
use crate::domain::content_key::MasterKey;
use crate::domain::sealing::{HlsEncryption, Sealing};
use crate::units::FileId;

type Decryptor = cbc::Decryptor<Aes128>;

pub const BLOCK_BYTES: usize = 16;
/// What encrypting adds to what a frame needs: the padding of the segment before, and its own.
pub const SEAL_BYTES_MAX: usize = 2 * BLOCK_BYTES;
/// Encrypted at a time: on the stack.
const STEP_BYTES: usize = 1_024;
/// Read at a time while segments are looked for.
const READ_BYTES: usize = 64 << 10;

/// Cipher block chaining that can look ahead: what a block becomes as the last one, and what it becomes in the end.
struct Chain {
    cipher: Aes128,
    before: [u8; BLOCK_BYTES],
}

impl Chain {
    fn of(sealing: &Sealing, segment: u64) -> Self {
        Self { cipher: Aes128::new(&sealing.key(segment).0.into()), before: sealing.initialization_vector(segment) }
    }

    fn peek(&self, clear: &[u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
        let mut block = Block::<Aes128>::from(std::array::from_fn(|at| clear[at] ^ self.before[at]));
        self.cipher.encrypt_block(&mut block);
        block.into()
    }

    fn next(&mut self, clear: &[u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
        self.before = self.peek(clear);
        self.before
    }
}

/// Encrypts the segments of one file.
pub struct Sealer {
    sealing: Sealing,
    /// Number of the open segment in the file; `None` before the first.
    segment: Option<u64>,
    chain: Chain,
    /// Bytes that fill no block yet.
    tail: [u8; BLOCK_BYTES],
    tail_bytes: usize,
    /// Where they stand with their padding.
    padded_at: Option<u64>,
}

impl Sealer {
    pub fn new(sealing: Sealing) -> Self {
        let chain = Chain::of(&sealing, 0);
        Self { sealing, segment: None, chain, tail: [0; BLOCK_BYTES], tail_bytes: 0, padded_at: None }
    }

    /// Ends the open segment, if there is one: its bytes change no more. Returns the line of the playlist that names its key.
    pub fn end_segment(&mut self, sink: &mut impl Sink) -> Option<String> {
        let segment = self.segment?;
        sink.seal(sink.position());
        (self.tail_bytes, self.padded_at) = (0, None);
        Some(self.sealing.key_line(segment))
    }

    /// What is written from now on is the next segment.
    pub fn begin_segment(&mut self) {
        let next = self.segment.map_or(0, |segment| segment + 1);
        (self.segment, self.chain) = (Some(next), Chain::of(&self.sealing, next));
    }

    /// Where a writer of clear bytes writes.
    pub fn over<'a, S: Sink>(&'a mut self, sink: &'a mut S) -> SealedSink<'a, S> {
        SealedSink { sealer: self, sink }
    }

    fn put(&mut self, sink: &mut impl Sink) {
        let block = self.chain.next(&self.tail);
        self.tail_bytes = 0;
        match self.padded_at.take() {
            Some(at) => sink.patch(at, &block),
            None => sink.append(&block),
        }
    }
}

/// Takes clear bytes and writes encrypted ones.
pub struct SealedSink<'a, S> {
    sealer: &'a mut Sealer,
    sink: &'a mut S,
}

impl<S: Sink> Sink for SealedSink<'_, S> {
    fn position(&self) -> u64 {
        self.sink.position()
    }

    fn append(&mut self, mut bytes: &[u8]) {
        let sealer = &mut *self.sealer;
        while !bytes.is_empty() && (sealer.tail_bytes > 0 || sealer.padded_at.is_some() || bytes.len() < BLOCK_BYTES) {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - sealer.tail_bytes));
            sealer.tail[sealer.tail_bytes..sealer.tail_bytes + now.len()].copy_from_slice(now);
            sealer.tail_bytes += now.len();
            bytes = later;
            if sealer.tail_bytes == BLOCK_BYTES {
                sealer.put(self.sink);
            }
        }
        while bytes.len() >= BLOCK_BYTES {
            let (now, later) = bytes.split_at((bytes.len() / BLOCK_BYTES * BLOCK_BYTES).min(STEP_BYTES));
            let mut step = [0; STEP_BYTES];
            let step = &mut step[..now.len()];
            step.copy_from_slice(now);
            for block in step.as_chunks_mut::<BLOCK_BYTES>().0 {
                *block = sealer.chain.next(block);
            }
            self.sink.append(step);
            bytes = later;
        }
        sealer.tail[..bytes.len()].copy_from_slice(bytes);
        sealer.tail_bytes = if bytes.is_empty() { sealer.tail_bytes } else { bytes.len() };
    }

    fn draft(&mut self, _: u64) {
        unreachable!("a transport stream has no drafts");
    }

    fn patch(&mut self, _: u64, _: &[u8]) {
        unreachable!("a transport stream is never patched");
    }

    /// The writer's frame is whole: the file ends like a segment now.
    fn seal(&mut self, _: u64) {
        let sealer = &mut *self.sealer;
        let padding = BLOCK_BYTES - sealer.tail_bytes;
        let mut block = sealer.tail;
        block[sealer.tail_bytes..].fill(padding as u8);
        // The chain goes on from before the padding.
        let block = sealer.chain.peek(&block);
        match sealer.padded_at {
            Some(at) => self.sink.patch(at, &block),
            None => {
                let at = self.sink.position();
                sealer.padded_at = Some(at);
                self.sink.append(&block);
                self.sink.seal(at);
                self.sink.draft(at);
            }
        }
    }
}

/// A segment as it lies in the file, and in the stream that is read from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SealedSegment {
    offset: u64,
    plain: u64,
    /// Clear bytes.
    plain_bytes: u64,
}

/// The clear stream of an encrypted file.
struct Opened<'a, R: ?Sized> {
    file: &'a R,
    sealing: &'a Sealing,
    segments: Vec<SealedSegment>,
}

impl<'a, R: ReadAt + ?Sized> Opened<'a, R> {
    /// Finds the segments. What follows the last one that can be read is torn.
    fn new(file: &'a R, sealing: &'a Sealing) -> io::Result<Self> {
        let mut opened = Self { file, sealing, segments: Vec::new() };
        let (mut offset, mut plain) = (0, 0);
        loop {
            let (plain_bytes, next) = opened.measure(offset)?;
            if plain_bytes > 0 {
                opened.segments.push(SealedSegment { offset, plain, plain_bytes });
                plain += plain_bytes;
            }
            match next {
                Some(next) => offset = next,
                None => return Ok(opened),
            }
        }
    }

    /// Clear bytes of the segment at `offset`, whole packets, and where the next one begins: `None` if this one is not ended.
    fn measure(&self, offset: u64) -> io::Result<(u64, Option<u64>)> {
        let number = self.segments.len() as u64;
        let mut cipher = Decryptor::new(&self.sealing.key(number).0.into(), &self.sealing.initialization_vector(number).into());
        let (mut buffer, mut packet) = (vec![0; READ_BYTES], 0_u64);
        let mut at = 0_u64;
        loop {
            let read = self.file.read_at(offset + at, &mut buffer)? / BLOCK_BYTES * BLOCK_BYTES;
            // Room that was prepared and not written: no cipher ever gave this.
            let read =
                buffer[..read].chunks_exact(BLOCK_BYTES).position(|block| block.iter().all(|byte| *byte == 0)).map_or(read, |at| at * BLOCK_BYTES);
            let (blocks, _) = Block::<Aes128>::slice_as_chunks_mut(&mut buffer[..read]);
            cipher.decrypt_blocks(blocks);
            // Packets begin at multiples of their length; where none does, there is the padding, or nothing of ours.
            while packet < at + read as u64 {
                let begin = (packet - at) as usize;
                if buffer[begin] != SYNC_BYTE {
                    let end = (begin + BLOCK_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
                    let padding = (end - begin) as u8;
                    let is_padding = buffer[begin..end].iter().all(|byte| *byte == padding);
                    return Ok((packet, is_padding.then_some(offset + at + end as u64)));
                }
                packet += PACKET_BYTES as u64;
            }
            at += read as u64;
            if read < READ_BYTES {
                // The last packet may not be there as a whole.
                let whole = if packet > at { packet - PACKET_BYTES as u64 } else { packet };
                return Ok((whole, None));
            }
        }
    }

    fn holding(&self, plain: u64) -> Option<(usize, &SealedSegment)> {
        let index = self.segments.partition_point(|segment| segment.plain <= plain).checked_sub(1)?;
        Some((index, &self.segments[index])).filter(|(_, segment)| plain < segment.plain + segment.plain_bytes)
    }

    /// Clear bytes of segment `index` from its byte `from` on, into `buffer`.
    fn open(&self, index: usize, from: u64, buffer: &mut [u8]) -> io::Result<()> {
        let segment = self.segments[index];
        let first = from / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let bytes = (from - first) as usize + buffer.len();
        let mut sealed = vec![0; bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES];
        let mut chain = self.sealing.initialization_vector(index as u64);
        if first > 0 {
            self.read_exact(segment.offset + first - BLOCK_BYTES as u64, &mut chain)?;
        }
        self.read_exact(segment.offset + first, &mut sealed)?;
        let mut cipher = Decryptor::new(&self.sealing.key(index as u64).0.into(), &chain.into());
        let (blocks, _) = Block::<Aes128>::slice_as_chunks_mut(&mut sealed);
        cipher.decrypt_blocks(blocks);
        let skip = (from - first) as usize;
        buffer.copy_from_slice(&sealed[skip..skip + buffer.len()]);
        Ok(())
    }

    fn read_exact(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.file.read_at(offset, buffer)? == buffer.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Where in the file the clear byte `plain` ends a segment: its end there, and the last block with its padding.
    fn end_at(&self, plain: u64) -> io::Result<(u64, Vec<u8>)> {
        let Some((index, segment)) = plain.checked_sub(1).and_then(|last| self.holding(last)) else { return Ok((0, Vec::new())) };
        let within = plain - segment.plain;
        let first = within / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let tail_bytes = (within - first) as usize;
        let mut block = [(BLOCK_BYTES - tail_bytes) as u8; BLOCK_BYTES];
        self.open(index, first, &mut block[..tail_bytes])?;
        let mut chain = self.sealing.initialization_vector(index as u64);
        if first > 0 {
            self.read_exact(segment.offset + first - BLOCK_BYTES as u64, &mut chain)?;
        }
        let chain = Chain { before: chain, ..Chain::of(self.sealing, index as u64) };
        Ok((segment.offset + first + BLOCK_BYTES as u64, chain.peek(&block).to_vec()))
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Opened<'_, R> {
    fn len(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.plain + segment.plain_bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let Some((index, segment)) = self.holding(at) else { break };
            let left = (segment.plain + segment.plain_bytes - at) as usize;
            let count = left.min(buffer.len() - filled);
            self.open(index, at - segment.plain, &mut buffer[filled..filled + count])?;
            filled += count;
        }
        Ok(filled)
    }
}

/// As [`super::scan`], of a file that a [`Sealer`] wrote: offsets are those of the file, and the plan ends the last segment as a segment has to end.
///
/// # Errors
/// As [`super::scan`]; a file of another key has no head.
pub fn scan<R: ReadAt + ?Sized>(file: &R, sealing: &Sealing) -> Result<TsScan, ScanError> {
    let opened = Opened::new(file, sealing).map_err(|source| ScanError::Read { offset: 0, source })?;
    let mut found = scan_plain(&opened)?;
    // A hole in the file is none in what is opened: these zeros were encrypted, which we do not do.
    if !found.plan.writes.is_empty() {
        return Err(ScanError::Head { what: "no PAT and PMT" });
    }
    // A segment of the stream begins where one of the file does: each begins with its tables.
    let begins: Vec<u64> = opened.segments.iter().map(|segment| segment.plain).collect();
    found.segments.retain(|segment| begins.binary_search(&segment.offset).is_ok());
    for segment in &mut found.segments {
        segment.offset = opened.holding(segment.offset).map_or(segment.offset, |(_, known)| known.offset);
    }
    let whole_end = found.plan.truncate_to;
    let (end, last) = opened.end_at(whole_end).map_err(|source| ScanError::Read { offset: whole_end, source })?;
    found.plan.truncate_to = end;
    if !last.is_empty() {
        found.plan.writes.push((end - BLOCK_BYTES as u64, last));
    }
    Ok(found)
}

/// Any bytes as what lies in an encrypted file, and as what is found when it is opened.
pub fn fuzz_sealed(data: &[u8]) {
    crate::domain::sealing::hold_master_key(&MasterKey([7; 32]));
    let Some(sealing) = FileId::new(FileId::MIN).and_then(|id| Sealing::of(id, 1, HlsEncryption::default())) else { return };
    let mut chain = Chain::of(&sealing, 0);
    let opened_to_it: Vec<u8> = data.as_chunks::<BLOCK_BYTES>().0.iter().flat_map(|block| chain.next(block)).collect();
    for file in [data, &opened_to_it] {
        let Ok(found) = scan(file, &sealing) else { continue };
        let mut finished = file.to_vec();
        finished.resize(found.plan.truncate_to as usize, 0);
        for (at, bytes) in &found.plan.writes {
            finished[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
        }
        let again = scan(finished.as_slice(), &sealing).expect("what was finished can be read");
        assert_eq!((again.plan.truncate_to, &again.plan.summary), (finished.len() as u64, &found.plan.summary));
        assert_eq!(again.segments, found.segments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::MemorySink;
    use crate::container::mpegts::TsWriter;
    use crate::container::mpegts::tests::{samples, tracks};
    use crate::domain::content_key::decrypt_cbc;
    use crate::domain::sealing::tests::sealing;

    /// Two segments and a bit; the ends of whole frames.
    fn sealed(rotation: u64) -> (Vec<u8>, Vec<(u64, u64)>, Vec<u8>, Vec<usize>) {
        let sealing = sealing(1, rotation);
        let (mut sealer, mut sink, mut plain) = (Sealer::new(sealing), MemorySink::default(), MemorySink::default());
        let (mut segments, mut ends) = (Vec::new(), Vec::new());
        let samples = &samples()[..24];
        let writer = || TsWriter::new(&tracks(true, true), samples[0].dts_ms).unwrap();
        let (mut sealed_writer, mut plain_writer) = (writer(), writer());
        let mut begun = 0;
        for (number, frame) in samples.iter().enumerate() {
            if number % 9 == 0 {
                if sealer.end_segment(&mut sink).is_some() {
                    segments.push((begun, sink.position()));
                }
                begun = sink.position();
                sealer.begin_segment();
                sealed_writer.start_segment(&mut sealer.over(&mut sink));
                plain_writer.start_segment(&mut plain);
            }
            sealed_writer.push(&frame.frame(), &mut sealer.over(&mut sink)).unwrap();
            plain_writer.push(&frame.frame(), &mut plain).unwrap();
            assert!(sink.position() - sink.sealed <= BLOCK_BYTES as u64, "all but the last block may go to the disk");
            ends.push(sink.position() as usize);
        }
        sealer.end_segment(&mut sink);
        segments.push((begun, sink.position()));
        (sink.bytes, segments, plain.bytes, ends)
    }

    #[test]
    fn segments_open_with_their_keys_and_are_the_stream() {
        for rotation in [0, 1, 2] {
            let (bytes, segments, plain, _) = sealed(rotation);
            let sealing = sealing(1, rotation);
            let mut joined = Vec::new();
            for (number, (begin, end)) in (0..).zip(&segments) {
                let part = &bytes[*begin as usize..*end as usize];
                joined.extend(decrypt_cbc(&sealing.key(number), sealing.initialization_vector(number), part).expect("whole and padded"));
            }
            assert_eq!(joined, plain);
            assert!(!bytes.windows(PACKET_BYTES).any(|window| plain.windows(PACKET_BYTES).step_by(PACKET_BYTES).any(|clear| clear == window)));
            let found = scan(&bytes[..], &sealing).unwrap();
            let expected = scan_plain(&plain[..]).unwrap();
            assert_eq!(
                found.segments.iter().map(|segment| segment.offset).collect::<Vec<_>>(),
                segments.iter().map(|(begin, _)| *begin).collect::<Vec<_>>()
            );
            assert_eq!((found.plan.truncate_to, &found.plan.summary), (bytes.len() as u64, &expected.plan.summary));
            let (at, last) = &found.plan.writes[0];
            assert_eq!(&bytes[*at as usize..], last, "it ends as it should already");
        }
    }

    #[test]
    fn torn_anywhere_it_ends_like_a_segment_behind_its_last_frame() {
        let (bytes, segments, plain, ends) = sealed(2);
        let sealing = sealing(1, 2);
        for cut in (0..=bytes.len()).step_by(7).chain(ends.iter().flat_map(|end| [end - 1, *end, end + 1])).filter(|cut| *cut <= bytes.len()) {
            // Disks write whole sectors.
            let zeros = if cut % BLOCK_BYTES == 0 { [0, 4_096] } else { [0, 0] };
            for zeros in zeros {
                let mut torn = bytes[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                let frames = ends.iter().filter(|end| **end <= cut).count();
                let Ok(found) = scan(&torn[..], &sealing) else {
                    assert!(frames == 0, "cut at {cut}: {frames} frames are lost");
                    continue;
                };
                let summary = &found.plan.summary;
                let counted = summary.video.as_ref().map_or(0, |track| track.frames) + summary.audio.as_ref().map_or(0, |track| track.frames);
                // A frame may be whole before its padding is.
                assert!(counted as usize == frames || counted as usize == frames + 1, "cut at {cut}: {counted} of {frames}");
                torn.resize(found.plan.truncate_to as usize, 0);
                for (at, write) in &found.plan.writes {
                    torn[*at as usize..*at as usize + write.len()].copy_from_slice(write);
                }
                let mut joined = Vec::new();
                for (number, (begin, end)) in (0..).zip(&segments) {
                    if *begin as usize >= torn.len() {
                        break;
                    }
                    let part = &torn[*begin as usize..(*end as usize).min(torn.len())];
                    joined.extend(decrypt_cbc(&sealing.key(number), sealing.initialization_vector(number), part).expect("padded"));
                }
                assert!(plain.starts_with(&joined), "cut at {cut}");
            }
        }
    }

    #[test]
    fn messages_are_whole_when_they_are_written() {
        use crate::media::note::Note;
        let (mut sealer, mut sink) = (Sealer::new(sealing(1, 0)), MemorySink::default());
        let mut writer = TsWriter::new(&tracks(true, true), samples()[0].dts_ms).unwrap();
        sealer.begin_segment();
        writer.start_segment(&mut sealer.over(&mut sink));
        let (mut frames, mut messages) = (0, 0);
        for (number, frame) in samples()[..40].iter().enumerate() {
            if number % 3 == 1 {
                let note = Note { name: "onTextData".to_owned(), json: format!("{{\"text\":\"{}\"}}", "x".repeat(number * 17)), splice: None };
                assert!(writer.push_message(frame.dts_ms, &note, &mut sealer.over(&mut sink)));
                messages += 1;
            } else {
                writer.push(&frame.frame(), &mut sealer.over(&mut sink)).unwrap();
                frames += 1;
            }
            let summary = scan(&sink.bytes[..], &sealing(1, 0)).unwrap().plan.summary;
            let counted = summary.video.as_ref().map_or(0, |track| track.frames) + summary.audio.as_ref().map_or(0, |track| track.frames);
            assert_eq!((counted, summary.data_messages), (frames, messages), "after {number}");
        }
    }

    #[test]
    fn what_the_next_frame_has_overwritten_is_no_loss() {
        // Killed after the padding was overwritten and before the frame counted: the bytes behind it are there, its block is not what ended the segment.
        let (bytes, _, _, ends) = sealed(0);
        let sealing = sealing(1, 0);
        for (number, end) in ends.iter().enumerate() {
            // In the final bytes the padding of all but the last frame of a segment is overwritten.
            let found = scan(&bytes[..*end], &sealing).unwrap();
            let summary = &found.plan.summary;
            let counted = summary.video.as_ref().map_or(0, |track| track.frames) + summary.audio.as_ref().map_or(0, |track| track.frames);
            assert_eq!(counted as usize, number + 1);
        }
    }

    #[test]
    fn another_key_opens_nothing() {
        let (bytes, ..) = sealed(0);
        assert!(scan(&bytes[..], &sealing(2, 5)).is_err());
        assert!(matches!(scan(&[][..], &sealing(1, 0)), Err(ScanError::Empty)));
    }
}
