#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::control::protocol::fuzz_protocol(data));
