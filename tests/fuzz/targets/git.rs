//! libFuzzer's entry to the target `git`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::git::check(data));
