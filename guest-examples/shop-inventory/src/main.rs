//! The shop's inventory: how many of an item are left. `/stock/<sku>`.

use wstd::http::{Body, Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path();
    let (status, json) = match path.strip_prefix("/stock/") {
        Some(sku) if !sku.is_empty() => (
            StatusCode::OK,
            format!(r#"{{"sku":"{sku}","stock":{}}}"#, stock(sku)),
        ),
        _ if path == "/healthz" => (StatusCode::OK, "ok".to_owned()),
        _ => (
            StatusCode::NOT_FOUND,
            r#"{"error":"ask for /stock/<sku>"}"#.to_owned(),
        ),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(json.into())?)
}

/// Every item has its own number, always the same: there is no database in this shop.
fn stock(sku: &str) -> u32 {
    sku.bytes()
        .fold(7_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 97)
        + 3
}
