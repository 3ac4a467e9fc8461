#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::delivery::answer::fuzz_range(data));
