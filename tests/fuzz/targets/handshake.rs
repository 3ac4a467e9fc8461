#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::rtmp::handshake::fuzz_handshake(data));
