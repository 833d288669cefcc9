//! libFuzzer's entry to the target `copied`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::copied::check(data));
