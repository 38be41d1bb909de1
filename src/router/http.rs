//! The HTTP proxy: one request at a time on the task of its connection.
//!
//! A request is routed, its head is rewritten, and it is sent to an endpoint over a kept
//! connection; bodies stream both ways. What fails before anything was sent is tried on another
//! endpoint, always. What fails after that, before the first byte of an answer, is tried again only
//! if it is idempotent, and only as long as retries stay a fraction of all requests, so that a dying
//! service is not drowned by its own clients. A worker may also say that no guest has seen a
//! request; then its method does not matter. The beginning of a body is remembered for that
//! (`crate::replay`); a request whose body has become longer is sent once.

mod attempt;
mod body;
mod head;
mod reply;
mod site;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use self::attempt::Plan;
pub(super) use self::body::{Answer, Sent};
pub(super) use self::site::Site;
use super::lane::Lane;
use super::upgrade;

/// What a connection knows about its client.
pub(super) struct Client {
    pub(super) site: Site,
    pub(super) addr: std::net::SocketAddr,
    /// The address in the form of a header's value.
    pub(super) forwarded_for: HeaderValue,
}

/// Answers one request; whatever goes wrong is an answer, too.
pub(super) async fn serve(
    lane: &Arc<Lane>,
    client: &Client,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let began = Instant::now();
    if let Err(refusal) = head::check(&request) {
        return Ok(refusal.response());
    }
    let target = match client.site.target(&lane.front.table(), &request) {
        Ok(target) => target,
        Err(refusal) => return Ok(refusal.response()),
    };
    let upgrade = upgrade::Wanted::of(&mut request);
    head::rewrite(&mut request, client, upgrade.as_ref());
    let traffic = Arc::clone(&target.service.traffic);
    let _under_way = traffic.began();
    let plan = Plan::new(lane, client, target.clone());
    let answer = match plan.run(request, upgrade).await {
        Ok(answer) => answer,
        Err(failure) => failure.reply(&target).response(),
    };
    traffic.answered(answer.status().as_u16(), began.elapsed());
    Ok(answer)
}
