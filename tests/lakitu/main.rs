//! The one integration test binary.

mod bash;
mod harness;
mod keeper;
mod scenarios;
