use proptest::prelude::*;

use super::*;
use crate::rtmp::chunk_writer::{ChunkWriter, put_basic_header};
use crate::wire::Put;

fn header(chunk_stream_id: u32, timestamp_ms: u32, type_id: u8) -> MessageHeader {
    MessageHeader { chunk_stream_id, timestamp_ms, type_id, message_stream_id: 1 }
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + seed * 31 + index / 200) as u8).collect()
}

/// The messages of `bytes`, the same for the whole and for every cut in two.
fn read(name: &str, bytes: &[u8]) -> Messages {
    let whole = read_pieces(std::iter::once(bytes));
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(read_pieces([head, tail].into_iter()), whole, "{name}, cut at {cut}");
    }
    assert_eq!(read_pieces(bytes.chunks(1)), whole, "{name}, byte by byte");
    whole
}

fn timestamps(name: &str, bytes: &[u8]) -> Vec<u32> {
    let (messages, error) = read(name, bytes);
    assert_eq!(error, None, "{name}");
    messages.iter().map(|(header, _)| header.timestamp_ms).collect()
}

/// Type 0 with one byte of payload unless said otherwise by `rest`.
fn type_0(timestamp: u32, length: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x04];
    bytes.put_u24(timestamp);
    bytes.put_u24(length);
    bytes.put(&[9, 1, 0, 0, 0]);
    bytes.put(rest);
    bytes
}

#[test]
fn messages_of_every_size_and_chunk_size_come_back() {
    for chunk_bytes in [9, 127, 128, 129, 4096] {
        let mut writer = ChunkWriter::default();
        let mut bytes = Vec::new();
        writer.write(&header(2, 0, message_type::SET_CHUNK_SIZE), &u32::to_be_bytes(chunk_bytes), &mut bytes);
        writer.set_chunk_bytes(chunk_bytes);
        let mut expected = Vec::new();
        for (index, length) in [0, 1, 127, 128, 129, 300].into_iter().enumerate() {
            let csid = [2, 4, 63, 64, 319, 320, 65_599][index];
            let header = header(csid, [0, 40, 0xff_fffe, 0xff_ffff, 0x0100_0000, u32::MAX][index], 9);
            let payload = pattern(length, index);
            writer.write(&header, &payload, &mut bytes);
            expected.push((header, payload));
        }
        assert_eq!(read(&format!("chunk size {chunk_bytes}"), &bytes), (expected, None));
    }
}

#[test]
fn timestamps_of_all_chunk_types() {
    let second = [0x44, 0, 0, 40, 0, 0, 1, 9, b'b'];
    let cases: [(&str, Vec<u8>, Vec<u32>); 9] = [
        ("type 1 adds its delta", [type_0(10, 1, b"a"), second.to_vec()].concat(), vec![10, 50]),
        (
            "type 2 and 3 go on with it",
            [type_0(10, 1, b"a"), second.to_vec(), b"\x84\0\0\x17c\xc4d\xc4e".to_vec()].concat(),
            vec![10, 50, 73, 96, 119],
        ),
        ("type 3 right after type 0 adds its timestamp", [type_0(10, 1, b"a"), b"\xc4b\xc4c".to_vec()].concat(), vec![10, 20, 30]),
        ("a second type 0 starts anew", [type_0(10, 1, b"a"), type_0(5, 1, b"b")].concat(), vec![10, 5]),
        (
            "extended, and after it type 3 stands still",
            [type_0(0xff_ffff, 1, b"\x01\0\0\x07a"), b"\xc4\x01\0\0\x07b".to_vec(), b"\xc4c".to_vec()].concat(),
            vec![0x0100_0007; 3],
        ),
        ("a delta wraps at 2^32", [type_0(0xff_ffff, 1, b"\xff\xff\xff\xfaa"), b"\x84\0\0\x0ab".to_vec()].concat(), vec![0xffff_fffa, 4]),
        ("an extended delta goes back by wrapping", [type_0(100, 1, b"a"), b"\x84\xff\xff\xff\xff\xff\xff\xf6b".to_vec()].concat(), vec![100, 90]),
        ("a first chunk of type 1", [&[0x44, 0, 0, 7, 0, 0, 1, 9, b'a'][..], &[0xc4, b'b']].concat(), vec![7, 14]),
        ("an empty message counts", [type_0(10, 0, b""), b"\xc4\xc4".to_vec()].concat(), vec![10, 20, 30]),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(timestamps(name, &bytes), expected, "{name}");
    }
}

