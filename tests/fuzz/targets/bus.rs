//! libFuzzer's entry to the target `bus`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::bus::check(data));
