//! Values of flags as people write them: times, sizes, cores.
//!
//! One reading for all commands, so that what `wasmorch server` takes `wasmorch wait` takes, too.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::quantity;

/// `500ms`, `30s`, `5m`, `1h30m`, `2d`; a number alone is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time (500ms, 30s, 5m, 1h30m)");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, after) = split(rest, |it| !it.is_ascii_digit());
        let (unit, after) = split(after, |it| it.is_ascii_digit());
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "" if digits == text => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        total = number
            .checked_mul(milliseconds)
            .and_then(|part| total.checked_add(Duration::from_millis(part)))
            .ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

fn split(text: &str, at: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(at).unwrap_or(text.len()))
}

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
    fn times_read_as_people_write_them() {
        for (text, millis) in [
            ("90", 90_000),
            ("0", 0),
            ("1500ms", 1500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            "soon",
            "5x",
            "m",
            "-1s",
            "1h30",
            "99999999999999999999",
            "9999999999999999999d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

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
