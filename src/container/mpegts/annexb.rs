//! From length-prefixed NAL units to Annex B, over the pieces of a payload and without joining them.

use crate::codec::{avc, hevc};
use crate::media::Payload;

pub(super) const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Whose NAL units these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NalCodec {
    Avc,
    Hevc,
}

impl NalCodec {
    /// An access unit delimiter for any slice types, with its start code and stop bit.
    pub const fn delimiter(self) -> &'static [u8] {
        match self {
            NalCodec::Avc => &[0, 0, 0, 1, 0x09, 0xf0],
            NalCodec::Hevc => &[0, 0, 0, 1, 0x46, 0x01, 0x50],
        }
    }

    const fn is_delimiter(self, header: u8) -> bool {
        match self {
            NalCodec::Avc => avc::nal_type(header) == avc::NAL_ACCESS_UNIT_DELIMITER,
            NalCodec::Hevc => hevc::nal_type(header) == hevc::NAL_ACCESS_UNIT_DELIMITER,
        }
    }

    /// One bit for each kind of parameter set.
    const fn parameter_set(self, header: u8) -> u8 {
        match (self, avc::nal_type(header), hevc::nal_type(header)) {
            (NalCodec::Avc, avc::NAL_SPS, _) | (NalCodec::Hevc, _, hevc::NAL_SPS) => 1,
            (NalCodec::Avc, avc::NAL_PPS, _) | (NalCodec::Hevc, _, hevc::NAL_PPS) => 2,
            (NalCodec::Hevc, _, hevc::NAL_VPS) => 4,
            _ => 0,
        }
    }

    const fn all_parameter_sets(self) -> u8 {
        match self {
            NalCodec::Avc => 1 | 2,
            NalCodec::Hevc => 1 | 2 | 4,
        }
    }
}

/// What an access unit will be in Annex B.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Measure {
    /// NAL units with their start codes.
    pub bytes: usize,
    /// It brings every kind of parameter set.
    pub has_parameter_sets: bool,
    /// It begins with an access unit delimiter.
    pub has_delimiter: bool,
}

/// Goes over the lengths only.
pub(super) fn measure(media: Payload<'_>, codec: NalCodec, nal_length_bytes: u8) -> Measure {
    let mut measure = Measure::default();
    let mut sets = 0;
    let mut units = nals(media, nal_length_bytes);
    while let Some(nal) = units.next() {
        measure.has_delimiter |= measure.bytes == 0 && codec.is_delimiter(nal.header);
        measure.bytes += START_CODE.len() + nal.bytes;
        sets |= codec.parameter_set(nal.header);
        units.take(nal, |_| {});
    }
    measure.has_parameter_sets = sets == codec.all_parameter_sets();
    measure
}

/// Gives start codes and NAL units to `out`: as many bytes as [`measure`] counted, and `sets`, which come first but for a delimiter.
pub(super) fn convert(media: Payload<'_>, codec: NalCodec, nal_length_bytes: u8, sets: &[u8], mut out: impl FnMut(&[u8])) {
    let mut units = nals(media, nal_length_bytes);
    let mut sets = Some(sets);
    while let Some(nal) = units.next() {
        if !codec.is_delimiter(nal.header) {
            out(sets.take().unwrap_or_default());
        }
        out(&START_CODE);
        units.take(nal, &mut out);
    }
    out(sets.take().unwrap_or_default());
}

#[derive(Clone, Copy)]
struct Nal {
    /// Its first byte.
    header: u8,
    bytes: usize,
}

/// A cursor over the NAL units of an access unit. Empty ones are passed over.
///
/// A length beyond the end is taken for the rest: the encoder's mistake costs one damaged picture, not the file.
struct Nals<'a, I> {
    slices: I,
    slice: &'a [u8],
    left: usize,
    nal_length_bytes: usize,
}

