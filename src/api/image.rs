//! What a container's `image:` may say: the name of a module, with a tag, a digest or both.
//!
//! `hello`, `hello:v2`, `hello@sha256:<64 hex>`, `hello:v2@sha256:<64 hex>`. A name is a DNS label
//! of the pod's own namespace; a bare name means the tag `latest`. Admission pins an image that
//! resolves (`hello:v2` becomes `hello:v2@sha256:…`), so that a moved tag never changes a running
//! pod.

use std::fmt;
use std::str::FromStr;

/// The SHA-256 of a module's bytes, written `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_sha256(&sha2::Sha256::digest(bytes))
    }

    /// Wraps the 32 raw bytes of a finished hash.
    pub fn from_sha256(hash: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::from("sha256:");
        for byte in hash {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits alone: a safe file name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let hex = text
            .strip_prefix("sha256:")
            .ok_or_else(|| Error::Digest(text.to_owned()))?;
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() == 64 && hex.bytes().all(is_lower_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Digest(text.to_owned()))
        }
    }
}

/// A parsed `image:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// The module's name.
    pub name: String,
    /// The tag, if one was written.
    pub tag: Option<String>,
    /// The digest, if one was written; it wins over the tag.
    pub digest: Option<Digest>,
}

impl ImageRef {
    /// The tag to look up when there is no digest.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// The same image, pinned.
    pub fn pinned(self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Why an image reference is refused; the text tells the user what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("must name a module: `name`, `name:tag` or `name@sha256:<64 hex digits>`")]
    Empty,
    #[error(
        "`{0}` names a registry or a path; wasmorch runs modules that were pushed to it (`wasmorch push {1} app.wasm`), not container images"
    )]
    Foreign(String, String),
    #[error("`{0}` is not a module name: lower-case letters, digits and `-`, at most 63")]
    Name(String),
    #[error("`{0}` is not a tag: letters, digits, `_`, `.` and `-`, at most 128")]
    Tag(String),
    #[error("`{0}` is not a digest: `sha256:` and 64 lower-case hex digits")]
    Digest(String),
}

impl FromStr for ImageRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        if rest.is_empty() {
            return Err(Error::Empty);
        }
        if let Some((_, last)) = rest.rsplit_once('/') {
            let short = last.split(':').next().unwrap_or(last);
            return Err(Error::Foreign(text.to_owned(), short.to_owned()));
        }
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        if !super::names::is_dns_label(name) {
            return Err(Error::Name(name.to_owned()));
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        Ok(Self {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// Checks a tag by the rule of the OCI distribution specification: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
pub fn check_tag(tag: &str) -> Result<(), Error> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || byte == b'.' || byte == b'-');
    if valid {
        Ok(())
    } else {
        Err(Error::Tag(tag.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_form_parses_and_prints_back() {
        for text in [
            "hello",
            "hello:v2",
            &format!("hello@{HASH}"),
            &format!("hello:v2@{HASH}"),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
        assert_eq!(
            "hello".parse::<ImageRef>().unwrap().tag_or_latest(),
            "latest"
        );
        assert_eq!(Digest::of(b"").as_str(), HASH);
    }

    #[test]
    fn wrong_forms_say_what_is_wrong() {
        let refused = |text: &str| text.parse::<ImageRef>().unwrap_err();
        assert_eq!(refused(""), Error::Empty);
        assert!(
            matches!(refused("docker.io/library/nginx:1"), Error::Foreign(_, short) if short == "nginx")
        );
        assert!(matches!(refused("Hello"), Error::Name(_)));
        assert!(matches!(refused("hello:"), Error::Tag(_)));
        assert!(matches!(refused("hello@sha256:12"), Error::Digest(_)));
        assert!(matches!(refused("hello@md5:12"), Error::Digest(_)));
    }
}
