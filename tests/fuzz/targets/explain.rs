#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::inspect::fuzz_explain(data));
