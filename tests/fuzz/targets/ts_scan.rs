#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::container::mpegts::fuzz_ts_scan(data));
