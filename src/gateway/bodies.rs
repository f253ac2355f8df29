//! Requests' bodies, and how much of them all is held at once.
//!
//! **Invariant:** what a body takes is counted while its bytes live, whoever holds them, and not a byte longer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ApiError;

/// One request's body: 32 MiB.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Until it is there.
const BODY_DEADLINE: Duration = Duration::from_mins(1);

/// The room for all of them, a permit for each byte.
#[derive(Debug)]
pub(super) struct Bodies(Arc<Semaphore>);

/// A whole body in its part of the room.
struct Held {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// Room for so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes_max)))
    }

    /// Reads a request's body. It takes room as it comes, not as it is announced: who announces much and sends nothing
    /// keeps nobody out.
    pub(super) async fn read(&self, request: Request) -> Result<Bytes, ApiError> {
        let length = announced(request.headers());
        if length > BODY_BYTES_MAX {
            return Err(ApiError::too_large(BODY_BYTES_MAX));
        }
        if length > self.0.available_permits() {
            return Err(ApiError::full());
        }
        let read = self.collect(request.into_body(), length);
        timeout(BODY_DEADLINE, read).await.map_err(|_| ApiError::slow(BODY_DEADLINE))?
    }

    async fn collect(&self, body: Body, length: usize) -> Result<Bytes, ApiError> {
        let mut pieces = body.into_data_stream();
        // Memory that is not written to is not taken.
        let (mut bytes, mut room) = (Vec::with_capacity(length), None::<OwnedSemaphorePermit>);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| ApiError::bad("the body did not come whole"))?;
            if bytes.len() + piece.len() > BODY_BYTES_MAX {
                return Err(ApiError::too_large(BODY_BYTES_MAX));
            }
            let size = u32::try_from(piece.len()).map_err(|_| ApiError::full())?;
            let more = Arc::clone(&self.0).try_acquire_many_owned(size).map_err(|_| ApiError::full())?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Bytes::from_owner(Held { bytes, _room: room }))
    }
}

/// How long the body will be, where that is said.
fn announced(headers: &HeaderMap) -> usize {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn request(pieces: &[usize], length: Option<usize>) -> Request {
        let pieces: Vec<_> = pieces.iter().map(|size| Ok::<_, std::io::Error>(vec![b'x'; *size])).collect();
        let request = axum::http::Request::new(Body::from_stream(stream::iter(pieces)));
        let (mut head, body) = request.into_parts();
        head.headers.extend(length.map(|length| (CONTENT_LENGTH, length.into())));
        Request::from_parts(head, body)
    }

    #[tokio::test]
    async fn bodies_share_the_room_and_give_it_back_with_their_last_byte() {
        let bodies = Bodies::new(100);
        let first = bodies.read(request(&[30, 30], None)).await.unwrap();
        assert_eq!((first.len(), bodies.0.available_permits()), (60, 40));
        let part = first.slice(10..20);
        drop(first);
        for (pieces, length) in [(&[20, 21][..], None), (&[41], Some(41))] {
            assert_eq!(bodies.read(request(pieces, length)).await, Err(ApiError::full()));
            assert_eq!(bodies.0.available_permits(), 40, "what did not fit holds nothing");
        }
        let second = bodies.read(request(&[20, 20], Some(40))).await.unwrap();
        assert_eq!((second.len(), bodies.0.available_permits()), (40, 0));
        assert_eq!(bodies.read(request(&[1], None)).await, Err(ApiError::full()));
        assert_eq!(bodies.read(request(&[], Some(0))).await.unwrap(), "");
        drop(part);
        assert_eq!(bodies.0.available_permits(), 60);
        drop(second);
        assert_eq!(bodies.0.available_permits(), 100);
    }

    #[tokio::test]
    async fn one_body_has_a_limit_of_its_own_announced_or_not() {
        let bodies = Bodies::new(2 * BODY_BYTES_MAX);
        for (more, length) in [(1, None), (0, Some(BODY_BYTES_MAX + 1)), (1, Some(7))] {
            let told = bodies.read(request(&[BODY_BYTES_MAX, more], length)).await;
            assert_eq!(told, Err(ApiError::too_large(BODY_BYTES_MAX)), "{more} {length:?}");
        }
        let whole = bodies.read(request(&[BODY_BYTES_MAX], Some(BODY_BYTES_MAX))).await.unwrap();
        assert_eq!(whole.len(), BODY_BYTES_MAX);
    }
}