/// The four bytes after a type 3 header are an extended timestamp only if they repeat it.
#[test]
fn type_3_chunks_with_and_without_the_extended_timestamp() {
    let payload = pattern(300, 1);
    let repeated_delta = |field: u32| {
        let mut bytes = type_0(1000, 1, b"x");
        bytes.put(&[0x44, 0xff, 0xff, 0xff, 0, 1, 44, 9]);
        bytes.put_u32(0x0200_0000);
        bytes.put(&payload[..128]);
        for piece in payload[128..].chunks(128) {
            bytes.put_u8(0xc4);
            bytes.put_u32(field);
            bytes.put(piece);
        }
        bytes
    };
    for (name, field) in [("the delta repeated", 0x0200_0000), ("the message's timestamp repeated", 0x0200_0000 + 1000)] {
        let (messages, error) = read(name, &repeated_delta(field));
        assert_eq!((messages.len(), error), (2, None), "{name}");
        assert_eq!(messages[1], (header(4, 0x0200_0000 + 1000, 9), payload.clone()), "{name}");
    }
    // Not repeated, with payloads that begin like the timestamp and end right there, so that carried bytes turn out to be payload and more.
    for lookalike in [&b""[..], b"\x01", b"\x01\x00", b"\x01\x00\x00"] {
        for tail_bytes in 0..4 {
            let mut tail = lookalike.to_vec();
            tail.extend_from_slice(&b"zyx"[..tail_bytes]);
            if tail.is_empty() {
                continue;
            }
            let payload = [&payload[..128], &tail].concat();
            let mut bytes = vec![0x04, 0xff, 0xff, 0xff];
            bytes.put_u24(payload.len() as u32);
            bytes.put(&[9, 1, 0, 0, 0, 1, 0, 0, 7]);
            bytes.put(&payload[..128]);
            bytes.put_u8(0xc4);
            bytes.put(&payload[128..]);
            let one = bytes.clone();
            bytes.put(&one);
            let name = format!("not repeated, {lookalike:?} and {tail_bytes}");
            // What follows shows that the last bytes were no timestamp either.
            ChunkWriter::default().write(&header(5, 0, 8), b"end", &mut bytes);
            let expected = (header(4, 0x0100_0007, 9), payload);
            let end = (header(5, 0, 8), b"end".to_vec());
            assert_eq!(read(&name, &bytes), (vec![expected.clone(), expected, end], None), "{name}");
        }
    }
}

#[test]
fn interleaved_messages_and_abort() {
    let audio = pattern(200, 2);
    let video = pattern(500, 3);
    let mut bytes = Vec::new();
    let start = |csid: u8, type_id: u8, length: u32, out: &mut Vec<u8>| {
        out.put_u8(csid);
        out.put_u24(20);
        out.put_u24(length);
        out.put(&[type_id, 1, 0, 0, 0]);
    };
    start(6, 9, 500, &mut bytes);
    bytes.put(&video[..128]);
    start(4, 8, 200, &mut bytes);
    bytes.put(&audio[..128]);
    bytes.put_u8(0xc6);
    bytes.put(&video[128..256]);
    // An empty message in between leaves the pieces of the others alone.
    start(7, 18, 0, &mut bytes);
    bytes.put_u8(0xc6);
    bytes.put(&video[256..384]);
    bytes.put_u8(0xc4);
    bytes.put(&audio[128..]);
    // Chunk stream 5 begins, is aborted and begins again.
    start(5, 9, 129, &mut bytes);
    bytes.put(&pattern(128, 4));
    ChunkWriter::default().write(&header(2, 0, message_type::ABORT), &5_u32.to_be_bytes(), &mut bytes);
    start(5, 9, 3, &mut bytes);
    bytes.put(b"new");
    bytes.put_u8(0xc6);
    bytes.put(&video[384..]);
    let expected = vec![(header(7, 20, 18), vec![]), (header(4, 20, 8), audio), (header(5, 20, 9), b"new".to_vec()), (header(6, 20, 9), video)];
    assert_eq!(read("interleaved", &bytes), (expected, None));
}

