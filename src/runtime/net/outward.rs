//! The real socket behind a connection that leads out of the cluster.
//!
//! The task that pumps bytes owns it; the guest's end of the connection knows it weakly, so that options
//! set later reach it, and it is closed when the pump ends and no later.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::error::Error;
use super::options::{Family, Options};

/// The guest's view of the socket, which is there once the connection is.
#[derive(Clone, Default)]
pub(super) struct RealSocket(Arc<OnceLock<(Family, Weak<TcpStream>)>>);

/// The pump's.
pub(super) struct Outward(Arc<TcpStream>);

impl RealSocket {
    /// Connects it.
    pub(super) async fn dial(self, to: SocketAddr, options: Options) -> io::Result<Outward> {
        let socket = match to {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        let family = Family::of(to.ip());
        options.apply(&socket, family, true)?;
        socket.set_nodelay(true)?;
        let stream = Arc::new(socket.connect(to).await?);
        // Nobody else sets it: a connection is made once.
        let _ = self.0.set((family, Arc::downgrade(&stream)));
        Ok(Outward(stream))
    }

    /// Sets options of a connection that is there; one that has ended has none.
    pub(super) fn apply(&self, options: &Options) -> Result<(), Error> {
        let Some((family, stream)) = self.0.get() else {
            return Ok(());
        };
        match stream.upgrade() {
            Some(stream) => options
                .apply(&*stream, *family, true)
                .map_err(|error| Error::from(&io::Error::from(error))),
            None => Ok(()),
        }
    }
}

impl AsyncRead for Outward {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(into.initialize_unfilled()) {
                Ok(length) => {
                    into.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Outward {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write);
        Poll::Ready(ended.map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn options_reach_an_open_connection_and_its_end_is_the_pumps() {
        let listener = TcpListener::bind(Family::V4.wildcard()).await.unwrap();
        let to = SocketAddr::new(Family::V4.loopback(), listener.local_addr().unwrap().port());
        let real = RealSocket::default();
        let mut options = Options::default();
        let mut outward = real.clone().dial(to, options).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        options.set_hop_limit(9).unwrap();
        options.keep_alive = true;
        real.apply(&options).unwrap();
        assert_eq!(outward.0.ttl().unwrap(), 9);
        assert!(rustix::net::sockopt::socket_keepalive(&*outward.0).unwrap());
        // Both directions, each with its end.
        outward.write_all(b"ping").await.unwrap();
        outward.shutdown().await.unwrap();
        let mut read = String::new();
        peer.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "ping");
        peer.write_all(b"pong").await.unwrap();
        drop(peer);
        let mut read = String::new();
        outward.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "pong");
        drop(outward);
        real.apply(&options).unwrap();
    }
}
