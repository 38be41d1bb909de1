//! The shop's customer: light load on the gateway for ever, and a line about it every ten seconds.
//!
//! `SHOP` (default `http://gateway`) says where, `RATE` (default 20) how many requests a second.

use wstd::http::{Body, Client, Method, Request};
use wstd::time::{Duration, Instant};

#[wstd::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shop = std::env::var("SHOP").unwrap_or_else(|_| "http://gateway".to_owned());
    let rate: u32 = std::env::var("RATE")
        .ok()
        .and_then(|rate| rate.parse().ok())
        .unwrap_or(20)
        .clamp(1, 1000);
    let pause = Duration::from_micros(1_000_000 / u64::from(rate));
    let (mut served, mut failed, mut since) = (0_u32, 0_u32, Instant::now());
    for turn in 0_u64.. {
        let visit = match turn % 4 {
            0 => {
                visit(
                    Method::POST,
                    format!("{shop}/orders/w-{}", turn % 16 / 4 + 1),
                )
                .await
            }
            1 => visit(Method::GET, format!("{shop}/catalog/w-1")).await,
            _ => visit(Method::GET, format!("{shop}/catalog")).await,
        };
        match visit {
            Ok(true) => served += 1,
            Ok(false) | Err(_) => failed += 1,
        }
        if Instant::now().duration_since(since) >= Duration::from_secs(10) {
            println!("{served} served, {failed} failed");
            (served, failed, since) = (0, 0, Instant::now());
        }
        wstd::task::sleep(pause).await;
    }
    Ok(())
}

async fn visit(method: Method, url: String) -> Result<bool, Box<dyn std::error::Error>> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .body(Body::empty())?;
    let response = Client::new().send(request).await?;
    let good = response.status().is_success();
    response.into_body().contents().await?;
    Ok(good)
}
