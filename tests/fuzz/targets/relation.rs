//! libFuzzer's entry to the target `relation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::relation::check(data));
