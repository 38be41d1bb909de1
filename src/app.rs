//! The composition roots: one role of the binary each, `Config → build → run → drain`.
//!
//! A role is plain data (`…Args`, read by the command line), built into something that holds bound
//! sockets and loaded state, and run until its task group is cancelled. Nothing below imports this
//! module; everything that must be wired together is wired here, in reading order.

pub mod config;
pub mod server;

use clap::Subcommand;

pub use config::ServerArgs;

/// The long-running roles; the command line flattens them beside its own commands.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Run the control plane: API server, store, scheduler, controllers, dashboard
    Server(ServerArgs),
}
