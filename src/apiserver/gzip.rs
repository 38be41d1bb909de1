//! Large answers compressed, for clients that can read it, as kube-apiserver does: objects and lists
//! of at least 128 KiB, at the fastest level, never a watch.
//!
//! The answer is compressed piece by piece while it is sent, so neither a second copy of it nor a
//! long stretch of a thread is needed.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

/// Less is sent as it is.
const THRESHOLD: u64 = 128 << 10;
/// What is compressed before the client is served again.
const PIECE: usize = 64 << 10;

/// Compresses an answer that is worth it. Its body must be there as a whole already.
pub(crate) async fn compress(response: Response, asked: &HeaderMap) -> Response {
    let size = response.body().size_hint().exact();
    let is_worth_it = response.status() == StatusCode::OK
        && size.is_some_and(|size| size >= THRESHOLD)
        && !response.headers().contains_key(header::CONTENT_ENCODING)
        && is_accepted(asked);
    if !is_worth_it {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let whole = match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        // A body of ready bytes does not fail.
        Err(error) => return Response::from_parts(parts, failed(error)),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let gzip = HeaderValue::from_static("gzip");
    parts.headers.insert(header::CONTENT_ENCODING, gzip);
    let vary = HeaderValue::from_static("Accept-Encoding");
    parts.headers.append(header::VARY, vary);
    Response::from_parts(parts, stream(whole))
}

fn failed(error: axum::Error) -> Body {
    Body::from_stream(futures::stream::iter([Err::<Bytes, _>(error)]))
}

/// Whether the client reads gzip; weights other than none are not weighed, for there is nothing
/// else to choose.
fn is_accepted(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let mut offers = values.flat_map(|value| value.split(','));
    offers.any(|offer| {
        let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
        let is_never = weight
            .trim()
            .strip_prefix("q=")
            .is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !is_never
    })
}

fn stream(whole: Bytes) -> Body {
    let encoder = GzEncoder::new(Vec::with_capacity(PIECE), Compression::fast());
    let pieces = futures::stream::try_unfold(Some((encoder, whole)), |state| async move {
        let Some((mut encoder, mut rest)) = state else {
            return Ok::<_, std::io::Error>(None);
        };
        loop {
            let piece = rest.split_to(rest.len().min(PIECE));
            encoder.write_all(&piece)?;
            if rest.is_empty() {
                return Ok(Some((encoder.finish()?, None)));
            }
            let ready = std::mem::take(encoder.get_mut());
            if !ready.is_empty() {
                return Ok(Some((ready, Some((encoder, rest)))));
            }
        }
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn asked(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn gzip_is_named_and_not_forbidden() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(is_accepted(&asked(value)), expected, "{value}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn large_answers_are_compressed_and_others_are_not() {
        let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
        let answer = |bytes: &[u8]| Response::new(Body::from(bytes.to_vec()));
        let small = compress(answer(&large[..100]), &asked("gzip")).await;
        assert!(!small.headers().contains_key(header::CONTENT_ENCODING));
        let unasked = compress(answer(&large), &HeaderMap::new()).await;
        assert!(!unasked.headers().contains_key(header::CONTENT_ENCODING));
        let endless = Response::new(Body::from_stream(futures::stream::pending::<
            Result<Bytes, std::io::Error>,
        >()));
        let endless = compress(endless, &asked("gzip")).await;
        assert!(!endless.headers().contains_key(header::CONTENT_ENCODING));
        let folded = compress(answer(&large), &asked("gzip")).await;
        assert_eq!(folded.headers()[header::CONTENT_ENCODING], "gzip");
        let bytes = folded.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.len() < large.len() / 2);
        let mut unfolded = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&bytes[..]);
        decoder.read_to_end(&mut unfolded).unwrap();
        assert!(unfolded == large);
    }
}
