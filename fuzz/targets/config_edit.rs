//! See `clawgate_fuzz::config_edit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::config_edit(data));
