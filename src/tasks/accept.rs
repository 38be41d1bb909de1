//! Accepting connections: one loop for every listener of the process.
//!
//! The number of connections is bounded by places, taken before `accept` so that whoever finds none
//! waits in the kernel's queue. A connection that died before it was accepted is nobody's problem;
//! when descriptors run out, the connections that are there go on and the loop pauses rather than
//! spins, and says so once.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::TaskGroup;

const PAUSE: Duration = Duration::from_millis(50);

impl TaskGroup {
    /// Serves each connection in a contained task of this group, until the group is cancelled. How
    /// a connection that is being served ends then is up to `serve`.
    pub async fn accept<F>(
        &self,
        name: &'static str,
        listener: &TcpListener,
        places: &Arc<Semaphore>,
        serve: impl Fn(TcpStream, SocketAddr) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let accepting = async {
            let mut is_failing = false;
            while let Ok(place) = Arc::clone(places).acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        is_failing = false;
                        let serving = serve(stream, from).map(move |()| drop(place));
                        self.spawn_contained(name, serving);
                    }
                    Err(error) if is_of_one_connection(error.kind()) => {}
                    Err(error) => {
                        if !is_failing {
                            tracing::warn!(listener = name, %error, "accept a connection");
                        }
                        is_failing = true;
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = self.cancelled.cancelled() => {}
        }
    }
}

fn is_of_one_connection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn nobody_is_served_without_a_place_and_a_place_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = TaskGroup::new();
        let (group, places) = (tasks.clone(), Arc::new(Semaphore::new(1)));
        let accepting = tasks.spawn("listener", {
            let places = Arc::clone(&places);
            async move {
                let echo = |mut stream: TcpStream, _| async move {
                    let byte = stream.read_u8().await.unwrap();
                    stream.write_u8(byte).await.unwrap();
                };
                group.accept("echo", &listener, &places, echo).await;
            }
        });
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_u8(2).await.unwrap();
        first.write_u8(1).await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), 1);
        assert_eq!(second.read_u8().await.unwrap(), 2);
        tasks.cancel();
        accepting.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
