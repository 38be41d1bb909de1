//! The slowest that an upload may be.
//!
//! An upload has no time limit of its own: a large module over a slow line is no failure. But it holds
//! one of few places, and a byte now and then would hold it for ever. So after a while it must have come
//! at [`SLOWEST`] on the whole; that a sender falls silent is noticed where chunks are awaited.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use tokio::time::Instant;

/// Bytes a second.
const SLOWEST: u64 = 16 << 10;
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
#[error("it comes at less than {SLOWEST} bytes a second")]
struct TooSlow;

/// The body, which breaks when it comes too slowly.
pub(crate) fn paced(body: Body) -> Body {
    let started = Instant::now();
    paced_by(body, move || started.elapsed())
}

fn paced_by(body: Body, mut elapsed: impl FnMut() -> Duration + Send + 'static) -> Body {
    let mut received = 0;
    Body::from_stream(body.into_data_stream().map(move |chunk| {
        let chunk = chunk?;
        received += chunk.len() as u64;
        if is_too_slow(received, elapsed()) {
            return Err(axum::Error::new(TooSlow));
        }
        Ok(chunk)
    }))
}

fn is_too_slow(received: u64, after: Duration) -> bool {
    let counted = after.saturating_sub(GRACE);
    received < counted.as_secs().saturating_mul(SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_average_counts_after_a_while() {
        let after = Duration::from_secs;
        assert!(!is_too_slow(1, after(30)));
        assert!(is_too_slow(2, after(32)));
        assert!(!is_too_slow(10 * SLOWEST, after(40)));
        assert!(is_too_slow(10 * SLOWEST, after(41)));
    }

    #[tokio::test]
    async fn a_byte_now_and_then_is_cut() {
        let drops = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from("x")));
        let mut seconds = 0;
        let passing = move || {
            seconds += 20;
            Duration::from_secs(seconds)
        };
        let mut body = paced_by(Body::from_stream(drops), passing).into_data_stream();
        assert!(body.next().await.unwrap().is_ok());
        let error = body.next().await.unwrap().unwrap_err();
        assert!(
            error.to_string().contains("16384 bytes a second"),
            "{error}"
        );
    }
}
