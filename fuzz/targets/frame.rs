//! See `clawgate_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::frame(data));
