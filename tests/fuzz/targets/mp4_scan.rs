#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::container::mp4::fuzz_scan(data));
