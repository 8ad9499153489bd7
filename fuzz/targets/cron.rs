//! See `clawgate_fuzz::cron`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::cron(data));
