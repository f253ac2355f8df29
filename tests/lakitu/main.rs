//! The one integration test binary.

mod bash;
mod keeper;
mod kill;
