//! libFuzzer's entry to the target `deb822`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::deb822::check(data));
