//! libFuzzer's entry to the target `version`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::version::check(data));
