//! The shop's orders: `POST /orders/<sku>` asks the inventory, then the payments, by their service
//! names, and answers with the order.

use wstd::http::{Body, Client, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.strip_prefix("/orders/")) {
        (&Method::POST, Some(sku)) if !sku.is_empty() => order(sku).await,
        _ if path == "/healthz" => respond(StatusCode::OK, "ok".to_owned()),
        _ => respond(
            StatusCode::NOT_FOUND,
            r#"{"error":"POST /orders/<sku>"}"#.to_owned(),
        ),
    }
}

async fn order(sku: &str) -> Result<Response<Body>, Error> {
    let (status, stock) = call(
        Method::GET,
        &format!("http://inventory/stock/{sku}"),
        String::new(),
    )
    .await?;
    if status != StatusCode::OK {
        return respond(
            StatusCode::BAD_GATEWAY,
            format!(r#"{{"error":"inventory answered {status}"}}"#),
        );
    }
    let (status, payment) = call(
        Method::POST,
        "http://payments/charge",
        format!(r#"{{"sku":"{sku}"}}"#),
    )
    .await?;
    if status != StatusCode::OK {
        return respond(
            StatusCode::BAD_GATEWAY,
            format!(r#"{{"error":"payments answered {status}"}}"#),
        );
    }
    respond(
        StatusCode::CREATED,
        format!(r#"{{"order":"{sku}","inventory":{stock},"payment":{payment}}}"#),
    )
}

async fn call(method: Method, url: &str, body: String) -> Result<(StatusCode, String), Error> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .body(Body::from(body))?;
    let response = Client::new().send(request).await?;
    let status = response.status();
    Ok((
        status,
        response.into_body().str_contents().await?.to_owned(),
    ))
}

fn respond(status: StatusCode, json: String) -> Result<Response<Body>, Error> {
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(json.into())?)
}
