#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::codec::mp3::fuzz_mp3(data));
