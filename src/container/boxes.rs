//! Boxes of the ISO base media file format (ISO/IEC 14496-12, 4.2): building them in memory and reading their headers with bounds.

/// Bytes of a box header with a 32-bit size.
pub const HEADER_BYTES: usize = 8;
/// Bytes of a box header with a 64-bit size.
pub const LARGE_HEADER_BYTES: usize = 16;

/// Builds nested boxes; sizes are filled in when a box is closed.
#[derive(Debug, Default)]
pub struct BoxWriter {
    bytes: Vec<u8>,
}

impl BoxWriter {
    pub fn with_capacity(capacity_bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity_bytes) }
    }
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    pub fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// A box of type `kind` with what `body` writes inside.
    ///
    /// # Panics
    /// If the box grows over 4 GiB: no box that we build in memory may.
    pub fn container(&mut self, kind: &[u8; 4], body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.raw(kind);
        body(self);
        let size = u32::try_from(self.bytes.len() - start).expect("a box in memory is below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// A full box (4.2.2): like [`BoxWriter::container`] with version and flags first.
    pub fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, body: impl FnOnce(&mut Self)) {
        self.container(kind, |out| {
            out.u32(u32::from(version) << 24 | flags & 0x00FF_FFFF);
            body(out);
        });
    }
}

/// A box header, at most [`LARGE_HEADER_BYTES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoxHeader {
    pub kind: [u8; 4],
    /// 8 or 16.
    pub header_bytes: usize,
    /// The whole box, header included; never less than `header_bytes` or more than the bytes that were available.
    pub bytes: u64,
}

impl BoxHeader {
    /// Reads the header at the start of `bytes`, of which `available` bytes follow in the file (4.2.2: size 1 means a 64-bit size, size 0 to the end).
    /// `None` if it is cut, or if the size is below the header or beyond `available`.
    pub fn parse(bytes: &[u8], available: u64) -> Option<Self> {
        let kind: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
        let (header_bytes, size) = match be32(bytes, 0)? {
            0 => (HEADER_BYTES, available),
            1 => (LARGE_HEADER_BYTES, be64(bytes, 8)?),
            size => (HEADER_BYTES, u64::from(size)),
        };
        (size >= header_bytes as u64 && size <= available).then_some(Self { kind, header_bytes, bytes: size })
    }
}

/// The boxes one after the other in `bytes`; ends at the first header that does not fit.
pub fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = BoxHeader::parse(rest, rest.len() as u64)?;
        let (this, behind) = rest.split_at(header.bytes as usize);
        rest = behind;
        Some((header.kind, &this[header.header_bytes..]))
    })
}

/// The body of the first box of type `kind` in `bytes`.
pub fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == kind).map(|(_, body)| body)
}

pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..)?.get(..2)?.try_into().ok()?))
}

pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..)?.get(..4)?.try_into().ok()?))
}

pub fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..)?.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_boxes_read_back() {
        let mut out = BoxWriter::default();
        out.container(b"moov", |out| {
            out.full(b"mvhd", 1, 7, |out| out.u16(0xABCD));
            out.container(b"free", |out| out.zeros(3));
        });
        let bytes = out.into_bytes();
        assert_eq!(bytes.len(), 8 + 14 + 11);
        let moov = find(&bytes, b"moov").unwrap();
        assert_eq!(find(moov, b"mvhd").unwrap(), [1, 0, 0, 7, 0xAB, 0xCD]);
        assert_eq!(find(moov, b"free").unwrap(), [0, 0, 0]);
        assert_eq!(find(moov, b"trak"), None);
    }

    #[test]
    fn headers_are_bounded() {
        type Case<'a> = (&'a str, &'a [u8], u64, Option<(usize, u64)>);
        let cases: &[Case] = &[
            ("plain", b"\0\0\0\x0Cfree1234", 12, Some((8, 12))),
            ("to the end", b"\0\0\0\0mdat", 4000, Some((8, 4000))),
            ("64 bit", b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0", 1 << 33, Some((16, 1 << 32))),
            ("64 bit, cut", b"\0\0\0\x01mdat\0\0\0\x01\0\0\0", 1 << 33, None),
            ("64 bit, below its header", b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0F", 100, None),
            ("below its header", b"\0\0\0\x07free", 100, None),
            ("longer than the file", b"\0\0\0\x0Dfree1234", 12, None),
            ("cut", b"\0\0\0\x0Cfre", 12, None),
        ];
        for (name, bytes, available, expected) in cases {
            let found = BoxHeader::parse(bytes, *available).map(|header| (header.header_bytes, header.bytes));
            assert_eq!(found, *expected, "{name}");
        }
    }
}
