//! See `clawgate_fuzz::allowlist`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::allowlist(data));