#[test]
fn a_message_inside_one_input_is_not_copied() {
    let mut writer = ChunkWriter::default();
    let mut bytes = Vec::new();
    let payload = pattern(1000, 5);
    writer.write(&header(4, 0, 9), &payload, &mut bytes);
    writer.set_chunk_bytes(4096);
    let mut reader = ChunkReader::default();
    let mut consumed = 0;
    for _ in 0..3 {
        consumed = 0;
        assert!(reader.next_message(&bytes, &mut consumed).unwrap().is_some());
        assert_eq!(reader.payload(&bytes).slices().count(), 8, "one piece a chunk, none of them assembled");
        assert_eq!(reader.next_message(&bytes, &mut consumed), Ok(None));
    }
    assert_eq!(consumed, bytes.len());
    assert_eq!((reader.assembled_bytes, reader.spare.capacity()), (0, 0));
}

#[test]
fn buffers_are_given_back() {
    let mut bytes = Vec::new();
    let payload = pattern(200_000, 6);
    ChunkWriter::default().write(&header(4, 0, 9), &payload, &mut bytes);
    ChunkWriter::default().write(&header(4, 0, 9), &payload[..20_000], &mut bytes);
    let mut reader = ChunkReader::default();
    let mut lengths = Vec::new();
    for piece in bytes.chunks(50_000) {
        let mut consumed = 0;
        while reader.next_message(piece, &mut consumed).unwrap().is_some() {
            lengths.push(reader.payload(piece).len());
        }
        assert!(reader.spans.capacity() <= SPANS_MAX, "spans are bounded");
    }
    assert_eq!(lengths, [200_000, 20_000]);
    assert_eq!((reader.assembled_bytes, reader.messages_partial), (0, 0));
    assert!(reader.spare.capacity() <= ASSEMBLY_BYTES_KEPT);
    assert!(reader.streams.iter().all(|stream| stream.assembly.capacity() == 0));
}

#[test]
fn what_breaks_the_rules_is_named() {
    let long = |type_id: u8, length: u32| {
        let mut bytes = vec![4, 0, 0, 0];
        bytes.put_u24(length);
        bytes.put(&[type_id, 1, 0, 0, 0, b'a']);
        bytes
    };
    let control = |type_id: u8, payload: &[u8]| {
        let mut bytes = Vec::new();
        ChunkWriter::default().write(&header(2, 0, type_id), payload, &mut bytes);
        bytes
    };
    let mut partial = Vec::new();
    for csid in 0..=MESSAGES_PARTIAL_MAX as u8 {
        partial.put(&[csid + 3, 0, 0, 0, 0, 0, 129, 9, 1, 0, 0, 0]);
        partial.put(&[0; 128]);
    }
    let mut streams = Vec::new();
    for csid in 0..=CHUNK_STREAMS_MAX as u32 {
        put_basic_header(0, csid + 40, &mut streams);
        streams.put(&[0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, b'a']);
    }
    let amf_max = AMF_MESSAGE_BYTES_MAX as u32;
    let cases: Vec<(&str, Vec<u8>, ChunkError)> = vec![
        ("type 3 first", vec![0xc4], ChunkError::NoHeader { chunk_stream_id: 4, format: 3 }),
        ("type 2 first", vec![0x84, 0, 0, 1], ChunkError::NoHeader { chunk_stream_id: 4, format: 2 }),
        (
            "a new header inside a message",
            [type_0(0, 129, &[0; 128]), type_0(0, 129, b"")].concat(),
            ChunkError::MessageInterrupted { chunk_stream_id: 4, format: 0 },
        ),
        (
            "video too long",
            long(9, MESSAGE_BYTES_MAX + 1),
            ChunkError::MessageTooLarge { type_id: 9, length: MESSAGE_BYTES_MAX + 1, length_max: MESSAGE_BYTES_MAX },
        ),
        ("command too long", long(20, amf_max + 1), ChunkError::MessageTooLarge { type_id: 20, length: amf_max + 1, length_max: amf_max }),
        ("chunk size 0", control(1, &[0; 4]), ChunkError::ChunkSize(0)),
        ("chunk size with the high bit", control(1, &[0x80, 0, 0, 0]), ChunkError::ChunkSize(0x8000_0000)),
        ("a short Set Chunk Size", control(1, &[0; 3]), ChunkError::ControlTooShort { type_id: 1, length: 3 }),
        ("a short Abort", control(2, &[]), ChunkError::ControlTooShort { type_id: 2, length: 0 }),
        ("too many interleaved", partial, ChunkError::TooManyPartialMessages),
        ("too many chunk streams", streams, ChunkError::TooManyChunkStreams),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(read(name, &bytes).1, Some(expected), "{name}");
    }
    let (messages, error) = read("the longest allowed", &long(9, MESSAGE_BYTES_MAX));
    assert_eq!((messages.len(), error), (0, None));
    assert_eq!(read("a chunk size beyond any message", &control(1, &[0x7f, 0xff, 0xff, 0xff])).1, None);
}

