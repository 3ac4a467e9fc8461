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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_prevention_bytes_go() {
        assert_eq!(without_emulation_prevention(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3, 0, 3]), [0, 0, 1, 0, 0, 0, 0, 3, 0, 3]);
    }
}
