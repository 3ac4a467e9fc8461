#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::rtmp::chunk::fuzz_chunk(data));
