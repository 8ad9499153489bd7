//! See `clawgate_fuzz::address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::address(data));
