//! A number of something, or a percentage of it: `maxUnavailable: 25%`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number; a percentage of `total` is rounded up or down. Text that is no percentage has not
/// passed validation and counts as nothing.
pub fn scaled(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .unwrap_or(0);
            let hundredfold = percent.max(0) * i64::from(total);
            ((hundredfold + if up { 99 } else { 0 }) / 100) as i32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(scaled(&IntOrString::Int(3), 10, true), 3);
        assert_eq!(scaled(&percent("25%"), 10, true), 3);
        assert_eq!(scaled(&percent("25%"), 10, false), 2);
        assert_eq!(scaled(&percent("100%"), 7, false), 7);
    }
}
