//! libFuzzer's entry to the target `accounts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::accounts::check(data));
