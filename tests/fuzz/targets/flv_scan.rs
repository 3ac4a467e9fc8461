#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::container::flv::fuzz_flv_scan(data));
