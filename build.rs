//! How the binaries are linked: relative relocations packed (RELR), half a megabyte less, where what runs them knows that.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a build script talks to cargo, and asks the system"
)]

use std::process::Command;

/// The first glibc that does.
const GLIBC_MIN: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let packed = match (env("CARGO_CFG_TARGET_OS").as_str(), env("CARGO_CFG_TARGET_ENV").as_str()) {
        // The program brings its own, which rustc ships: newer than 1.2.4, the first that does.
        ("linux", "musl") => true,
        // What was built here is taken to run here.
        ("linux", "gnu") => env("HOST") == env("TARGET") && glibc().is_some_and(|version| version >= GLIBC_MIN),
        _ => false,
    };
    if packed {
        // A linker that does not know it says so, and goes on without.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of the C library here; `None` where it is not glibc.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
