#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capstan::media::flv_tag::fuzz_flv_tag(data));
