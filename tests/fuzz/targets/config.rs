#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::config::fuzz_config(data));
