//! The headers of a file's fragments as they were written, kept until it is finished: finishing reads them all, and each would be a trip to the disk of its
//! own. A long file's are not kept: what its finishing costs is little beside what its media cost.

/// Of one file: about half a minute of pictures and sound. With more, none are kept.
const BYTES_MAX: usize = 112 << 10;
/// Bytes in front of a header that are read with it: the time of day, and the end of the fragment before.
pub const BEFORE_BYTES: u64 = 64;

#[derive(Debug, Default)]
pub struct Headers {
    /// Offset in the file and bytes, in order. The last may lack what is written still.
    ranges: Vec<(u64, Vec<u8>)>,
    bytes: usize,
    too_many: bool,
}

impl Headers {
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
            *self = Self { too_many: true, ..Self::default() };
        }
    }

    /// Fills `buffer` from `offset` on. False: not all of it is known.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
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
    }
}
