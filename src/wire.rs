//! Bounds-checked reading and writing of what comes over the wire and lies in files: big-endian integers, bit fields, Exp-Golomb codes.
//!
//! Nothing here panics on short input: a reader that runs out of bytes returns [`Truncated`] (bits: `None`), and its position stays where it was.

/// The input ended inside a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the input ends inside a field: {wanted} bytes wanted, {left} left")]
pub struct Truncated {
    pub wanted: usize,
    pub left: usize,
}

/// Reads fields from the front of a byte slice. Integers are big-endian unless the name says `_le`.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Bytes not yet read.
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub const fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// What is not yet read, without reading it.
    pub fn peek_rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    /// Reads everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.peek_rest();
        self.position = self.bytes.len();
        rest
    }

    /// # Errors
    /// [`Truncated`] if fewer than `count` bytes are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let rest = self.peek_rest();
        let taken = rest.get(..count).ok_or(Truncated { wanted: count, left: rest.len() })?;
        self.position += count;
        Ok(taken)
    }

    /// # Errors
    /// [`Truncated`] if fewer than `count` bytes are left.
    pub fn skip(&mut self, count: usize) -> Result<(), Truncated> {
        self.take(count).map(|_| ())
    }

    /// # Errors
    /// [`Truncated`] if fewer than `N` bytes are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }
    pub fn u24(&mut self) -> Result<u32, Truncated> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }
    /// Sign-extended, as the composition time of an FLV video tag.
    pub fn i24(&mut self) -> Result<i32, Truncated> {
        self.array().map(|[a, b, c]| i32::from_be_bytes([a, b, c, 0]) >> 8)
    }
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }
    /// Little-endian, as the message stream id of an RTMP chunk.
    pub fn u32_le(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn i32(&mut self) -> Result<i32, Truncated> {
        self.array().map(i32::from_be_bytes)
    }
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }
    pub fn f64(&mut self) -> Result<f64, Truncated> {
        self.array().map(f64::from_be_bytes)
    }
}

/// Appends fields to a `Vec<u8>`. Integers are big-endian unless the name says `_le`.
pub trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }
    /// The low 24 bits of `value`.
    fn put_u24(&mut self, value: u32) {
        self.put(&value.to_be_bytes()[1..]);
    }
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }
    fn put_u32_le(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    fn put_i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }
    fn put_f64(&mut self, value: f64) {
        self.put(&value.to_be_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Reads bits from the most significant down, and the Exp-Golomb codes of H.264 and HEVC (ISO/IEC 14496-10, 9.1).
///
/// Emulation-prevention bytes are the caller's to remove. After a `None` the position is where it was before the call.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bits read so far.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Bits not yet read.
    pub const fn left(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }

    pub fn bit(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// The next `count` bits, 0 to 32.
    ///
    /// # Panics
    /// If `count` is above 32: counts come from our code. A count from the stream is checked by the caller.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        assert!(count <= 32, "at most 32 bits at once, not {count}");
        if self.left() < count as usize {
            return None;
        }
        let mut value: u64 = 0;
        let mut wanted = count as usize;
        while wanted > 0 {
            let free = 8 - self.position % 8;
            let taken = free.min(wanted);
            let byte = u64::from(self.bytes[self.position / 8]);
            value = value << taken | byte >> (free - taken) & ((1 << taken) - 1);
            self.position += taken;
            wanted -= taken;
        }
        Some(value as u32)
    }

    /// The whole bytes that are not yet begun.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position.div_ceil(8)..]
    }

    /// Skips any number of bits.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        if self.left() < count {
            return None;
        }
        self.position += count;
        Some(())
    }

    /// Unsigned Exp-Golomb code `ue(v)`, 0 to 2^32-2. `None` at the end of input or for a code of more than 32 leading zeros.
    pub fn ue(&mut self) -> Option<u32> {
        let start = self.position;
        let value = self.ue_inner();
        if value.is_none() {
            self.position = start;
        }
        value
    }

    fn ue_inner(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 32 {
                return None;
            }
        }
        let suffix = u64::from(self.bits(zeros)?);
        u32::try_from((1_u64 << zeros) - 1 + suffix).ok()
    }

    /// Signed Exp-Golomb code `se(v)`: 1, -1, 2, -2, ...
    pub fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        Some(if code % 2 == 1 { magnitude } else { -magnitude } as i32)
    }
}

/// A bit reader agrees with a slow one that goes bit by bit, and the byte reader never leaves its slice.
pub fn fuzz_wire(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let mut reader = BitReader::new(bytes);
    let count = u32::from(step % 33);
    loop {
        let mut slow = reader;
        let expected = (0..count).try_fold(0_u32, |value, _| Some(value << 1 | u32::from(slow.bit()?)));
        assert_eq!(reader.bits(count), expected);
        let before = reader.position();
        if reader.ue().is_none() {
            assert_eq!(reader.position(), before, "a refused code is not read");
            if reader.bit().is_none() {
                break;
            }
        }
    }
    let mut reader = Reader::new(bytes);
    while let Ok(taken) = reader.take(usize::from(step).max(1)) {
        assert_eq!(taken.len(), usize::from(step).max(1));
    }
    assert_eq!(reader.position() + reader.left(), bytes.len());
}

