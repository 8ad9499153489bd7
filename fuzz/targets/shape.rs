//! See `clawgate_fuzz::shape`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::shape(data));
