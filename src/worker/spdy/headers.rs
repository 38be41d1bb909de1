//! Header blocks: names and values, compressed with one zlib context per direction.
//!
//! A block that unfolds to more than [`MAX`] bytes ends the session: a few bytes must not cost us
//! megabytes. Every block passes through the context, also of frames that mean nothing, for the
//! next block refers to it.

use flate2::{Decompress, FlushDecompress};

use super::Error;
use super::dictionary::{CHECKSUM, DICTIONARY};

/// The most that a block may hold; Kubernetes' clients send a hundred bytes.
pub(super) const MAX: usize = 16 << 10;

/// Names in lower case, and their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// A header's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(key, _)| key == name);
        named.next().map(|(_, value)| value.as_str())
    }

    fn parse(block: &[u8]) -> Result<Self, Error> {
        let mut rest = block;
        // A count that lies runs out of bytes; nothing is reserved for it.
        let count = number(&mut rest)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = text(&mut rest)?.to_ascii_lowercase();
            headers.push((name, text(&mut rest)?));
        }
        Ok(Self(headers))
    }
}

fn number(rest: &mut &[u8]) -> Result<usize, Error> {
    let (number, after) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = after;
    Ok(u32::from_be_bytes(*number) as usize)
}

fn text(rest: &mut &[u8]) -> Result<String, Error> {
    let length = number(rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or(SHORT)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Malformed("a header that is not UTF-8"))
}

const SHORT: Error = Error::Malformed("a header block that ends too early");
const BROKEN: Error = Error::Malformed("a header block that is not compressed");

/// Reads the client's blocks.
pub(super) struct Inflater {
    context: Decompress,
    unfolded: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            context: Decompress::new(true),
            unfolded: vec![0; MAX + 1],
        }
    }

    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let mut rest = block;
        let mut filled = 0;
        loop {
            let (read, written) = (self.context.total_in(), self.context.total_out());
            let room = &mut self.unfolded[filled..];
            let flush = FlushDecompress::Sync;
            let wants_dictionary = match self.context.decompress(rest, room, flush) {
                Ok(_) => false,
                Err(error) if error.needs_dictionary().is_some() => true,
                Err(_) => return Err(BROKEN),
            };
            let taken = (self.context.total_in() - read) as usize;
            let made = (self.context.total_out() - written) as usize;
            rest = rest.get(taken..).unwrap_or_default();
            filled += made;
            if wants_dictionary {
                let set = self.context.set_dictionary(&DICTIONARY);
                set.map_err(|_| Error::Malformed("a foreign dictionary"))?;
            } else if filled > MAX {
                return Err(Error::TooLarge("a header block"));
            } else if rest.is_empty() {
                // Room was left, so nothing is held back.
                return Headers::parse(&self.unfolded[..filled]);
            } else if taken == 0 && made == 0 {
                return Err(BROKEN);
            }
        }
    }
}

/// Writes our blocks, which are all empty: stored rather than compressed, for a context that could do
/// more would cost every session a quarter of a megabyte.
#[derive(Default)]
pub(super) struct Replies {
    is_begun: bool,
}

impl Replies {
    pub(super) fn empty(&mut self) -> Vec<u8> {
        // A stored block, not the last, of four bytes: the count of headers.
        const BLOCK: [u8; 9] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0];
        // An empty one, before which Go's decompressor hands nothing on.
        const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];
        let mut bytes = Vec::with_capacity(20);
        if !self.is_begun {
            self.is_begun = true;
            // Deflate with a window of 32 KiB and a dictionary, which its checksum names.
            bytes.extend_from_slice(&[0x78, 0x20]);
            bytes.extend_from_slice(&CHECKSUM.to_be_bytes());
        }
        bytes.extend_from_slice(&BLOCK);
        bytes.extend_from_slice(&FLUSH);
        bytes
    }
}

/// Writes blocks as a client does.
#[cfg(test)]
pub(super) struct Deflater(flate2::Compress);

#[cfg(test)]
impl Deflater {
    pub(super) fn new() -> Self {
        let mut context = flate2::Compress::new(flate2::Compression::fast(), true);
        context.set_dictionary(&DICTIONARY).unwrap();
        Self(context)
    }

    pub(super) fn raw(&mut self, block: &[u8]) -> Vec<u8> {
        let mut folded = Vec::with_capacity(64 + 2 * block.len());
        let flush = flate2::FlushCompress::Sync;
        self.0.compress_vec(block, &mut folded, flush).unwrap();
        folded
    }

    pub(super) fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        self.raw(&block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_in_one_context() {
        let mut folding = Deflater::new();
        let mut unfolding = Inflater::new();
        for port in ["1", "65535"] {
            let block = folding.block(&[("StreamType", "data"), ("port", port)]);
            let headers = unfolding.read(&block).unwrap();
            assert_eq!(headers.get("streamtype"), Some("data"));
            assert_eq!(headers.get("port"), Some(port));
            assert_eq!(headers.get("host"), None);
        }
    }

    #[test]
    fn replies_are_empty_blocks_of_one_context() {
        let (mut replies, mut unfolding) = (Replies::default(), Inflater::new());
        for _ in 0..3 {
            let headers = unfolding.read(&replies.empty()).unwrap();
            assert_eq!(headers, Headers::default());
        }
    }

    #[test]
    fn a_bomb_is_not_unfolded() {
        let bomb = Deflater::new().raw(&vec![0; 8 << 20]);
        let unfolded = Inflater::new().read(&bomb);
        assert!(matches!(unfolded, Err(Error::TooLarge(_))));
        let whole = Deflater::new().block(&[("a", &"x".repeat(MAX))]);
        assert!(Inflater::new().read(&whole).is_err());
        let fits = Deflater::new();
        let fits = { fits }.block(&[("a", &"x".repeat(MAX - 13))]);
        assert!(Inflater::new().read(&fits).is_ok());
    }

    #[test]
    fn counts_and_lengths_that_lie_are_found() {
        let lie = |block: &[u8]| {
            let block = Deflater::new().raw(block);
            Inflater::new().read(&block).is_err()
        };
        assert!(lie(&[]));
        assert!(lie(&[0, 0]));
        assert!(lie(&[255, 255, 255, 255]));
        assert!(lie(&[0, 0, 0, 1, 255, 255, 255, 255, b'a']));
        assert!(lie(&[0, 0, 0, 1, 0, 0, 0, 1, b'a']));
        assert!(lie(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]));
    }

    #[test]
    fn garbage_and_other_dictionaries_are_refused() {
        assert!(Inflater::new().read(b"").is_err());
        assert!(Inflater::new().read(b"GET / HTTP/1.1").is_err());
        let mut foreign = flate2::Compress::new(flate2::Compression::fast(), true);
        foreign.set_dictionary(b"another").unwrap();
        let mut block = Vec::with_capacity(64);
        let flush = flate2::FlushCompress::Sync;
        foreign.compress_vec(&[0; 4], &mut block, flush).unwrap();
        assert!(Inflater::new().read(&block).is_err());
    }
}
