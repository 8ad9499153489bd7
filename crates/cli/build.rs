//! How the release program is linked. Memory is counted in pages of the program that are mapped, so both of
//! these are for memory (docs/decisions/007).

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=order.ld");
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    let of = |name| env::var(name).unwrap_or_default();
    if of("PROFILE") != "release" || of("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    // What is used together lies together. One linker does not read scripts.
    if !of("CARGO_ENCODED_RUSTFLAGS").contains("mold") {
        let order = format!("{}/order.ld", of("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{order}");
    }
    // A position-independent program has 32,000 addresses to correct when it is loaded. The list of them, 24
    // bytes each, has a packed form that the C library reads since 2.36; elsewhere the program would not start.
    let here = of("HOST") == of("TARGET") && of("CARGO_CFG_TARGET_ENV") == "gnu";
    if here && library() >= Some((2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, where it says one: `glibc 2.36`.
fn library() -> Option<(u32, u32)> {
    let said = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
