//! `$(VAR)` in commands, arguments and values (`k8s.io/kubernetes/third_party/forked/golang/expansion`).
//!
//! A known variable is replaced, an unknown one stays as it is written, `$$` is one `$`. Variables
//! that are made of others can double with every line of a manifest, so all that a container is given
//! draws on one [`Budget`].

/// What a container's variables, command and arguments may come to, in bytes.
const LIMIT: usize = 1 << 20;

/// More than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment, command and arguments come to more than {LIMIT} bytes")]
pub struct TooLarge;

/// How many bytes may be added yet.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(LIMIT)
    }
}

impl Budget {
    /// Takes so many bytes.
    pub fn charge(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.0 = self.0.checked_sub(bytes).ok_or(TooLarge)?;
        Ok(())
    }
}

/// Replaces every `$(VAR)` that `value_of` knows.
pub fn expand<'a>(
    text: &str,
    value_of: impl Fn(&str) -> Option<&'a str>,
    budget: &mut Budget,
) -> Result<String, TooLarge> {
    let mut expanded = String::new();
    let mut push = |text: &str| {
        budget.charge(text.len())?;
        expanded.push_str(text);
        Ok(())
    };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        push(&rest[..at])?;
        let after = &rest[at + 1..];
        if let Some(next) = after.strip_prefix('$') {
            push("$")?;
            rest = next;
        } else if let Some((name, next)) = after.strip_prefix('(').and_then(|it| it.split_once(')'))
        {
            push(value_of(name).unwrap_or(&rest[at..=at + 2 + name.len()]))?;
            rest = next;
        } else {
            push("$")?;
            rest = after;
        }
    }
    push(rest)?;
    Ok(expanded)
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
                "A" => Some("a"),
                "B" => Some("b"),
                _ => None,
            };
            let expanded = expand(text, value_of, &mut Budget::default());
            assert_eq!(expanded.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_grows_without_end_ends() {
        let long = "x".repeat(LIMIT / 4);
        let mut budget = Budget::default();
        let mut fourfold =
            |text| expand(text, |_| Some(long.as_str()), &mut budget).map(|it| it.len());
        assert_eq!(fourfold("$(A)$(A)$(A)"), Ok(LIMIT / 4 * 3));
        assert_eq!(fourfold("$(A)$(A)"), Err(TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_keeps_text_without_dollars(text in "[^$]*", wild in "[$()A-C]*") {
            let unchanged = expand(&text, |_| None, &mut Budget::default());
            proptest::prop_assert_eq!(unchanged, Ok(text));
            let _ = expand(&wild, |_| Some("$(A)"), &mut Budget::default());
        }
    }
}