#[test]
fn partial_bytes_of_a_connection_are_bounded() {
    let mut reader = ChunkReader::default();
    let mut send = |bytes: &[u8]| reader.next_message(bytes, &mut 0);
    let mut set = Vec::new();
    ChunkWriter::default().write(&header(2, 0, 1), &CHUNK_BYTES_MAX.to_be_bytes(), &mut set);
    send(&set).unwrap();
    let piece = vec![0; MESSAGE_BYTES_MAX as usize - 1];
    let streams = CONNECTION_BYTES_MAX / MESSAGE_BYTES_MAX;
    for csid in 0..=streams as u8 {
        let mut bytes = type_0(0, MESSAGE_BYTES_MAX, b"");
        bytes[0] = csid + 3;
        // A chunk is as long as its message, so the message before has to be left by a smaller chunk size.
        let mut small = Vec::new();
        ChunkWriter::default().write(&header(2, 0, 1), &(MESSAGE_BYTES_MAX - 1).to_be_bytes(), &mut small);
        send(&small).unwrap();
        bytes.extend_from_slice(&piece);
        let result = send(&bytes);
        if csid < streams as u8 {
            assert_eq!(result, Ok(None));
        } else {
            assert_eq!(result, Err(ChunkError::TooManyPartialBytes));
        }
    }
}

/// A sender that compresses headers as far as the specification allows, interleaving as it likes.
fn arbitrary_stream() -> impl Strategy<Value = Vec<u8>> {
    let message = (3..6_u8, 0..3_u8, 0..400_usize, 0..50_u32);
    (1..200_u32, prop::collection::vec(message, 1..12)).prop_map(|(chunk_bytes, messages)| {
        let mut out = Vec::new();
        ChunkWriter::default().write(&header(2, 0, 1), &chunk_bytes.to_be_bytes(), &mut out);
        // Chunks of the messages of three chunk streams, each in order, dealt round robin.
        let mut queues: [std::collections::VecDeque<Vec<u8>>; 3] = Default::default();
        let mut known = [false; 3];
        for (index, (csid, format, length, delta)) in messages.into_iter().enumerate() {
            let queue = usize::from(csid - 3);
            let format = if known[queue] { format.min(1) } else { 0 };
            known[queue] = true;
            let mut chunk = vec![csid | format << 6];
            chunk.put_u24(delta);
            chunk.put_u24(length as u32);
            chunk.put_u8(9);
            if format == 0 {
                chunk.put_u32_le(1);
            }
            let payload = pattern(length, index);
            let mut pieces = payload.chunks(chunk_bytes as usize);
            chunk.put(pieces.next().unwrap_or_default());
            queues[queue].push_back(chunk);
            for piece in pieces {
                queues[queue].push_back([&[csid | 0xc0], piece].concat());
            }
        }
        while queues.iter().any(|queue| !queue.is_empty()) {
            for queue in &mut queues {
                out.extend(queue.pop_front().unwrap_or_default());
            }
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cuts_do_not_matter(stream in arbitrary_stream(), seed in any::<u8>()) {
        prop_assert_eq!(read_pieces(std::iter::once(&stream[..])).1, None);
        fuzz_chunk(&[&[seed], &stream[..]].concat());
    }

    #[test]
    fn noise_never_panics(data in prop::collection::vec(prop_oneof![Just(0_u8), Just(0xff), Just(4), Just(0xc4), any::<u8>()], 0..300)) {
        fuzz_chunk(&data);
    }

    #[test]
    fn a_damaged_stream_never_panics(stream in arbitrary_stream(), at in any::<prop::sample::Index>(), byte in any::<u8>(), seed in any::<u8>()) {
        let mut stream = stream;
        let at = at.index(stream.len());
        stream[at] = byte;
        fuzz_chunk(&[&[seed], &stream[..]].concat());
    }
}
