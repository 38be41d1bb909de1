//! The only source of randomness: uids, generated names and secrets.
//!
//! Everything random that the API shows is made here and passed on as a value, so that stores,
//! planners and state machines stay deterministic.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;

/// Kubernetes' alphabet for generated names: no vowels and no look-alikes, so that no word appears
/// by accident (`k8s.io/apimachinery/pkg/util/rand`).
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A new object uid: a random (version 4) UUID in its hyphenated form.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that makes identities"
)]
pub fn uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Five random characters to append to `metadata.generateName`.
pub fn name_suffix() -> String {
    let mut rng = rand::rng();
    (0..5)
        .map(|_| char::from(NAME_ALPHABET[rng.random_range(0..NAME_ALPHABET.len())]))
        .collect()
}

/// A secret of 256 random bits in URL-safe characters.
pub fn secret() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A fraction in `[0, 1)` for jitter.
pub fn jitter() -> f64 {
    rand::rng().random()
}

/// A random index below `len`; `len` must not be zero.
pub fn index(len: usize) -> usize {
    rand::rng().random_range(0..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_use_kubernetes_alphabet() {
        for _ in 0..200 {
            let suffix = name_suffix();
            assert_eq!(suffix.len(), 5);
            assert!(suffix.bytes().all(|byte| NAME_ALPHABET.contains(&byte)));
        }
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(secret(), secret());
        assert_eq!(secret().len(), 43);
    }
}
