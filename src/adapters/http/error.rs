//! What went wrong below HTTP, by the stage it happened at.

use std::error::Error;
use std::io;

use lakitu_actors::gateway::failure::{quote, unreachable};
use lakitu_kernel::ports::ModelFailure;

/// A request that got no head.
pub(super) fn failure(error: &reqwest::Error) -> ModelFailure {
    unreachable(stage(error), &text(error))
}

/// The innermost cause and what it happened in, without the URL: the client's outer errors say no more than "error
/// sending request".
pub(super) fn text(error: &reqwest::Error) -> String {
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    let shown = match causes.as_slice() {
        [] => "unknown error".to_owned(),
        [.., outer, inner] if !outer.contains(inner.as_str()) => format!("{outer}: {inner}"),
        [.., last] => last.clone(),
    };
    quote(shown.as_bytes())
}

fn stage(error: &reqwest::Error) -> &'static str {
    if !error.is_connect() {
        return if error.is_timeout() { "connect" } else { "request" };
    }
    let kinds = |cause: &(dyn Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    if causes(error).any(|cause| cause.to_string().starts_with("dns error")) {
        "dns"
    } else if causes(error).filter_map(kinds).any(|kind| kind == io::ErrorKind::InvalidData) {
        // A certificate or a handshake that does not hold comes as data that is not valid.
        "tls"
    } else {
        "connect"
    }
}

/// The error's causes, outermost first, without the error itself: its text holds the URL.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
