//! See `clawgate_fuzz::import`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::import(data));
