#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::control::media::fuzz_range(data));
