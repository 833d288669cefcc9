//! libFuzzer's entry to the target `ar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::ar::check(data));
