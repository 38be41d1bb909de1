//! Trailers, of what a guest sends and of what it is answered.

use super::*;

#[tokio::test]
async fn trailers_of_a_guests_request_and_of_its_answer_pass() {
    let bench = bench();
    let trailers = http::HeaderMap::from_iter([(
        HeaderName::from_static("x-sum"),
        http::HeaderValue::from_static("7"),
    )]);
    let frames = [
        hyper::body::Frame::data(Bytes::from_static(b"order")),
        hyper::body::Frame::trailers(trailers),
    ];
    let body = http_body_util::StreamBody::new(futures::stream::iter(frames.map(Ok)));
    let request = http::Request::post("http://shop/echo")
        .header("te", "trailers")
        .header("trailer", "x-sum")
        .body(body.boxed_unsync());
    let options = RequestOptions::default();
    let response = bench
        .client
        .send(request.unwrap(), options, 1)
        .await
        .unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
    assert_eq!(collected.to_bytes(), "order");
}
