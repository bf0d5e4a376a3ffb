//! Tells cargo that the embedded default bundle is part of this crate's source.

fn main() {
    println!("cargo:rerun-if-changed=../../governance");
}
