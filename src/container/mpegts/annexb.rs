//! From length-prefixed NAL units to Annex B, over the pieces of a payload and without joining them.

use crate::codec::avc::{NAL_ACCESS_UNIT_DELIMITER, NAL_PPS, NAL_SPS, nal_type};
use crate::media::Payload;

pub(super) const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What an access unit will be in Annex B.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Measure {
    /// NAL units with their start codes.
    pub bytes: usize,
    pub has_sps: bool,
    pub has_pps: bool,
}

/// Goes over the lengths only.
pub(super) fn measure(media: Payload<'_>, nal_length_bytes: u8) -> Measure {
    let mut measure = Measure::default();
    let mut units = nals(media, nal_length_bytes);
    while let Some(nal) = units.next() {
        measure.bytes += START_CODE.len() + nal.bytes;
        measure.has_sps |= nal.nal_type == NAL_SPS;
        measure.has_pps |= nal.nal_type == NAL_PPS;
        units.take(nal, |_| {});
    }
    measure
}

/// Gives start codes and NAL units to `out`: as many bytes as [`measure`] counted.
pub(super) fn convert(media: Payload<'_>, nal_length_bytes: u8, mut out: impl FnMut(&[u8])) {
    let mut units = nals(media, nal_length_bytes);
    while let Some(nal) = units.next() {
        out(&START_CODE);
        units.take(nal, &mut out);
    }
}

#[derive(Clone, Copy)]
struct Nal {
    nal_type: u8,
    bytes: usize,
}

/// A cursor over the NAL units of an access unit. Empty ones and access unit delimiters are passed over: the writer puts its own in front.
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
            let nal = Nal { nal_type: nal_type(self.peek()), bytes };
            if nal.nal_type != NAL_ACCESS_UNIT_DELIMITER {
                return Some(nal);
            }
            self.take(nal, |_| {});
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
            ("delimiter and empty units go", 4, &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 0, 0, 0, 0, 1, 0x41], &[0, 0, 0, 1, 0x41], false),
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
                    let measure = measure(payload, nal_length_bytes);
                    assert_eq!((measure.has_sps, measure.has_pps), (has_sets, has_sets), "{name}");
                    let mut output = Vec::new();
                    convert(payload, nal_length_bytes, |bytes| output.extend_from_slice(bytes));
                    assert_eq!(output, expected, "{name}, cut at {first} and {second}");
                    assert_eq!(output.len(), measure.bytes, "{name}");
                }
            }
        }
    }
}
