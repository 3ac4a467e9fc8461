//! The inputs that fuzzing found interesting, and every input that once broke a parser, run again: `tests/corpus/TARGET/*`.
//!
//! The same functions are the targets of `tests/fuzz`. Each checks invariants beside its parser and panics when one does not hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("chunk", capstan::rtmp::chunk::fuzz_chunk),
    ("amf", capstan::rtmp::amf::fuzz_amf),
    ("handshake", capstan::rtmp::handshake::fuzz_handshake),
    ("session", capstan::rtmp::fuzz::fuzz_session),
    ("flv_tag", capstan::media::flv_tag::fuzz_flv_tag),
    ("avc", capstan::codec::avc::fuzz_avc),
    ("aac", capstan::codec::aac::fuzz_aac),
    ("mp3", capstan::codec::mp3::fuzz_mp3),
    ("codecs", capstan::codec::fuzz_codecs),
    ("wire", capstan::wire::fuzz_wire),
    ("flv_scan", capstan::container::flv::fuzz_flv_scan),
    ("mp4_scan", capstan::container::mp4::fuzz_scan),
    ("ts_scan", capstan::container::mpegts::fuzz_ts_scan),
    ("es_scan", capstan::container::es::fuzz_es_scan),
    ("recovery", capstan::segment::open_record::fuzz_recovery),
    ("journal", capstan::recorder::journal::fuzz_journal),
    ("explain", capstan::inspect::fuzz_explain),
    ("config", capstan::config::fuzz_config),
    ("psign", capstan::domain::psign::fuzz_psign),
    ("http_head", capstan::control::head::fuzz_head),
    ("http_chunked", capstan::control::head::fuzz_chunked),
    ("delivery_head", capstan::delivery::http::fuzz_head),
    ("http_range", capstan::delivery::answer::fuzz_range),
    ("protocol", capstan::control::protocol::fuzz_protocol),
    ("tree", capstan::control::tree::fuzz_tree),
    ("authorization", capstan::control::auth::fuzz_authorization),
    ("scroll_token", capstan::control::actions::tasks::fuzz_scroll_token),
];

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read(path).expect("reading a corpus file"))).collect()
}

#[test]
fn every_saved_input_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for (name, target) in TARGETS {
        for (path, data) in files(&root.join(name)) {
            // Said before, so that the output of a failed test names the file.
            println!("{path}");
            target(&data);
            // Cut anywhere: the ends of inputs are where parsers fail. Long inputs are cut at some places only.
            for cut in (0..data.len()).step_by(data.len() / 64 + 1) {
                target(&data[..cut]);
            }
        }
    }
}

#[test]
fn every_target_is_a_fuzz_target_with_a_corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let listed = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(folder)).expect("reading a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".rs").to_owned()).collect()
    };
    assert_eq!(names, listed("tests/fuzz/targets"));
    assert_eq!(names, listed("tests/corpus"));
}
