#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::control::actions::tasks::fuzz_scroll_token(data));
