//! libFuzzer's entry to the target `release`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::release::check(data));
