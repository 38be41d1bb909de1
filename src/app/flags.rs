//! Values of flags as people write them: times, sizes, cores.
//!
//! One reading for all commands, so that what `wasmorch server` takes `wasmorch wait` takes, too.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::quantity;

pub use crate::api::duration::parse as duration;

/// `256Mi`, `1Gi`, `1000000`: bytes, at least one.
pub fn size(text: &str) -> Result<u64, String> {
    let bytes = quantity::units(&Quantity(text.to_owned()));
    positive(text, bytes.ok(), "a size (256Mi, 4Gi)")
}

/// `2`, `500m`: thousandths of a core, at least one.
pub fn cores(text: &str) -> Result<u64, String> {
    let millis = quantity::millis(&Quantity(text.to_owned()));
    positive(text, millis.ok(), "a number of cores (2, 500m)")
}

fn positive(text: &str, value: Option<i128>, what: &str) -> Result<u64, String> {
    value
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| *value > 0)
        .ok_or_else(|| format!("`{text}` is not {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_cores_are_quantities_above_zero() {
        assert_eq!(size("256Mi"), Ok(256 << 20));
        assert_eq!(size("12"), Ok(12));
        assert_eq!(cores("500m"), Ok(500));
        for wrong in ["", "Mi", "0", "-1", "5MB", "99999999999Gi"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(cores("x").is_err());
    }
}
