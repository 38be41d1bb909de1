//! The shop's catalog: what can be bought. Stateless, asks nobody.

use wstd::http::{Body, Error, Request, Response, StatusCode};

const ITEMS: [(&str, &str, u32); 4] = [
    ("w-1", "Walnut", 250),
    ("w-2", "Wheel", 4900),
    ("w-3", "Window", 19900),
    ("w-4", "Whistle", 700),
];

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    match request.uri().path() {
        "/healthz" => respond(StatusCode::OK, "ok".to_owned()),
        "/" | "/catalog" => {
            let items: Vec<String> = ITEMS.iter().map(item).collect();
            respond(StatusCode::OK, format!("[{}]", items.join(",")))
        }
        path => match ITEMS
            .iter()
            .find(|(sku, ..)| path.strip_prefix("/catalog/") == Some(sku))
        {
            Some(found) => respond(StatusCode::OK, item(found)),
            None => respond(
                StatusCode::NOT_FOUND,
                r#"{"error":"no such item"}"#.to_owned(),
            ),
        },
    }
}

fn item((sku, name, cents): &(&str, &str, u32)) -> String {
    format!(r#"{{"sku":"{sku}","name":"{name}","cents":{cents}}}"#)
}

fn respond(status: StatusCode, json: String) -> Result<Response<Body>, Error> {
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(json.into())?)
}
