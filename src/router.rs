//! The router: how requests reach pods.
//!
//! `table` is the pure centre: Services, EndpointSlices, Nodes and Ingresses go in, one immutable
//! snapshot comes out. The front door of the cluster and every worker route by the same table, and
//! reach pods of other workers through the same `tunnel`.

pub mod dial;
pub mod table;
pub mod tunnel;
