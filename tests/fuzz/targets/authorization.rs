#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::control::auth::fuzz_authorization(data));
