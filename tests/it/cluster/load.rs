//! Steady load through the front door, and an account of every request that failed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;

use super::until;

/// Clients that each send as fast as they are answered, at most every 2 ms.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

struct Shared {
    method: Method,
    url: String,
    host: String,
    stop: AtomicBool,
    served: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// GET `/` of a host name.
    pub(crate) fn start(ingress: SocketAddr, host: &str, connections: usize) -> Self {
        Self::of(Method::GET, ingress, (host, "/"), connections)
    }

    pub(crate) fn of(
        method: Method,
        ingress: SocketAddr,
        (host, path): (&str, &str),
        connections: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            method,
            url: format!("http://{ingress}{path}"),
            host: host.to_owned(),
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let clients = (0..connections).map(|_| {
            let shared = Arc::clone(&shared);
            #[expect(clippy::disallowed_methods, reason = "the test owns the handle")]
            tokio::spawn(async move { shared.run().await })
        });
        Self {
            clients: clients.collect(),
            shared,
        }
    }

    /// Waits until so many more requests have been served.
    pub(crate) async fn serve(&self, more: u64) {
        let served = || self.shared.served.load(Ordering::Relaxed);
        let wanted = served() + more;
        until("requests to be served", async || {
            (served() >= wanted).then_some(())
        })
        .await;
    }

    /// Stops; gives how many were served, and what failed.
    pub(crate) async fn stop(self) -> (u64, Vec<String>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        (self.shared.served.load(Ordering::Relaxed), failures)
    }

    /// Stops, and fails if any request did; gives how many were served.
    pub(crate) async fn stop_without_failures(self) -> u64 {
        let (served, failures) = self.stop().await;
        assert!(
            failures.is_empty(),
            "{} of {served} requests failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        served
    }
}

impl Shared {
    async fn run(&self) {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10));
        let client = client.build().unwrap();
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            match self.ask(&client).await {
                Ok(()) => drop(self.served.fetch_add(1, Ordering::Relaxed)),
                Err(failure) => self.failures.lock().unwrap().push(failure),
            }
        }
    }

    async fn ask(&self, client: &reqwest::Client) -> Result<(), String> {
        let mut request = client.request(self.method.clone(), &self.url);
        if self.method == Method::POST {
            request = request.body("an order");
        }
        let sent = request.header("host", &self.host).send().await;
        let answer = sent.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("{status} {text}"))
        }
    }
}
