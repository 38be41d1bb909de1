//! The role `dev`; its composition root is not in this build.

use super::Error;

/// The options of the role.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {}

/// Refuses, in words.
#[expect(
    clippy::unused_async,
    reason = "the signature of the role that will be here"
)]
pub async fn run(_args: Args) -> Result<(), Error> {
    Err(Error::Absent("dev"))
}
