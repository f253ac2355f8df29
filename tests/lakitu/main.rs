//! The one integration test binary.

mod keeper;
