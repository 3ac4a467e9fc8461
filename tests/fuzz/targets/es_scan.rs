#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::container::es::fuzz_es_scan(data));
