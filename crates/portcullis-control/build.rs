//! Tells cargo that the migrations are part of this crate: `sqlx::migrate!` reads their directory
//! while compiling, and a new file alone would not lead to another compilation.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
