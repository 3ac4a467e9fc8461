//! The headers of a file's fragments as they were written, kept until it is finished: finishing reads them all, and each would be a trip to the disk of its
//! own. A long file's are not kept: what its finishing costs is little beside what its media cost.

/// Of one file: about half a minute of pictures and sound. With more, none are kept.
const BYTES_MAX: usize = 112 << 10;
/// Bytes in front of a header that are read with it: the time of day, and the end of the fragment before.
pub const BEFORE_BYTES: u64 = 64;

/// Heads are mostly reserved room: pieces of this size that are all zeros are left out.
const PIECE_BYTES: usize = 512;

/// The parts of a file's head that are not zeros, with their offsets.
pub fn pieces(head: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let pieces = head.chunks(PIECE_BYTES).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
    pieces.map(|(index, piece)| (index * PIECE_BYTES, piece))
}

/// The head of a file as it was written.
#[derive(Debug, Default)]
pub struct Head {
    bytes: usize,
    /// What of it is not zeros.
    pieces: Vec<(usize, Box<[u8]>)>,
}

impl Head {
    pub fn of(head: &[u8]) -> Self {
        Self { bytes: head.len(), pieces: pieces(head).map(|(at, piece)| (at, piece.into())).collect() }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if offset.saturating_add(buffer.len()) > self.bytes {
            return false;
        }
        buffer.fill(0);
        for (at, piece) in &self.pieces {
            let (from, to) = (offset.max(*at), (offset + buffer.len()).min(at + piece.len()));
            if from < to {
                buffer[from - offset..to - offset].copy_from_slice(&piece[from - at..to - at]);
            }
        }
        true
    }
}

#[derive(Debug, Default)]
pub struct Headers {
    head: Head,
    /// Offset in the file and bytes, in order. The last may lack what is written still.
    ranges: Vec<(u64, Vec<u8>)>,
    bytes: usize,
    too_many: bool,
}

impl Headers {
    /// With the head of their file.
    pub fn behind(self, head: Head) -> Self {
        Self { head, ..self }
    }

    /// A header begins, behind the bytes `before` it, which are at `offset`.
    pub fn begin<'a>(&mut self, offset: u64, before: impl Iterator<Item = &'a [u8]>) {
        if !self.too_many {
            self.ranges.push((offset, Vec::new()));
            self.add(before);
        }
    }

    /// The header that was begun is this, for good.
    pub fn settle<'a>(&mut self, header: impl Iterator<Item = &'a [u8]>) {
        self.add(header);
    }

    fn add<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) {
        let Some((_, bytes)) = self.ranges.last_mut() else { return };
        for piece in pieces {
            bytes.extend_from_slice(piece);
            self.bytes += piece.len();
        }
        if self.bytes > BYTES_MAX {
            (self.ranges, self.too_many) = (Vec::new(), true);
        }
    }

    /// Fills `buffer` from `offset` on. False: not all of it is known.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        if self.head.read(offset, buffer) {
            return true;
        }
        let behind = self.ranges.partition_point(|(start, _)| *start <= offset);
        let Some((start, bytes)) = behind.checked_sub(1).map(|at| &self.ranges[at]) else { return false };
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let Some(known) = bytes.get(from..).and_then(|known| known.get(..buffer.len())) else { return false };
        buffer.copy_from_slice(known);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_and_too_much_is_forgotten() {
        let mut headers = Headers::default();
        headers.begin(100, [&b"ab"[..], b"c"].into_iter());
        headers.settle([&b"def"[..]].into_iter());
        headers.begin(200, [&b"xy"[..]].into_iter());
        let read = |headers: &Headers, offset, count| {
            let mut buffer = vec![0; count];
            headers.read(offset, &mut buffer).then_some(buffer)
        };
        for (offset, count, expected) in [
            (100, 6, Some("abcdef")),
            (102, 3, Some("cde")),
            (99, 2, None),
            (104, 3, None),
            (106, 1, None),
            (200, 2, Some("xy")),
            (u64::MAX, 1, None),
        ] {
            assert_eq!(read(&headers, offset, count).as_deref(), expected.map(str::as_bytes), "{offset} {count}");
        }
        headers.settle([&[0; BYTES_MAX][..]].into_iter());
        headers.begin(300, [&b"z"[..]].into_iter());
        assert_eq!((read(&headers, 100, 1), read(&headers, 300, 1)), (None, None));
        // A head with room in its middle.
        let head = [&b"beginning"[..], &[0; 1991], b"end", &[0; 45]].concat();
        let headers = headers.behind(Head::of(&head));
        for (offset, count) in [(0, 2048), (0, 9), (5, 10), (600, 100), (1000, 1003), (2001, 1), (2047, 1), (2048, 0)] {
            assert_eq!(read(&headers, offset as u64, count).as_deref(), Some(&head[offset..offset + count]), "{offset} {count}");
        }
        assert_eq!((read(&headers, 2047, 2), read(&headers, u64::MAX, 1)), (None, None));
    }
}
