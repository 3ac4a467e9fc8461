//! The server's side of the handshake: simple (section 5.2) and with digests, which Adobe never published but Flash Player 9, FMLE, FFmpeg
//! and others use.
//!
//! C0 and C1 in, S0, S1 and S2 out, C2 in. What C2 says is not looked at: encoders differ, and nothing depends on it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The one version of RTMP that is neither older than 2005 nor encrypted.
const VERSION: u8 = 3;
/// Length of C1, S1, C2 and S2.
pub const BLOCK_BYTES: usize = 1536;
/// Random bytes of S1: the block without its time and version.
pub const RANDOM_BYTES: usize = BLOCK_BYTES - 8;
const DIGEST_BYTES: usize = 32;
/// The digest lies somewhere in one of two blocks of 764 bytes behind time and version; the other holds a Diffie-Hellman key. Its place is
/// the sum of the four bytes at the front of the block, modulo 728, behind them.
const DIGEST_BLOCKS: [usize; 2] = [8 + 764, 8];
const DIGEST_PLACES: usize = 764 - 4 - DIGEST_BYTES;

/// Version that S1 carries in a handshake with digests; clients ask for 3 or more.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];
/// Both names sign the first message, with the constant behind them the second.
const SERVER_NAME: &[u8] = b"Genuine Adobe Flash Media Server 001";
const CLIENT_NAME: &[u8] = b"Genuine Adobe Flash Player 001";
const KEY_CONSTANT: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab,
    0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

