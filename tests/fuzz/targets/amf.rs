#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::rtmp::amf::fuzz_amf(data));
