//! What we say of custom resources beside Kubernetes.

/// On a definition, `"true"`: its rules in CEL are not evaluated, and that is known.
pub const UNCHECKED_RULES: &str = "wasmorch.dev/unchecked-rules";
