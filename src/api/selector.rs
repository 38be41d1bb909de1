//! Label and field selectors: parsing the text of a query, and matching.
//!
//! The label grammar is that of `k8s.io/apimachinery/pkg/labels`: `a=b`, `a==b`, `a!=b`, `a in (b,c)`,
//! `a notin (b,c)`, `a`, `!a`, `a>1`, `a<1`, joined by commas. `!=` and `notin` also match objects without the
//! label. An empty selector matches everything; an absent `LabelSelector` matches nothing, and the
//! caller decides which of the two it has.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::names;

/// Why a selector is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    #[error("invalid field selector: {0}")]
    Field(String),
    #[error("\"{0}\" is not a valid label selector operator")]
    Operator(String),
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    Exists(String),
    DoesNotExist(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    /// The label is a whole number that is greater.
    Above(String, i64),
    Below(String, i64),
}

/// All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(pub Vec<Requirement>);

impl Labels {
    /// Parses the text of `labelSelector=`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        split_top_level(text)
            .into_iter()
            .map(parse_requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// From `matchLabels` alone, as in a Service's `spec.selector`.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        Self(
            labels
                .iter()
                .map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]))
                .collect(),
        )
    }

    /// From the selector of a workload.
    pub fn from_selector(selector: &LabelSelector) -> Result<Self, Error> {
        let mut labels = Self::from_map(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
        for expression in selector.match_expressions.iter().flatten() {
            labels.0.push(from_expression(expression)?);
        }
        Ok(labels)
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_by(|key| labels?.get(key).map(String::as_str))
    }

    /// The same for labels in any form.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::DoesNotExist(key) => label(key).is_none(),
            Requirement::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|v| v == value))
            }
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|value| !values.iter().any(|v| v == value))
            }
            Requirement::Above(key, bound) => number(label(key)).is_some_and(|it| it > *bound),
            Requirement::Below(key, bound) => number(label(key)).is_some_and(|it| it < *bound),
        })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One field condition: path, whether it must be equal, value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The path as written, `status.phase`.
    pub path: String,
    /// `false` for `!=`.
    pub equal: bool,
    /// The value, maybe empty.
    pub value: String,
}

/// Parses the text of `fieldSelector=`; which paths are supported is the kind's business.
pub fn parse_fields(text: &str) -> Result<Vec<FieldRequirement>, Error> {
    let terms = text.split(',').filter(|term| !term.trim().is_empty());
    terms
        .map(|term| {
            let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) =
                term.split_once("==").or_else(|| term.split_once('='))
            {
                (path, true, value)
            } else {
                return Err(Error::Field(term.to_owned()));
            };
            Ok(FieldRequirement {
                path: path.trim().to_owned(),
                equal,
                value: value.trim().to_owned(),
            })
        })
        .collect()
}

fn from_expression(expression: &LabelSelectorRequirement) -> Result<Requirement, Error> {
    let key = expression.key.clone();
    let values = expression.values.clone().unwrap_or_default();
    match expression.operator.as_str() {
        "In" => Ok(Requirement::In(key, values)),
        "NotIn" => Ok(Requirement::NotIn(key, values)),
        "Exists" => Ok(Requirement::Exists(key)),
        "DoesNotExist" => Ok(Requirement::DoesNotExist(key)),
        other => Err(Error::Operator(other.to_owned())),
    }
}

/// Splits at commas outside parentheses; empty terms are dropped only if the whole text is empty.
fn split_top_level(text: &str) -> Vec<&str> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let mut depth = 0_i32;
    text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

fn parse_requirement(term: &str) -> Result<Requirement, Error> {
    let refused = || Error::Requirement(format!("`{term}`"));
    let requirement = if let Some(key) = term.strip_prefix('!') {
        Requirement::DoesNotExist(key.trim().to_owned())
    } else if let Some((key, value)) = term.split_once("!=") {
        Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()])
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        Requirement::In(key.trim().to_owned(), vec![value.trim().to_owned()])
    } else if let Some((key, value)) = term.split_once(['>', '<']) {
        let (key, bound) = (key.trim().to_owned(), number(Some(value.trim())));
        let bound = bound.ok_or_else(refused)?;
        if term.contains('>') {
            Requirement::Above(key, bound)
        } else {
            Requirement::Below(key, bound)
        }
    } else if let Some(open) = term.find('(') {
        parse_set(term, open).ok_or_else(refused)?
    } else {
        Requirement::Exists(term.to_owned())
    };
    if is_valid(&requirement) {
        Ok(requirement)
    } else {
        Err(refused())
    }
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.parse().ok()
}

fn parse_set(term: &str, open: usize) -> Option<Requirement> {
    let values = term[open + 1..].strip_suffix(')')?;
    let values = values
        .split(',')
        .map(|value| value.trim().to_owned())
        .collect();
    let mut words = term[..open].split_whitespace();
    let (key, operator) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    match operator {
        "in" => Some(Requirement::In(key.to_owned(), values)),
        "notin" => Some(Requirement::NotIn(key.to_owned(), values)),
        _ => None,
    }
}

fn is_valid(requirement: &Requirement) -> bool {
    match requirement {
        Requirement::Exists(key)
        | Requirement::DoesNotExist(key)
        | Requirement::Above(key, _)
        | Requirement::Below(key, _) => names::is_qualified_name(key),
        Requirement::In(key, values) | Requirement::NotIn(key, values) => {
            names::is_qualified_name(key) && values.iter().all(|value| names::is_label_value(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Labels::parse(selector).unwrap().matches(Some(&labels))
    }

    #[test]
    fn operators_mean_what_kubernetes_says() {
        let web: &[(&str, &str)] = &[("app", "web"), ("tier", "front"), ("rank", "7")];
        for selector in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "none!=x",
            "app in (db, web)",
            "app notin (db)",
            "app",
            "!none",
            "app=web,tier in (front,back)",
            "rank>6",
            "rank < 8",
        ] {
            assert!(matches(selector, web), "{selector}");
        }
        for selector in [
            "app=db",
            "app!=web",
            "app in (db)",
            "app notin (web,db)",
            "none",
            "!app",
            "app=web,none",
            "app=",
            "rank>7",
            "app<9",
            "none>1",
        ] {
            assert!(!matches(selector, web), "{selector}");
        }
    }

    #[test]
    fn wrong_text_is_refused() {
        for selector in [
            ",",
            "a>b",
            "a<",
            "a,,b",
            "=b",
            "a in b",
            "a in (b",
            "a within (b)",
            "a b",
            "a=b=c d",
            "-a",
        ] {
            assert!(Labels::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn fields_parse() {
        let fields = parse_fields("spec.nodeName=,status.phase!=Running").unwrap();
        assert_eq!(
            (
                fields[0].path.as_str(),
                fields[0].equal,
                fields[0].value.as_str()
            ),
            ("spec.nodeName", true, "")
        );
        assert!(!fields[1].equal);
        assert!(parse_fields("nonsense").is_err());
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,60}") {
            let _ = Labels::parse(&text);
            let _ = parse_fields(&text);
        }
    }
}
