//! RTMP chunks to frames: how fast, how much slower than copying the same bytes, and how many instructions a message takes.
//!
//! ```text
//! cargo bench --bench parse
//! ```

mod support;

use std::hint::black_box;

use capstan::media::flv_tag::{parse_audio, parse_video};
use capstan::rtmp::chunk::ChunkReader;

/// What one `recv` brings.
const PIECE_BYTES: usize = 256 << 10;
const SECONDS: usize = 4;

struct Case {
    name: &'static str,
    messages: usize,
    chunk_bytes: usize,
    bytes: Vec<u8>,
}

/// Set Chunk Size, as the first message of a connection.
fn set_chunk_size(chunk_bytes: usize) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &(chunk_bytes as u32).to_be_bytes()].concat()
}

fn cases() -> Vec<Case> {
    let case = |name, bitrate_kbit, chunk_bytes| {
        let tags = support::media(bitrate_kbit, SECONDS);
        Case { name, messages: tags.len(), chunk_bytes, bytes: support::chunks(&tags, chunk_bytes) }
    };
    vec![
        case("0.5 Mbit/s, chunks of 4096", 500, 4096),
        case("4 Mbit/s, chunks of 4096", 4_000, 4096),
        case("4 Mbit/s, chunks of 128", 4_000, 128),
        case("4 Mbit/s, one chunk a message", 4_000, 1 << 20),
        case("20 Mbit/s, chunks of 4096", 20_000, 4096),
    ]
}

fn reader(case: &Case) -> ChunkReader {
    let mut reader = ChunkReader::default();
    let mut consumed = 0;
    let nothing = reader.next_message(&set_chunk_size(case.chunk_bytes), &mut consumed).expect("a whole message");
    assert!(nothing.is_none() && reader.chunk_bytes() as usize == case.chunk_bytes);
    reader
}

/// Reads all of the case's messages in pieces and looks at each as far as the recorder does before it copies.
fn round(reader: &mut ChunkReader, case: &Case) {
    let mut frames = 0;
    for piece in case.bytes.chunks(PIECE_BYTES) {
        let mut consumed = 0;
        while let Some(header) = reader.next_message(piece, &mut consumed).expect("whole chunks") {
            let payload = reader.payload(piece);
            match header.type_id {
                support::VIDEO => drop(black_box(parse_video(payload))),
                _ => drop(black_box(parse_audio(payload))),
            }
            frames += 1;
        }
    }
    assert_eq!(frames, case.messages);
}

fn main() {
    let cases = cases();
    if let Some((name, rounds)) = support::counted() {
        let case = cases.iter().find(|case| case.name == name).expect("a case of this name");
        let mut reader = reader(case);
        (0..rounds).for_each(|_| round(&mut reader, case));
        return;
    }
    let copy = support::memcpy(PIECE_BYTES);
    support::head("chunks to frames, pieces of 256 KiB", copy);
    for case in &cases {
        let mut reader = reader(case);
        let rate = support::measure(case.bytes.len(), || round(&mut reader, case));
        let per_message = support::instructions(case.name).map(|count| count / case.messages as f64);
        support::row(case.name, rate, copy, per_message);
    }
}
