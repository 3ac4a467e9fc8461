#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::recorder::journal::fuzz_journal(data));
