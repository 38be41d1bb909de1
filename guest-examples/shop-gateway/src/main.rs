//! The shop's front: passes `/catalog…` and `/orders/…` on to the services behind it, by name.

use wstd::http::{Body, Client, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    match path.split('/').nth(1) {
        Some("healthz") => respond(StatusCode::OK, "ok".to_owned()),
        Some("catalog") => pass(method, &format!("http://catalog{path}")).await,
        Some("orders") => pass(method, &format!("http://orders{path}")).await,
        Some("") => respond(
            StatusCode::OK,
            r#"{"shop":"open","try":["/catalog","POST /orders/w-1"]}"#.to_owned(),
        ),
        _ => respond(
            StatusCode::NOT_FOUND,
            r#"{"error":"try /catalog"}"#.to_owned(),
        ),
    }
}

async fn pass(method: Method, url: &str) -> Result<Response<Body>, Error> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .body(Body::empty())?;
    let response = Client::new().send(request).await?;
    let status = response.status();
    let body = response.into_body().str_contents().await?.to_owned();
    respond(status, body)
}

fn respond(status: StatusCode, json: String) -> Result<Response<Body>, Error> {
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(json.into())?)
}
