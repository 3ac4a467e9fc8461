//! What the video codecs made of NAL units have in common.

/// Removes each `emulation_prevention_three_byte` (ISO/IEC 14496-10, 7.3.1; 23008-2, 7.3.1.1).
pub fn without_emulation_prevention(body: &[u8]) -> Vec<u8> {
    let mut rbsp = Vec::with_capacity(body.len());
    let mut zeros = 0;
    for &byte in body {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        rbsp.push(byte);
    }
    rbsp
}

/// Most units begin otherwise, and need be looked at no further.
pub fn begins_with_start_code(unit: &[u8]) -> bool {
    matches!(unit, [0, 0, 1, ..] | [0, 0, 0, 1, ..])
}

/// Some encoders put NAL units with start codes (Annex B) where FLV has them with lengths. `unit` is a whole access unit: it begins with a start code, and
/// read as lengths it makes no sense.
pub fn is_annexb(unit: &[u8]) -> bool {
    begins_with_start_code(unit) && !are_lengths(unit)
}

/// The unit is NAL units behind lengths of four bytes each, to the last byte.
fn are_lengths(mut unit: &[u8]) -> bool {
    while let Some((length, rest)) = unit.split_first_chunk::<4>() {
        match rest.split_at_checked(u32::from_be_bytes(*length) as usize) {
            Some((nal, behind)) if !nal.is_empty() => unit = behind,
            _ => return false,
        }
    }
    unit.is_empty()
}

/// The NAL units between start codes, without the zeros that may stand before the next; none is empty.
pub fn annexb_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = &bytes[start_code(bytes).map_or(bytes.len(), |at| at + 3)..];
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = start_code(rest);
            let unit = &rest[..end.unwrap_or(rest.len())];
            rest = &rest[end.map_or(rest.len(), |at| at + 3)..];
            let bytes = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if bytes > 0 {
                return Some(&unit[..bytes]);
            }
        }
        None
    })
}

/// Where the first three bytes 0, 0, 1 lie.
fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

/// The same NAL units behind lengths of four bytes.
pub fn with_lengths(annexb: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(annexb.len() + 16);
    for nal in annexb_units(annexb) {
        unit.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        unit.extend_from_slice(nal);
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_become_lengths() {
        let cases: [(&str, &[u8], &[u8]); 5] = [
            ("four-byte codes", &[0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x65, 7], &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 2, 0x65, 7]),
            ("three-byte codes", &[0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 7], &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 2, 0x65, 7]),
            ("zeros between", &[0, 0, 0, 1, 9, 0, 0, 0, 0, 1, 0x65], &[0, 0, 0, 1, 9, 0, 0, 0, 1, 0x65]),
            ("nothing between", &[0, 0, 1, 0, 0, 1, 0x65], &[0, 0, 0, 1, 0x65]),
            ("no code", &[0x65, 7], &[]),
        ];
        for (name, annexb, expected) in cases {
            assert_eq!(with_lengths(annexb), expected, "{name}");
            assert!(!is_annexb(expected), "{name}");
        }
        assert!(is_annexb(cases[0].1) && is_annexb(cases[1].1));
        assert!(!is_annexb(&[0, 0, 0, 1, 9]) && !is_annexb(&[]) && !is_annexb(&[0, 0, 0, 2, 9, 0xf0]));
        // 256 bytes behind a length look like a start code of three bytes, and are none.
        let long = [&[0, 0, 1, 0][..], &[7; 256]].concat();
        assert!(!is_annexb(&long));
    }

    #[test]
    fn emulation_prevention_bytes_go() {
        assert_eq!(without_emulation_prevention(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3, 0, 3]), [0, 0, 1, 0, 0, 0, 0, 3, 0, 3]);
    }
}
