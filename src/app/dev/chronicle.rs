//! What happens to the children: told on the terminal and kept in `dev.json`.
//!
//! It listens from the first start on, also while the cluster comes up: a child that dies early is
//! told like any other, and a report never waits for whoever brings the cluster up.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};

use super::banner;
use super::child::Report;
use super::layout::{Layout, Ports};

/// The process ids by child; 0 while there is none.
pub type Pids = BTreeMap<String, u32>;

/// See the module.
pub struct Chronicle<'a> {
    pub layout: &'a Layout,
    pub ports: &'a Ports,
    pub pids: watch::Sender<Pids>,
}

impl Chronicle<'_> {
    /// Tells and keeps what is reported, for ever.
    pub async fn keep(&self, mut reports: mpsc::Receiver<Report>) -> anyhow::Result<()> {
        while let Some(report) = reports.recv().await {
            banner::report(&report);
            let (name, pid) = match report {
                Report::Started { name, pid, .. } => (name, pid),
                Report::Exited { name, .. } | Report::Failed { name, .. } => (name, 0),
            };
            self.pids.send_modify(|pids| {
                pids.insert(name, pid);
            });
            self.write()?;
        }
        Ok(())
    }

    /// `dev.json`: addresses and process ids, for scripts and tests.
    fn write(&self) -> anyhow::Result<()> {
        let state = serde_json::json!({
            "http": format!("http://{}", self.ports.http),
            "https": format!("https://{}", self.ports.https),
            "ingress": format!("http://{}", self.ports.ingress),
            "kubeconfig": self.layout.kubeconfig(),
            "pid": std::process::id(),
            "processes": *self.pids.borrow(),
        });
        self.layout.write_state(&state)
    }
}
