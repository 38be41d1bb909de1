//! Lengths of time as people write them, in flags and annotations.

use std::time::Duration;

/// `500ms`, `30s`, `5m`, `1h30m`, `2d`; a number alone is seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
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
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
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
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
