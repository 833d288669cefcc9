//! libFuzzer's entry to the target `tar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::tar::check(data));
