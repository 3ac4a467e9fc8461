#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::segment::open_record::fuzz_recovery(data));