fn nals<'a>(media: Payload<'a>, nal_length_bytes: u8) -> Nals<'a, impl Iterator<Item = &'a [u8]>> {
    Nals { slices: media.slices(), slice: &[], left: media.len(), nal_length_bytes: usize::from(nal_length_bytes) }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Nals<'a, I> {
    /// The next unit; its bytes are then taken by [`Nals::take`].
    fn next(&mut self) -> Option<Nal> {
        // Every round takes at least a length, so there are fewer rounds than bytes.
        while self.left > self.nal_length_bytes {
            let mut length: usize = 0;
            for _ in 0..self.nal_length_bytes {
                length = length << 8 | usize::from(self.byte());
            }
            let bytes = length.min(self.left);
            if bytes == 0 {
                continue;
            }
            return Some(Nal { header: self.peek(), bytes });
        }
        None
    }

    fn take(&mut self, nal: Nal, mut out: impl FnMut(&'a [u8])) {
        let mut wanted = nal.bytes;
        while wanted > 0 {
            self.refill();
            let (taken, rest) = self.slice.split_at(wanted.min(self.slice.len()));
            out(taken);
            self.slice = rest;
            self.left -= taken.len();
            wanted -= taken.len();
        }
    }

    fn byte(&mut self) -> u8 {
        let byte = self.peek();
        self.slice = &self.slice[1..];
        self.left -= 1;
        byte
    }

    fn peek(&mut self) -> u8 {
        self.refill();
        self.slice[0]
    }

    /// Makes the current slice one with bytes.
    fn refill(&mut self) {
        while self.slice.is_empty() {
            self.slice = self.slices.next().expect("a payload is as long as it says");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::payload::Span;

    #[test]
    fn access_units_in_pieces_at_every_cut() {
        let cases: &[(&str, u8, &[u8], &[u8], bool)] = &[
            ("one slice", 4, &[0, 0, 0, 3, 0x65, 1, 2], &[0, 0, 0, 1, 0x65, 1, 2], false),
            (
                "parameter sets inside",
                4,
                &[0, 0, 0, 2, 0x67, 9, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65],
                &[0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65],
                true,
            ),
            ("empty units go", 4, &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 0, 0, 0, 0, 1, 0x41], &[0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x41], false),
            ("two-byte lengths", 2, &[0, 2, 0x41, 7, 0, 1, 0x41], &[0, 0, 0, 1, 0x41, 7, 0, 0, 0, 1, 0x41], false),
            ("one-byte lengths", 1, &[1, 0x41, 1, 0x42], &[0, 0, 0, 1, 0x41, 0, 0, 0, 1, 0x42], false),
            ("three-byte lengths", 3, &[0, 0, 1, 0x41], &[0, 0, 0, 1, 0x41], false),
            ("a length beyond the end", 4, &[0, 0, 0, 9, 0x41, 1], &[0, 0, 0, 1, 0x41, 1], false),
            ("a length cut short", 4, &[0, 0, 0, 1, 0x41, 0, 0, 0], &[0, 0, 0, 1, 0x41], false),
            ("a length and nothing", 4, &[0, 0, 0, 1], &[], false),
            ("nothing", 4, &[], &[], false),
            ("the longest length", 4, &[0xff, 0xff, 0xff, 0xff, 0x41], &[0, 0, 0, 1, 0x41], false),
        ];
        for &(name, nal_length_bytes, input, expected, has_sets) in cases {
            let len = input.len();
            for first in 0..=len {
                for second in first..=len {
                    let (prefix, input) = input.split_at(first);
                    let cut = (second - first) as u32;
                    let spans = [Span { start: 0, end: cut }, Span { start: cut, end: (len - first) as u32 }];
                    let payload = Payload::chunked(prefix, input, &spans);
                    let measure = measure(payload, NalCodec::Avc, nal_length_bytes);
                    assert_eq!(measure.has_parameter_sets, has_sets, "{name}");
                    let mut output = Vec::new();
                    convert(payload, NalCodec::Avc, nal_length_bytes, &[], |bytes| output.extend_from_slice(bytes));
                    assert_eq!(output, expected, "{name}, cut at {first} and {second}");
                    assert_eq!(output.len(), measure.bytes, "{name}");
                }
            }
        }
    }

    #[test]
    fn parameter_sets_go_behind_a_delimiter() {
        // name, codec, access unit, begins with a delimiter, brings all sets, Annex B with [7, 7] put in
        let cases: &[(&str, NalCodec, &[u8], bool, bool, &[u8])] = &[
            ("AVC", NalCodec::Avc, &[0, 0, 0, 1, 0x65], false, false, &[7, 7, 0, 0, 0, 1, 0x65]),
            (
                "AVC with a delimiter",
                NalCodec::Avc,
                &[0, 0, 0, 2, 9, 0x10, 0, 0, 0, 1, 0x65],
                true,
                false,
                &[0, 0, 0, 1, 9, 0x10, 7, 7, 0, 0, 0, 1, 0x65],
            ),
            ("a delimiter alone", NalCodec::Avc, &[0, 0, 0, 2, 9, 0x10], true, false, &[0, 0, 0, 1, 9, 0x10, 7, 7]),
            ("HEVC", NalCodec::Hevc, &[0, 0, 0, 2, 0x26, 1], false, false, &[7, 7, 0, 0, 0, 1, 0x26, 1]),
            (
                "HEVC with a delimiter",
                NalCodec::Hevc,
                &[0, 0, 0, 3, 0x46, 1, 0x50, 0, 0, 0, 2, 0x26, 1],
                true,
                false,
                &[0, 0, 0, 1, 0x46, 1, 0x50, 7, 7, 0, 0, 0, 1, 0x26, 1],
            ),
            (
                "HEVC with sets",
                NalCodec::Hevc,
                &[0, 0, 0, 2, 0x40, 1, 0, 0, 0, 2, 0x42, 1, 0, 0, 0, 2, 0x44, 1],
                false,
                true,
                &[7, 7, 0, 0, 0, 1, 0x40, 1, 0, 0, 0, 1, 0x42, 1, 0, 0, 0, 1, 0x44, 1],
            ),
        ];
        for &(name, codec, unit, has_delimiter, has_parameter_sets, expected) in cases {
            let payload = Payload::contiguous(unit);
            assert_eq!(measure(payload, codec, 4), Measure { bytes: expected.len() - 2, has_parameter_sets, has_delimiter }, "{name}");
            let mut output = Vec::new();
            convert(payload, codec, 4, &[7, 7], |bytes| output.extend_from_slice(bytes));
            assert_eq!(output, expected, "{name}");
        }
    }
}
