//! libFuzzer's entry to the target `semver`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::semver::check(data));
