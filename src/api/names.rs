//! Which names, label keys and label values the API allows.
//!
//! The rules and the texts are those of `k8s.io/apimachinery/pkg/util/validation`; users have
//! learnt to read them.

/// Kubernetes' words for a wrong DNS label.
pub const DNS_LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
/// Kubernetes' words for a wrong DNS subdomain.
pub const DNS_SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
/// Kubernetes' words for a wrong RFC 1035 label (names of Services).
pub const DNS_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
/// Kubernetes' words for a wrong label value.
pub const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
/// Kubernetes' words for a wrong label or annotation key.
pub const QUALIFIED_NAME_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// RFC 1123 label, at most 63 characters: namespaces, ports, containers, modules.
pub fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && is_label_shape(text)
}

/// RFC 1123 subdomain, at most 253 characters: most object names.
pub fn is_dns_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .split('.')
            .all(|part| !part.is_empty() && is_label_shape(part))
}

/// RFC 1035 label: names of Services.
pub fn is_dns_1035_label(text: &str) -> bool {
    is_dns_label(text) && text.as_bytes()[0].is_ascii_lowercase()
}

/// Why a name cannot be one segment of a URL's path, if it cannot.
pub fn path_segment_complaint(text: &str) -> Option<&'static str> {
    match text {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        _ if text.contains('/') => Some("may not contain '/'"),
        _ if text.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

/// IANA service name: named ports. Lower case, a letter at least, no `--`, at most 15 characters.
pub fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && is_label_shape(text)
        && !text.contains("--")
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// A label value: empty, or at most 63 characters that start and end alphanumeric.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

/// A label or annotation key: an optional DNS subdomain and `/`, then a name.
pub fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name_part(name),
        None => is_name_part(text),
    }
}

/// An environment variable's name: printable ASCII without `=` (KEP-4369).
pub fn is_env_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

/// A key of a ConfigMap or Secret.
pub fn is_config_key(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text != "."
        && !text.starts_with("..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_label_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .all(|&byte| is_lower_alphanumeric(byte) || byte == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_takes_and_refuses() {
        type Rule = fn(&str) -> bool;
        let long = "a".repeat(64);
        let cases: [(Rule, &[&str], &[&str]); 7] = [
            (
                is_dns_label,
                &["a", "a-b", "0"],
                &["", "-a", "a-", "A", "a.b", "a_b", &long],
            ),
            (
                is_dns_subdomain,
                &["a.b", "x"],
                &["", "a..b", ".a", "a.", "a/b"],
            ),
            (is_dns_1035_label, &["a1"], &["1a", ""]),
            (
                is_port_name,
                &["http", "h2c-1"],
                &["", "80", "a--b", "sixteen-chars-xx"],
            ),
            (is_label_value, &["", "a_B.c"], &["-a", "a/", &long]),
            (
                is_qualified_name,
                &["app", "k8s.io/App_x"],
                &["", "/a", "a/", "A/b/c", "k_8/x"],
            ),
            (is_config_key, &["a.b", "A_1"], &["", ".", "..a", "a/b"]),
        ];
        for (rule, good, bad) in cases {
            assert!(good.iter().all(|text| rule(text)), "{good:?}");
            assert!(!bad.iter().any(|text| rule(text)), "{bad:?}");
        }
    }
}
