#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::codec::aac::fuzz_aac(data));
