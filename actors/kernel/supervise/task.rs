//! Tasks of one type.

use std::future::Future;

use crate::ports::BoxFuture;

/// A task's work behind one type. tokio compiles some ten functions for every type of future that is spawned, and all of
/// them once for each of its schedulers; behind one type they are there once.
pub fn boxed<T>(work: impl Future<Output = T> + Send + 'static) -> BoxFuture<'static, T> {
    Box::pin(work)
}