/// First bytes of what turns up on an RTMP port instead of RTMP.
const STRANGERS: [(&[u8], &str); 14] = [
    (b"GET ", "an HTTP request"),
    (b"POST", "an HTTP request"),
    (b"HEAD", "an HTTP request"),
    (b"PUT ", "an HTTP request"),
    (b"OPTI", "an HTTP or RTSP request"),
    (b"DELE", "an HTTP request"),
    (b"CONN", "an HTTP proxy request"),
    (b"PATC", "an HTTP request"),
    (b"PRI ", "an HTTP/2 connection"),
    (b"DESC", "an RTSP request"),
    (b"SSH-", "an SSH client"),
    (b"PROX", "a PROXY protocol header"),
    (b"\r\n\r\n", "a PROXY protocol header"),
    (b"\x16\x03", "a TLS ClientHello (RTMPS)"),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the peer does not speak RTMP: its first bytes are {0}")]
    NotRtmp(&'static str),
    #[error("the peer asks for encrypted RTMP (RTMPE, version {0}), which is not supported")]
    Encrypted(u8),
    #[error("the peer asks for RTMP version {0}; only version 3 is spoken")]
    Version(u8),
}

/// The handshake of one connection, from its first byte to the last of C2.
#[derive(Debug)]
pub struct Handshake {
    random: [u8; RANDOM_BYTES],
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// C0 and C1 as far as they have come.
    C0C1(Vec<u8>),
    C2 {
        bytes_left: usize,
    },
}

impl Handshake {
    /// `random` goes into S1 and S2. It need not be secret, only differ between connections.
    pub fn new(random: [u8; RANDOM_BYTES]) -> Self {
        Self { random, stage: Stage::C0C1(Vec::new()) }
    }

    /// Reads on at `input[*consumed..]` and appends the answer to `out`. True when the handshake is done; what follows in `input` are chunks.
    ///
    /// # Errors
    /// Any [`HandshakeError`], as soon as the first bytes tell.
    pub fn read(&mut self, input: &[u8], consumed: &mut usize, out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        let mut take = |count: usize| {
            let taken = &input[*consumed..][..count.min(input.len() - *consumed)];
            *consumed += taken.len();
            taken
        };
        if let Stage::C0C1(received) = &mut self.stage {
            received.extend_from_slice(take(1 + BLOCK_BYTES - received.len()));
            check_version(received)?;
            let Some((_, c1)) = received.split_first().filter(|(_, c1)| c1.len() == BLOCK_BYTES) else { return Ok(false) };
            answer(c1, &self.random, out);
            self.stage = Stage::C2 { bytes_left: BLOCK_BYTES };
        }
        if let Stage::C2 { bytes_left } = &mut self.stage {
            *bytes_left -= take(*bytes_left).len();
            return Ok(*bytes_left == 0);
        }
        Ok(false)
    }
}

/// Names who is talking if it is not RTMP, once there are bytes enough to tell.
fn check_version(received: &[u8]) -> Result<(), HandshakeError> {
    let Some(&version) = received.first() else { return Ok(()) };
    if version == VERSION {
        return Ok(());
    }
    for (first_bytes, name) in STRANGERS {
        if received.starts_with(first_bytes) {
            return Err(HandshakeError::NotRtmp(name));
        }
        if first_bytes.starts_with(received) {
            return Ok(());
        }
    }
    Err(match version {
        6 | 8 | 9 => HandshakeError::Encrypted(version),
        0..32 => HandshakeError::Version(version),
        // Section 5.2.2: versions from 32 on are not allowed, so that text is told apart.
        _ => HandshakeError::NotRtmp("neither RTMP nor anything known"),
    })
}

/// Appends S0, S1 and S2.
fn answer(c1: &[u8], random: &[u8; RANDOM_BYTES], out: &mut Vec<u8>) {
    out.push(VERSION);
    let s1_start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(random);
    let version_is_zero = c1[4..8] == [0; 4];
    let digest = if version_is_zero { None } else { find_digest(c1, CLIENT_NAME) };
    let Some((block, at)) = digest else {
        // Simple: S2 is C1 again, its second time included, which nobody reads.
        out.extend_from_slice(c1);
        return;
    };
    let s1 = &mut out[s1_start..];
    s1[4..8].copy_from_slice(&SERVER_VERSION);
    let place = digest_place(s1, block);
    let s1_digest = digest_around(s1, place, SERVER_NAME);
    s1[place..place + DIGEST_BYTES].copy_from_slice(&s1_digest);

    let s2_start = out.len();
    // The same random bytes do for S2: they only fill it.
    out.extend_from_slice(&random[..BLOCK_BYTES - DIGEST_BYTES]);
    let s2_digest = sign_answer(&out[s2_start..], &c1[at..at + DIGEST_BYTES], SERVER_NAME);
    out.extend_from_slice(&s2_digest);
}

/// The block and place of the digest signed with `name`, if there is one.
fn find_digest(message: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    DIGEST_BLOCKS.into_iter().map(|block| (block, digest_place(message, block))).find(|&(_, place)| {
        let expected = digest_around(message, place, name);
        message[place..place + DIGEST_BYTES] == expected
    })
}

fn digest_place(message: &[u8], block: usize) -> usize {
    let sum: usize = message[block..block + 4].iter().map(|&byte| usize::from(byte)).sum();
    block + 4 + sum % DIGEST_PLACES
}

/// Digest of C1 or S1 without the 32 bytes where it goes.
fn digest_around(message: &[u8], place: usize, name: &[u8]) -> [u8; DIGEST_BYTES] {
    hmac_sha256(name, &[&message[..place], &message[place + DIGEST_BYTES..]])
}

/// Digest at the end of S2 or C2: its key is the other side's digest, signed.
fn sign_answer(body: &[u8], peer_digest: &[u8], name: &[u8]) -> [u8; DIGEST_BYTES] {
    let key = hmac_sha256(&[name, &KEY_CONSTANT].concat(), &[peer_digest]);
    hmac_sha256(&key, &[body])
}

fn hmac_sha256(key: &[u8], pieces: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}

/// Cut anywhere, the same answer, the same end and the same number of bytes taken.
pub fn fuzz_handshake(data: &[u8]) {
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut handshake = Handshake::new([7; RANDOM_BYTES]);
        let mut out = Vec::new();
        let mut total = 0;
        for piece in pieces {
            let mut consumed = 0;
            match handshake.read(piece, &mut consumed, &mut out) {
                Ok(done) => {
                    total += consumed;
                    if done {
                        return (out, Ok(Some(total)));
                    }
                    assert_eq!(consumed, piece.len());
                }
                Err(error) => return (out, Err(error)),
            }
        }
        (out, Ok(None))
    };
    let whole = run(&mut std::iter::once(data));
    assert!(whole.0.is_empty() || whole.0.len() == 1 + 2 * BLOCK_BYTES);
    let cut = data.first().map_or(0, |&byte| usize::from(byte) * 12).min(data.len());
    let (head, tail) = data.split_at(cut);
    assert_eq!(run(&mut [head, tail].into_iter()), whole);
    assert_eq!(run(&mut data.chunks(1)), whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> [u8; RANDOM_BYTES] {
        std::array::from_fn(|index| (index * 37 + index / 256) as u8)
    }

    /// C0 and C1 as a client with digests sends them.
    fn digest_c0c1(block: usize) -> Vec<u8> {
        let mut c1: Vec<u8> = (0..BLOCK_BYTES).map(|index| (index * 101 + index / 256) as u8).collect();
        c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
        let place = digest_place(&c1, block);
        let digest = digest_around(&c1, place, CLIENT_NAME);
        c1[place..place + DIGEST_BYTES].copy_from_slice(&digest);
        [&[VERSION], &c1[..]].concat()
    }

    fn run(input: &[u8]) -> (Vec<u8>, Result<bool, HandshakeError>) {
        let mut out = Vec::new();
        let result = Handshake::new(random()).read(input, &mut 0, &mut out);
        (out, result)
    }

    #[test]
    fn simple_handshake_echoes_c1() {
        let mut c0c1 = vec![VERSION];
        c0c1.extend((0..BLOCK_BYTES).map(|index| index as u8));
        c0c1[5..9].copy_from_slice(&[0; 4]);
        let (out, result) = run(&c0c1);
        assert_eq!(result, Ok(false));
        assert_eq!(out.len(), 1 + 2 * BLOCK_BYTES);
        assert_eq!((out[0], &out[1..9], &out[9..1537]), (VERSION, &[0; 8][..], &random()[..]));
        assert_eq!(&out[1537..], &c0c1[1..], "S2 is C1");
        let whole = [&c0c1[..], &[0; BLOCK_BYTES], b"chunks"].concat();
        let mut handshake = Handshake::new(random());
        let mut consumed = 0;
        assert_eq!(handshake.read(&whole, &mut consumed, &mut Vec::new()), Ok(true));
        assert_eq!(&whole[consumed..], b"chunks");
    }

    #[test]
    fn digest_handshake_is_answered_in_the_scheme_of_the_client() {
        for block in DIGEST_BLOCKS {
            let c0c1 = digest_c0c1(block);
            let (out, result) = run(&c0c1);
            assert_eq!(result, Ok(false));
            let (s1, s2) = out[1..].split_at(BLOCK_BYTES);
            assert_eq!(s1[4..8], SERVER_VERSION);
            let (s1_block, _) = find_digest(s1, SERVER_NAME).expect("S1 is signed");
            assert_eq!(s1_block, block);
            let place = digest_place(&c0c1[1..], block) + 1;
            let (body, digest) = s2.split_at(BLOCK_BYTES - DIGEST_BYTES);
            assert_eq!(digest, sign_answer(body, &c0c1[place..place + DIGEST_BYTES], SERVER_NAME));
        }
    }

    /// The keys are right only if an outside computation agrees: HMAC-SHA256 of the empty message by OpenSSL.
    #[test]
    fn keys_are_the_published_ones() {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let full = [SERVER_NAME, &KEY_CONSTANT].concat();
        assert_eq!((SERVER_NAME.len(), CLIENT_NAME.len(), full.len()), (36, 30, 68));
        assert_eq!(hex(hmac_sha256(&full, &[])), "6e3d1d1ca0dd1356c179858ff44996dec30f40afd8c00acff24caf01cad5d293");
        assert_eq!(hex(hmac_sha256(CLIENT_NAME, &[])), "04f439113c4ed52112301b755123ccedfc104a1625dfa78ee5583e03db42edcf");
    }

    #[test]
    fn a_digest_that_does_not_verify_falls_back_to_simple() {
        let mut c0c1 = digest_c0c1(DIGEST_BLOCKS[0]);
        c0c1[1000] ^= 1;
        let (out, result) = run(&c0c1);
        assert_eq!(result, Ok(false));
        assert_eq!(&out[1537..], &c0c1[1..]);
    }

    #[test]
    fn strangers_are_named() {
        let cases: &[(&[u8], HandshakeError)] = &[
            (b"GET / HTTP/1.1\r\n", HandshakeError::NotRtmp("an HTTP request")),
            (b"POST /open/1 HTTP/1.1\r\n", HandshakeError::NotRtmp("an HTTP request")),
            (b"HEAD /", HandshakeError::NotRtmp("an HTTP request")),
            (b"OPTIONS *", HandshakeError::NotRtmp("an HTTP or RTSP request")),
            (b"\x16\x03\x01\x02\x00", HandshakeError::NotRtmp("a TLS ClientHello (RTMPS)")),
            (b"GEZ", HandshakeError::NotRtmp("neither RTMP nor anything known")),
            (b"\x16\x04", HandshakeError::Version(0x16)),
            (b"\x06", HandshakeError::Encrypted(6)),
            (b"\x02", HandshakeError::Version(2)),
            (b"\xff", HandshakeError::NotRtmp("neither RTMP nor anything known")),
        ];
        for (bytes, expected) in cases {
            assert_eq!(run(bytes), (Vec::new(), Err(*expected)), "{bytes:?}");
            fuzz_handshake(bytes);
        }
        assert_eq!(run(b"GE"), (Vec::new(), Ok(false)), "may still become either");
        assert_eq!(run(b""), (Vec::new(), Ok(false)));
    }

    #[test]
    fn cuts_do_not_matter() {
        for c0c1 in [digest_c0c1(DIGEST_BLOCKS[0]), digest_c0c1(DIGEST_BLOCKS[1]), vec![VERSION; 1 + BLOCK_BYTES]] {
            let whole = [&c0c1[..], &[5; BLOCK_BYTES], b"chunks"].concat();
            let expected = run(&whole);
            for cut in 0..whole.len() {
                let mut handshake = Handshake::new(random());
                let mut out = Vec::new();
                let mut consumed = 0;
                let first = handshake.read(&whole[..cut], &mut consumed, &mut out).unwrap();
                assert_eq!((first, consumed), (cut >= 3073, cut.min(3073)));
                if !first {
                    assert_eq!(handshake.read(&whole, &mut consumed, &mut out), Ok(true));
                }
                assert_eq!((consumed, &out), (3073, &expected.0), "cut at {cut}");
            }
            fuzz_handshake(&whole);
        }
    }
}
