//! Kubernetes quantities: `250m`, `64Mi`, `1.5`, `1e3` (`k8s.io/apimachinery/pkg/api/resource`).
//!
//! A quantity is read as an exact number of billionths in an `i128`, rounded up as Kubernetes
//! does, so that sums never drift. Users' spelling is kept where an object is stored; the canonical
//! spelling is for what wasmorch itself reports.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;

/// Why a quantity is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct Error;

/// Parses to billionths.
pub fn parse_nano(text: &str) -> Result<i128, Error> {
    let (number, suffix) = split(text)?;
    let (digits, decimals) = decimal(number)?;
    let scaled = scale(digits, suffix)?;
    let divisor = 10_i128.checked_pow(decimals).ok_or(Error)?;
    Ok(scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) != 0))
}

/// Whole units, rounded up: bytes, pods.
pub fn units(quantity: &Quantity) -> Result<i128, Error> {
    let nano = parse_nano(&quantity.0)?;
    Ok(nano.div_euclid(NANO) + i128::from(nano.rem_euclid(NANO) != 0))
}

/// Thousandths, rounded up: millicores.
pub fn millis(quantity: &Quantity) -> Result<i128, Error> {
    let nano = parse_nano(&quantity.0)?;
    Ok(nano.div_euclid(NANO / 1000) + i128::from(nano.rem_euclid(NANO / 1000) != 0))
}

/// [`units`] of a quantity that has passed validation; a negative or unreadable one counts as zero.
pub fn units_or_zero(quantity: &Quantity) -> u64 {
    units(quantity)
        .ok()
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

/// [`millis`] of a quantity that has passed validation; a negative or unreadable one counts as zero.
pub fn millis_or_zero(quantity: &Quantity) -> u64 {
    millis(quantity)
        .ok()
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

/// Bytes in the largest binary unit that divides them: `67108864` is `64Mi`.
pub fn from_bytes(bytes: u64) -> Quantity {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let mut value = bytes;
    let mut unit = 0;
    while value != 0 && value.is_multiple_of(1024) && unit + 1 < units.len() {
        value /= 1024;
        unit += 1;
    }
    Quantity(format!("{value}{}", units[unit]))
}

/// Bytes as people read them: `17 B`, `1.9 MiB`, `212 MiB`; rounded down.
pub fn readable_bytes(bytes: u64) -> String {
    let scaled = |unit: u64, name: &str| {
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        if tenths < 100 && !tenths.is_multiple_of(10) {
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        } else {
            format!("{} {name}", tenths / 10)
        }
    };
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => scaled(1 << 10, "KiB"),
        1_048_576..1_073_741_824 => scaled(1 << 20, "MiB"),
        _ => scaled(1 << 30, "GiB"),
    }
}

/// Cores: `2000` is `2`, `250` is `250m`.
pub fn from_millis(millis: u64) -> Quantity {
    if millis.is_multiple_of(1000) {
        Quantity((millis / 1000).to_string())
    } else {
        Quantity(format!("{millis}m"))
    }
}

/// Billionths in Kubernetes' canonical spelling: the largest unit that leaves no fraction, of powers
/// of 1024 where `is_binary`, else of 1000: `128Mi`, `1500m`, `2`.
pub fn canonical(nano: i128, is_binary: bool) -> Quantity {
    if is_binary && nano % NANO == 0 {
        let (mut value, mut unit) = (nano / NANO, 0);
        let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        while value != 0 && value % 1024 == 0 && unit + 1 < units.len() {
            value /= 1024;
            unit += 1;
        }
        return Quantity(format!("{value}{}", units[unit]));
    }
    let units = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let (mut value, mut unit) = (nano, 0);
    while value != 0 && value % 1000 == 0 && unit + 1 < units.len() {
        value /= 1000;
        unit += 1;
    }
    let unit = if value == 0 { "" } else { units[unit] };
    Quantity(format!("{value}{unit}"))
}

fn split(text: &str) -> Result<(&str, &str), Error> {
    let end = text
        .char_indices()
        .position(|(index, c)| {
            !(c.is_ascii_digit() || c == '.' || (index == 0 && (c == '+' || c == '-')))
        })
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    if number.bytes().any(|byte| byte.is_ascii_digit()) {
        Ok((number, suffix))
    } else {
        Err(Error)
    }
}

/// The digits as an integer, and how many of them stood after the point.
fn decimal(number: &str) -> Result<(i128, u32), Error> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.len() > 30 || fraction.contains('.') {
        return Err(Error);
    }
    let digits = format!("{whole}{fraction}").parse().map_err(|_| Error)?;
    Ok((digits, fraction.len() as u32))
}

