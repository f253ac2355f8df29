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
    if causes(error).any(|cause| cause.to_string().starts_with("dns error")) {
        "dns"
    } else if causes(error).any(is_tls) {
        "tls"
    } else {
        "connect"
    }
}

/// Whether a certificate or a handshake did not hold. It comes wrapped as an error of input and output, or in two of them,
/// which do not name what they wrap as their source.
fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    let inner = |outer: &io::Error| outer.get_ref().is_some_and(|inner| is_tls(inner));
    cause.is::<rustls::Error>() || cause.downcast_ref::<io::Error>().is_some_and(inner)
}

/// The error's causes, outermost first, without the error itself: its text holds the URL.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
