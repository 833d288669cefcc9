//! libFuzzer's entry to the target `lock`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::lock::check(data));
