//! Frames of SPDY/3.1 as bytes: what stands in the eight bytes before every frame, and the few
//! frames that a server writes.

use bytes::Bytes;

use super::Error;

/// The bytes before every frame.
pub(super) const HEAD: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const STREAM: u32 = 0x7fff_ffff;

/// The head of a frame; `length` bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Data {
        stream: u32,
        is_last: bool,
        length: usize,
    },
    Control {
        kind: Kind,
        flags: u8,
        length: usize,
    },
}

/// A control frame's type, as far as it matters to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    SynStream,
    SynReply,
    Reset,
    Ping,
    GoAway,
    Headers,
    /// SETTINGS and WINDOW_UPDATE too: nobody who speaks this keeps windows.
    Other,
}

/// Why a stream is ended at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Protocol = 1,
    Refused = 3,
    Cancel = 5,
}

impl Head {
    pub(super) fn parse(head: [u8; HEAD]) -> Result<Self, Error> {
        let [a, b, c, d, flags, x, y, z] = head;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            let is_last = flags & FIN != 0;
            return match stream {
                0 => Err(Error::Malformed("data of the stream 0")),
                _ => Ok(Self::Data {
                    stream,
                    is_last,
                    length,
                }),
            };
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(Error::Malformed("a version that is not 3"));
        }
        let kind = match u16::from_be_bytes([c, d]) {
            1 => Kind::SynStream,
            2 => Kind::SynReply,
            3 => Kind::Reset,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::Headers,
            _ => Kind::Other,
        };
        Ok(Self::Control {
            kind,
            flags,
            length,
        })
    }
}

/// A wish to open a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Syn<'a> {
    pub(super) stream: u32,
    /// Whether the client says no more than this.
    pub(super) is_last: bool,
    /// Whether we may say nothing.
    pub(super) is_unidirectional: bool,
    pub(super) headers: &'a [u8],
}

impl<'a> Syn<'a> {
    pub(super) fn parse(flags: u8, payload: &'a [u8]) -> Result<Self, Error> {
        let stream = stream(payload)?;
        // Then come the associated stream, the priority and the slot, which mean nothing here.
        let headers = payload.get(10..);
        let headers = headers.ok_or(Error::Malformed("a SYN_STREAM that is too short"))?;
        if stream % 2 == 0 {
            return Err(Error::Malformed("a client's stream with an even id"));
        }
        Ok(Self {
            stream,
            is_last: flags & FIN != 0,
            is_unidirectional: flags & UNIDIRECTIONAL != 0,
            headers,
        })
    }
}

/// The stream that a control frame is about.
pub(super) fn stream(payload: &[u8]) -> Result<u32, Error> {
    let id = payload.first_chunk::<4>();
    let id = id.ok_or(Error::Malformed("a control frame that is too short"))?;
    Ok(u32::from_be_bytes(*id) & STREAM)
}

pub(super) fn data(stream: u32, bytes: &[u8], is_last: bool) -> Bytes {
    let mut frame = Vec::with_capacity(HEAD + bytes.len());
    frame.extend_from_slice(&stream.to_be_bytes());
    let flags = if is_last { FIN } else { 0 };
    let length = u32::from(flags) << 24 | bytes.len() as u32;
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    frame.into()
}

/// The answer that a stream is open.
pub(super) fn syn_reply(stream: u32, headers: &[u8]) -> Bytes {
    control(2, &[&stream.to_be_bytes(), headers])
}

pub(super) fn reset(stream: u32, reason: Reason) -> Bytes {
    control(3, &[&stream.to_be_bytes(), &(reason as u32).to_be_bytes()])
}

pub(super) fn ping(id: &[u8]) -> Bytes {
    control(6, &[id])
}

/// The last word before the end: the last stream that was opened, and that the protocol was hurt.
pub(super) fn go_away(last: u32) -> Bytes {
    control(7, &[&last.to_be_bytes(), &1_u32.to_be_bytes()])
}

pub(super) fn control(kind: u16, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: [u8; 8], expected: Option<Head>) {
        assert_eq!(Head::parse(head).ok(), expected, "{head:?}");
    }

    fn control_head(kind: Kind, flags: u8, length: usize) -> Option<Head> {
        Some(Head::Control {
            kind,
            flags,
            length,
        })
    }

    #[test]
    fn heads() {
        let data = |stream, is_last, length| {
            Some(Head::Data {
                stream,
                is_last,
                length,
            })
        };
        check([0, 0, 0, 1, 0, 0, 0, 5], data(1, false, 5));
        check([0, 0, 1, 1, 1, 0, 1, 0], data(257, true, 256));
        check([0, 0, 0, 1, 0, 255, 255, 255], data(1, false, 0xff_ffff));
        check([0, 0, 0, 0, 0, 0, 0, 5], None);
        check(
            [0x80, 3, 0, 1, 3, 0, 0, 9],
            control_head(Kind::SynStream, 3, 9),
        );
        check([0x80, 3, 0, 6, 0, 0, 0, 4], control_head(Kind::Ping, 0, 4));
        check([0x80, 3, 0, 4, 0, 0, 0, 4], control_head(Kind::Other, 0, 4));
        check([0x80, 3, 9, 9, 0, 0, 0, 4], control_head(Kind::Other, 0, 4));
        check([0x80, 2, 0, 1, 0, 0, 0, 9], None);
        check([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], None);
        // What somebody sends who speaks HTTP.
        check(*b"\x80GET / H", None);
    }

    #[test]
    fn a_wish_for_a_stream_is_whole_and_odd() {
        let whole = [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 7];
        let syn = Syn::parse(1, &whole).unwrap();
        assert_eq!((syn.stream, syn.is_last, syn.headers), (3, true, &[7][..]));
        for end in 0..10 {
            assert!(Syn::parse(0, &whole[..end]).is_err(), "{end}");
        }
        assert!(Syn::parse(0, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 7]).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let frame = data(5, b"abc", true);
        let head = Head::parse(*frame.first_chunk().unwrap()).unwrap();
        let expected = Head::Data {
            stream: 5,
            is_last: true,
            length: 3,
        };
        assert_eq!((head, &frame[HEAD..]), (expected, &b"abc"[..]));
        let frame = reset(7, Reason::Refused);
        let head = Head::parse(*frame.first_chunk().unwrap()).unwrap();
        assert_eq!(Some(head), control_head(Kind::Reset, 0, 8));
        assert_eq!(stream(&frame[HEAD..]).unwrap(), 7);
    }
}
