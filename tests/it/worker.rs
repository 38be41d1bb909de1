//! Workers in this process against a real control plane in this process: real modules, real HTTP,
//! a join token, and everything seen through the API as a user sees it.

mod burst;
mod commands;
mod file_guest;
mod harness;
mod images;
mod kube_rs;
mod lifecycles;
mod limits;
mod pods;
mod remote;
mod restarts;
mod storage;
mod streams;
mod volumes;
mod wire;
