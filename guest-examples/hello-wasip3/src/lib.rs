//! The same smallest service for WASI 0.3: `wasi:http/handler@0.3.0`, async from end to end.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;

wasip3::http::service::export!(Hello);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut body, body_reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        drop(trailers);
        let headers = Fields::new();
        let _ = headers.append("content-type", b"text/plain; charset=utf-8");
        let (response, _sent) = Response::new(headers, Some(body_reader), trailers_reader);
        let pod = std::env::var("POD_NAME").unwrap_or_else(|_| "wasm".to_owned());
        wit_bindgen::spawn_local(async move {
            body.write_all(format!("Hello from {pod}, WASI 0.3\n").into_bytes())
                .await;
        });
        Ok(response)
    }
}
