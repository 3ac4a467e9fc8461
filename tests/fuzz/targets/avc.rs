#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::codec::avc::fuzz_avc(data));
