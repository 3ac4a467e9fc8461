#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::control::head::fuzz_head(data));
