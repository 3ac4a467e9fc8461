#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::domain::psign::fuzz_psign(data));
