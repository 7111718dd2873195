//! See `annulus_fuzz::ops_model`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| annulus_fuzz::ops_model(data));
