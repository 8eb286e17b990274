//! See `portcullis-control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_control::fuzz_admin_fields(data));
