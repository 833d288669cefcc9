//! libFuzzer's entry to the target `pep440`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox_fuzz::pep440::check(data));
