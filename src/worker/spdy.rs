//! SPDY/3.1, the server's side: what kubectl's `exec`, `attach`, `cp` and `port-forward` speak.
//!
//! A session is many streams over one connection, all opened by the client. There is no flow
//! control: Kubernetes' clients never send WINDOW_UPDATE, so whoever waits for one waits for ever.
//! Back-pressure is the connection's own, and everything a client can send is bounded: streams open
//! at once ([`MAX_STREAMS`]), a control frame and a header block unfolded (16 KiB each), bytes that
//! nobody has read yet ([`MAX_UNREAD`] for all streams), and the time that a stream may stand in
//! the way of others. Whoever breaks the protocol hears GOAWAY and is cut off.
//!
//! Absent: streams opened by the server, priorities, credentials.

mod dictionary;
mod frame;
mod headers;
mod session;
mod stream;

pub use headers::Headers;
pub use session::{MAX_STREAMS, MAX_UNREAD, run};
pub use stream::{Reader, Stream, Writer};

/// Why a session ended before the client did.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read or write a SPDY session")]
    Io(#[from] std::io::Error),
    #[error("not SPDY/3.1: {0}")]
    Malformed(&'static str),
    #[error("{0} is too large")]
    TooLarge(&'static str),
    #[error("too many bytes wait for programs that do not read")]
    Unread,
}