fn scale(digits: i128, suffix: &str) -> Result<i128, Error> {
    let factor: i128 = match suffix {
        "" => NANO,
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "k" => NANO * 1_000,
        "M" => NANO * 1_000_000,
        "G" => NANO * 1_000_000_000,
        "T" => NANO * 1_000_000_000_000,
        "P" => NANO * 1_000_000_000_000_000,
        "E" => NANO * 1_000_000_000_000_000_000,
        "Ki" => NANO << 10,
        "Mi" => NANO << 20,
        "Gi" => NANO << 30,
        "Ti" => NANO << 40,
        "Pi" => NANO << 50,
        "Ei" => NANO << 60,
        _ => return exponent(digits, suffix),
    };
    digits.checked_mul(factor).ok_or(Error)
}

fn exponent(digits: i128, suffix: &str) -> Result<i128, Error> {
    let power: i32 = suffix
        .strip_prefix(['e', 'E'])
        .ok_or(Error)?
        .parse()
        .map_err(|_| Error)?;
    let power = power.checked_add(9).ok_or(Error)?;
    if power >= 0 {
        let factor = 10_i128.checked_pow(power.unsigned_abs()).ok_or(Error)?;
        digits.checked_mul(factor).ok_or(Error)
    } else {
        let divisor = 10_i128.checked_pow(power.unsigned_abs()).ok_or(Error)?;
        Ok(digits.div_euclid(divisor) + i128::from(digits.rem_euclid(divisor) != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling() {
        let cases = [
            ("1", 1000),
            ("250m", 250),
            ("0.5", 500),
            (".5", 500),
            ("1.5k", 1_500_000),
            ("1e3", 1_000_000),
            ("5E-1", 500),
            ("1Ki", 1_024_000),
            ("100u", 1),
            ("-1", -1000),
            ("+2", 2000),
            ("0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(millis(&Quantity(text.into())), Ok(expected), "{text}");
        }
        assert_eq!(units(&Quantity("64Mi".into())), Ok(64 << 20));
        assert_eq!(units(&Quantity("1Ei".into())), Ok(1 << 60));
    }

    #[test]
    fn the_canonical_spelling_has_the_largest_unit() {
        let cases = [
            ("0", false, "0"),
            ("1.5", false, "1500m"),
            ("2", false, "2"),
            ("3000", false, "3k"),
            ("131072Ki", true, "128Mi"),
            ("1000", true, "1000"),
            ("1m", true, "1m"),
            ("-1", false, "-1"),
        ];
        for (text, is_binary, expected) in cases {
            let nano = parse_nano(text).unwrap();
            assert_eq!(canonical(nano, is_binary).0, expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_quantity() {
        for text in [
            "",
            "m",
            "1.2.3",
            "1x",
            "1 Mi",
            "1e",
            "e3",
            "--1",
            "1Kib",
            "99999999999999999999999999999999",
        ] {
            assert_eq!(parse_nano(text), Err(Error), "{text}");
        }
    }

    #[test]
    fn writes_canonically() {
        assert_eq!(from_bytes(64 << 20).0, "64Mi");
        assert_eq!(from_bytes(1500).0, "1500");
        assert_eq!(from_bytes(0).0, "0");
        assert_eq!(
            (from_millis(2000).0, from_millis(250).0),
            ("2".into(), "250m".into())
        );
    }

    #[test]
    fn reads_well() {
        for (bytes, text) in [
            (17, "17 B"),
            (2048, "2 KiB"),
            (1_992_295, "1.9 MiB"),
            (222_298_112, "212 MiB"),
            (5 << 30, "5 GiB"),
            (u64::MAX, "17179869183 GiB"),
        ] {
            assert_eq!(readable_bytes(bytes), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = parse_nano(&text);
        }
    }
}
