//! `$(VAR)` in commands, arguments and values (`k8s.io/kubernetes/third_party/forked/golang/expansion`).
//!
//! A known variable is replaced, an unknown one stays as it is written, `$$` is one `$`.

/// Replaces every `$(VAR)` that `value_of` knows.
pub fn expand(text: &str, value_of: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(next) = after.strip_prefix('$') {
            expanded.push('$');
            rest = next;
        } else if let Some((name, next)) = after.strip_prefix('(').and_then(|it| it.split_once(')'))
        {
            match value_of(name) {
                Some(value) => expanded.push_str(&value),
                None => expanded.push_str(&rest[at..=at + 2 + name.len()]),
            }
            rest = next;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_rules() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("x$(A)y$(B)z", "xaybz"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$A", "$A"),
            ("$", "$"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("é$(A)é", "éaé"),
        ];
        for (text, expected) in cases {
            let value_of = |name: &str| match name {
                "A" => Some("a".to_owned()),
                "B" => Some("b".to_owned()),
                _ => None,
            };
            assert_eq!(expand(text, value_of), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_keeps_text_without_dollars(text in "[^$]*", wild in "[$()A-C]*") {
            proptest::prop_assert_eq!(expand(&text, |_| None), text);
            let _ = expand(&wild, |_| Some("$(A)".into()));
        }
    }
}
