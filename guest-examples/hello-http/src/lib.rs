//! The smallest useful service: an HTTP handler (`wasi:http/incoming-handler@0.2`) that says who it is.
//!
//! The answer names the pod and the node from the downward API, and `MESSAGE` from the environment,
//! so that a rolling update can be watched from outside. `/slow?ms=N` answers after N milliseconds,
//! `/trap` ends in a trap, `/env` shows the environment, `/echo` returns the body it was sent.

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

struct Hello;

wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/trap" => unreachable!("asked to trap"),
            "/slow" => {
                let ms: u64 = query
                    .strip_prefix("ms=")
                    .and_then(|ms| ms.parse().ok())
                    .unwrap_or(100);
                monotonic_clock::subscribe_duration(ms * 1_000_000).block();
                answer(out, 200, b"slow\n");
            }
            "/env" => {
                let lines: String = std::env::vars()
                    .map(|(name, value)| format!("{name}={value}\n"))
                    .collect();
                answer(out, 200, lines.as_bytes());
            }
            "/echo" => answer(out, 200, &read(request)),
            "/healthz" => answer(out, 200, b"ok\n"),
            "/fail" => answer(out, 500, b"asked to fail\n"),
            _ => answer(out, 200, greeting().as_bytes()),
        }
    }
}

fn greeting() -> String {
    let var = |name: &str, or: &str| std::env::var(name).unwrap_or_else(|_| or.to_owned());
    format!(
        "{} from {} on {}\n",
        var("MESSAGE", "Hello"),
        var("POD_NAME", "wasm"),
        var("NODE_NAME", "somewhere")
    )
}

fn answer(out: ResponseOutparam, status: u16, body: &[u8]) {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let outgoing = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = outgoing.write().expect("the stream is taken once");
    for chunk in body.chunks(4096) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}

fn read(request: IncomingRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(body) = request.consume() else {
        return bytes;
    };
    if let Ok(stream) = body.stream() {
        loop {
            match stream.blocking_read(64 * 1024) {
                Ok(chunk) => bytes.extend(chunk),
                Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => break,
            }
        }
    }
    IncomingBody::finish(body);
    bytes
}
