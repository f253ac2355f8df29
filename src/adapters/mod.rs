//! The ports' outer sides: what reaches the world on the actors' behalf.

pub mod http;
pub mod secret;
pub mod token_file;
pub mod watch;

pub use http::{Answering, Call, Dialect, HttpGateway, Refusal, Upstream};
pub use secret::{Redactor, Secret, TokenSource};
pub use token_file::{Cover, TokenFile};
pub use watch::{Quoted, Watch};
