//! The shop's payments: takes `POST /charge` and says yes.

use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let (status, json) = match (request.method(), request.uri().path()) {
        (_, "/healthz") => (StatusCode::OK, "ok".to_owned()),
        (&Method::POST, "/charge") => {
            let charge = request.into_body().str_contents().await?.to_owned();
            (
                StatusCode::OK,
                format!(r#"{{"paid":true,"receipt":"{:08x}"}}"#, checksum(&charge)),
            )
        }
        _ => (
            StatusCode::NOT_FOUND,
            r#"{"error":"POST /charge"}"#.to_owned(),
        ),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(json.into())?)
}

fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
