#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::codec::fuzz_codecs(data));
