//! JSON paths as kubectl has them, as far as columns and subresources use them: fields, indices,
//! wildcards and filters by one comparison. Steps that walk a tree of unknown depth (`..`) are refused.

use std::cmp::Ordering;

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter {
        path: Path,
        /// `None` asks whether there is something.
        test: Option<(Comparison, Value)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// A path that has been read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    /// Reads `.spec.list[?(@.type=="Ready")].status`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = if let Some(after) = rest.strip_prefix('.') {
                if after.starts_with('.') {
                    return Err("recursive descent is not supported".to_owned());
                }
                field(after, &mut steps)
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = closing(after).ok_or("unterminated array")?;
                steps.push(bracket(&after[..end])?);
                &after[end + 1..]
            } else {
                return Err(format!("unrecognized character in action: {rest:?}"));
            };
        }
        Ok(Self(steps))
    }

    /// Whether it is fields alone, `.spec.replicas`; gives them.
    pub(crate) fn fields(&self) -> Option<Vec<&str>> {
        self.0
            .iter()
            .map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Index(_) | Step::All | Step::Filter { .. } => None,
            })
            .collect()
    }

    /// What it leads to, in order.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| step.take(value))
                .collect();
        }
        found
    }
}

/// A field's name, `\.` for a dot in it; the empty name is the value itself.
fn field<'a>(rest: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let mut name = String::new();
    let mut letters = rest.char_indices();
    let mut end = rest.len();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
            '.' | '[' => {
                end = at;
                break;
            }
            _ => name.push(letter),
        }
    }
    match name.as_str() {
        "" => {}
        "*" => steps.push(Step::All),
        _ => steps.push(Step::Field(name)),
    }
    &rest[end..]
}

/// Where the bracket ends, quotes and inner brackets minded.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (Some(_) | None, _) => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|it| it.strip_suffix(')')) {
        return parse_filter(filter);
    }
    text.parse()
        .map(Step::Index)
        .map_err(|_| format!("invalid array index {text}"))
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn parse_filter(text: &str) -> Result<Step, String> {
    let (left, test) = match COMPARISONS
        .iter()
        .filter_map(|(word, comparison)| Some((text.find(word)?, word.len(), *comparison)))
        .min_by_key(|(at, length, _)| (*at, std::cmp::Reverse(*length)))
    {
        None => (text, None),
        Some((at, length, comparison)) => {
            let right = text[at + length..].trim();
            let literal = match quoted(right) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right)
                    .map_err(|_| format!("unrecognized literal in filter: {right}"))?,
            };
            (&text[..at], Some((comparison, literal)))
        }
    };
    let path = left
        .trim()
        .strip_prefix('@')
        .ok_or_else(|| format!("a filter must begin with @: {text}"))?;
    Ok(Step::Filter {
        path: Path::parse(path)?,
        test,
    })
}

impl Step {
    fn take<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let at = if *index < 0 {
                    items.len().checked_sub(index.unsigned_abs() as usize)
                } else {
                    usize::try_from(*index).ok()
                };
                at.and_then(|at| items.get(at)).into_iter().collect()
            }
            Self::All => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(fields) => fields.values().collect(),
                _ => Vec::new(),
            },
            Self::Filter { path, test } => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let holds = |item: &&Value| match (path.find(item).first(), test) {
                    (None, _) => false,
                    (Some(_), None) => true,
                    (Some(found), Some((comparison, literal))) => comparison.holds(found, literal),
                };
                items.iter().filter(holds).collect()
            }
        }
    }
}

impl Comparison {
    fn holds(self, found: &Value, literal: &Value) -> bool {
        let order = match (found, literal) {
            (Value::Number(one), Value::Number(other)) => one.as_f64().partial_cmp(&other.as_f64()),
            (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
            _ => (found == literal).then_some(Ordering::Equal),
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_where_kubectl_s_lead() {
        let object = json!({"spec": {"replicas": 3, "list": [{"n": "a", "v": 1}, {"n": "b", "v": 2}], "a.b/c": "dots"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let cases = [
            (".spec.replicas", json!([3])),
            (".spec.list[0].n", json!(["a"])),
            (".spec.list[-1].n", json!(["b"])),
            (".spec.list[*].v", json!([1, 2])),
            (".spec.list[?(@.n==\"b\")].v", json!([2])),
            (".spec.list[?(@.v >= 2)].n", json!(["b"])),
            (".spec.list[?(@.x)].n", json!([])),
            (
                ".status.conditions[?(@.type=='Ready')].status",
                json!(["True"]),
            ),
            (".spec['a.b/c']", json!(["dots"])),
            (r".spec.a\.b/c", json!(["dots"])),
            (".spec.none.deeper", json!([])),
        ];
        for (text, expected) in cases {
            let path = Path::parse(text).unwrap();
            assert_eq!(json!(path.find(&object)), expected, "{text}");
        }
        for text in [
            "spec",
            ".spec[",
            ".spec[x]",
            "..spec",
            ".a[?(.b)]",
            ".a[?(@.b==c)]",
        ] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }
}
