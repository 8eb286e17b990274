//! The bodies of the fuzz targets, for `fuzz_targets`. The test suite runs the same ones.

#[path = "../bodies/mod.rs"]
mod bodies;

macro_rules! targets {
    ($($target:ident)*) => {$(
        #[doc = concat!("The body of the target `", stringify!($target), "`.")]
        pub fn $target(data: &[u8]) {
            bodies::$target(data);
        }
    )*};
}

targets! { base62 config feed_line key_text ledger routes target }
