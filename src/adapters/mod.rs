//! The ports' outer sides: what reaches the world on the actors' behalf.

pub mod http;
pub mod secret;

pub use http::HttpGateway;
pub use secret::{Secret, TokenSource};
