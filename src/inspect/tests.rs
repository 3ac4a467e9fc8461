//! Files of our own writers, whole and damaged, and anything at all.

use std::path::Path;

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    // The saved inputs of the scans hold whole files too.
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)).expect("a corpus file")
}

/// `count` ADTS frames of 20 bytes.
fn adts(count: usize) -> Vec<u8> {
    let frame = [&[0xff, 0xf1, 0x50, 0x80, 0x02, 0x9f, 0xfc][..], &[0x21; 13]].concat();
    frame.repeat(count)
}

/// `count` MP3 frames of 208 bytes, 64 kbit/s at 22.05 kHz.
fn mp3(count: usize) -> Vec<u8> {
    let frame = [&[0xff, 0xf3, 0x80, 0xc4][..], &[0x55; 204]].concat();
    frame.repeat(count)
}

#[test]
fn elementary_streams_and_what_is_wrong_with_them() {
    type Case<'a> = (&'a str, Vec<u8>, &'static str, u64, &'a [&'a str]);
    let tag = [&b"ID3\x04\0\0\0\0\x01\x02"[..], &[0; 130]].concat();
    let cases: &[Case] = &[
        ("ADTS", adts(5), "ADTS", 5, &[]),
        ("ADTS cut", adts(5)[..90].to_vec(), "ADTS", 4, &["the last frame is cut: 10 of 20 bytes are there"]),
        ("ADTS with room behind", [adts(3), vec![0; 50]].concat(), "ADTS", 3, &["the last 50 bytes are zeros: room that was never written"]),
        ("ADTS with a hole", [adts(3), vec![7; 33], adts(2)].concat(), "ADTS", 5, &["33 bytes from byte 60 on are no audio"]),
        ("ADTS behind a tag", [tag.clone(), adts(2)].concat(), "ADTS", 2, &[]),
        ("MP3", mp3(4), "MP3", 4, &[]),
        ("MP3 between tags", [tag, mp3(2), [&b"TAG"[..], &[b'x'; 125]].concat()].concat(), "MP3", 2, &[]),
        ("MP3 behind junk", [vec![1; 9], mp3(2)].concat(), "MP3", 2, &["9 bytes before the first frame are no audio"]),
    ];
    for (name, bytes, container, frames, faults) in cases {
        let report = explain_bytes(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((report.container, report.tracks[0].summary.frames), (*container, *frames), "{name}");
        assert_eq!(report.faults, *faults, "{name}");
        assert_eq!(report.text(Path::new("f")).contains("Nothing wrong was found."), faults.is_empty(), "{name}");
    }
}

#[test]
fn what_is_nothing_known_is_said_to_be() {
    assert!(matches!(explain_bytes(&b""[..]), Err(ExplainError::Empty)));
    let error = explain_bytes(&b"#EXTM3U\n"[..]).unwrap_err();
    assert_eq!(error.to_string(), "this is no MP4, FLV, MPEG-TS, ADTS or MP3 file; it begins with 23 45 58 54 4d 33 55 0a");
}

#[test]
fn boxes_that_are_cut_or_missing_are_named() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("no index", b"\0\0\0\x0cftypisom\0\0\0\x0cmdat1234", "there is no index (moov), so nobody can play it"),
        ("cut", b"\0\0\0\x0cftypisom\0\0\0\x2cmdat1234", "the box mdat at byte 12 is cut: 12 of 44 bytes are there"),
        ("not a box", b"\0\0\0\x0cftypisom\0\0\0\x02\xff\xff\xff\xff", "the 8 bytes from byte 12 on are no box"),
        ("fragment without media", b"\0\0\0\x0cstypmsdh\0\0\0\x08moof", "the fragment at byte 12 has no media (mdat) behind it"),
    ];
    for (name, bytes, fault) in cases {
        let report = explain_bytes(*bytes).expect("MP4");
        assert!(report.faults.iter().any(|found| found.starts_with(fault)), "{name}: {:?}", report.faults);
    }
}

#[test]
fn damaged_files_of_every_kind_are_survived() {
    let whole = [adts(9), mp3(5)];
    for folder in ["flv_scan", "ts_scan", "es_scan", "mp4_scan"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder)).expect("a corpus") {
            let name = entry.expect("an entry").file_name();
            fuzz_explain(&fixture(&format!("{folder}/{}", name.to_string_lossy())));
        }
    }
    for file in whole {
        (0..file.len()).for_each(|cut| fuzz_explain(&file[..cut]));
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(begin in 0..6_usize, data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
        let begins: [&[u8]; 6] = [b"", b"FLV\x01\x05\0\0\0\x09\0\0\0\0", b"\0\0\0\x0cftypisom", b"G\x40\0\x10", b"\xff\xf1", b"ID3\x04\0\0\0\0\0\x05"];
        fuzz_explain(&[begins[begin], &data].concat());
    }
}