/// The CRC of MPEG-2 sections (ISO/IEC 13818-1, annex A): polynomial 0x04c11db7, most significant bit first. 0 over a section with its CRC. Bit by bit: it
/// runs for few and short ones.
pub fn crc32_mpeg(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0xffff_ffff, |crc, byte| (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_text() {
        assert_eq!(crc32_mpeg(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn fields_written_are_read_back_and_short_input_is_refused_without_moving() {
        let mut bytes = Vec::new();
        bytes.put_u8(1);
        bytes.put_u16(0x0203);
        bytes.put_u24(0xff_04_05_06);
        bytes.put_u32(0x0708_090a);
        bytes.put_u32_le(0x0102_0304);
        bytes.put_i32(-2);
        bytes.put_u64(0x1122_3344_5566_7788);
        bytes.put_f64(-1.5);
        bytes.put_u24(0xff_ff_fe);
        for cut in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..cut]);
            let mut read = || {
                reader.u8()?;
                reader.u16()?;
                reader.u24()?;
                reader.u32()?;
                reader.u32_le()?;
                reader.i32()?;
                reader.u64()?;
                reader.f64()?;
                reader.i24()
            };
            assert!(read().is_err(), "cut at {cut}");
            let left = reader.left();
            assert!(reader.take(left + 1).is_err() && reader.left() == left);
        }
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u24(), Ok(0x04_05_06));
        assert_eq!(reader.u32(), Ok(0x0708_090a));
        assert_eq!(reader.u32_le(), Ok(0x0102_0304));
        assert_eq!(reader.i32(), Ok(-2));
        assert_eq!(reader.u64(), Ok(0x1122_3344_5566_7788));
        assert_eq!(reader.f64(), Ok(-1.5));
        assert_eq!(reader.i24(), Ok(-2));
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), Err(Truncated { wanted: 1, left: 0 }));
    }

    #[test]
    fn exp_golomb_codes_of_the_standard() {
        // ISO/IEC 14496-10, table 9-2 and 9-3.
        let cases: [(&str, u32, i32); 9] = [
            ("1", 0, 0),
            ("010", 1, 1),
            ("011", 2, -1),
            ("00100", 3, 2),
            ("00101", 4, -2),
            ("00110", 5, 3),
            ("00111", 6, -3),
            ("0001000", 7, 4),
            ("00000000000000000000000000000000100000000000000000000000000000000", u32::MAX, 0),
        ];
        for (code, unsigned, signed) in cases {
            let mut bytes = vec![0_u8; code.len().div_ceil(8)];
            for (index, digit) in code.bytes().enumerate() {
                bytes[index / 8] |= (digit - b'0') << (7 - index % 8);
            }
            if code.len() < 65 {
                assert_eq!(BitReader::new(&bytes).ue(), Some(unsigned), "{code}");
                assert_eq!(BitReader::new(&bytes).se(), Some(signed), "{code}");
            } else {
                // 2^32-1 is the largest code of 32 leading zeros and still fits.
                assert_eq!(BitReader::new(&bytes).ue(), Some(unsigned), "{code}");
            }
            let whole = code.len() / 8;
            assert_eq!(BitReader::new(&bytes[..whole]).ue().is_some(), code.len().is_multiple_of(8), "{code} cut");
        }
        let mut long = BitReader::new(&[0; 16]);
        assert_eq!((long.ue(), long.position()), (None, 0));
    }

    #[test]
    fn bits_of_any_width_at_any_offset() {
        let bytes = [0b1010_0110, 0xff, 0x00, 0x12, 0x34, 0x56];
        for offset in 0..16 {
            for count in 0..=32 {
                let mut reader = BitReader::new(&bytes);
                reader.skip(offset).unwrap();
                let whole = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                let expected = (whole << 16 << offset >> 32 >> (32 - count)) as u32;
                let expected = if count == 0 { 0 } else { expected };
                assert_eq!(reader.bits(count), Some(expected), "{count} bits at {offset}");
            }
        }
        let mut reader = BitReader::new(&bytes[..1]);
        assert_eq!(reader.bits(9), None);
        assert_eq!(reader.bits(8), Some(0b1010_0110));
        assert_eq!(reader.bit(), None);
        assert_eq!(reader.skip(1), None);
    }

    #[test]
    fn fuzz_target_holds_for_patterns() {
        for seed in 0..=255_u8 {
            let data: Vec<u8> = (0..64_u8).map(|index| index.wrapping_mul(seed).rotate_left(3) ^ seed).collect();
            fuzz_wire(&data);
            fuzz_wire(&[seed, 0, 0, 0, 0, 0, 0, 0, seed]);
        }
    }
}
