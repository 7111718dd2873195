//! See `annulus_fuzz::bridge_ends`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| annulus_fuzz::bridge_ends(data));
