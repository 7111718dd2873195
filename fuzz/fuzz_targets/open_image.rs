//! See `annulus_fuzz::open_image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| annulus_fuzz::open_image(data));
