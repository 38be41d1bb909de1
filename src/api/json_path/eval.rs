//! Running paths and templates over a document.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Comparison, Node, Operand, Path, Step};

pub(super) fn render(nodes: &[Node], root: &Value, current: &Value, output: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => output.push_str(text),
            Node::Path(path) => {
                let results = select(path, root, current);
                let texts: Vec<String> = results.into_iter().map(text).collect();
                output.push_str(&texts.join(" "));
            }
            Node::Range(path, body) => {
                for item in select(path, root, current) {
                    render(body, root, item, output);
                }
            }
        }
    }
}

pub(super) fn select<'a>(path: &Path, root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
    let mut values = vec![current];
    for step in &path.0 {
        values = values
            .into_iter()
            .flat_map(|value| apply(step, root, value))
            .collect();
    }
    values
}

fn apply<'a>(step: &Step, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Root => vec![root],
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Union(members) => {
            let members = members.iter();
            members
                .flat_map(|member| apply(member, root, value))
                .collect()
        }
        Step::Index(index) => {
            let items = elements(value);
            position(*index, items.len())
                .and_then(|at| items.get(at))
                .into_iter()
                .collect()
        }
        Step::Slice(from, to, step) => {
            let items = elements(value);
            let bound = |index: i64| match usize::try_from(index) {
                Ok(index) => index.min(items.len()),
                Err(_) => position(index, items.len()).unwrap_or(0),
            };
            let (from, to) = (from.map_or(0, bound), to.map_or(items.len(), bound));
            items.iter().take(to).skip(from).step_by(*step).collect()
        }
        Step::Wildcard => children(value),
        Step::Recursive => {
            let mut all = Vec::new();
            descend(value, &mut all);
            all
        }
        Step::Filter(left, right) => {
            let keep = |item: &&Value| is_kept(left, right.as_ref(), root, item);
            elements(value).iter().filter(keep).collect()
        }
    }
}

fn is_kept(left: &Path, right: Option<&(Comparison, Operand)>, root: &Value, item: &Value) -> bool {
    let Some(left) = select(left, root, item).into_iter().next() else {
        return false;
    };
    let Some((comparison, operand)) = right else {
        return true;
    };
    let right = match operand {
        Operand::Literal(literal) => Some(literal),
        Operand::Path(path) => select(path, root, item).into_iter().next(),
    };
    right.is_some_and(|right| holds(left, *comparison, right))
}

fn holds(left: &Value, comparison: Comparison, right: &Value) -> bool {
    let order = match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => match (left.as_str(), right.as_str()) {
            (Some(left), Some(right)) => Some(left.cmp(right)),
            _ => (left == right).then_some(Ordering::Equal),
        },
    };
    match comparison {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    }
}

fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// An index from the front, or from the back if it is negative.
fn position(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(index.unsigned_abs() as usize),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn descend<'a>(value: &'a Value, all: &mut Vec<&'a Value>) {
    all.push(value);
    for child in children(value) {
        descend(child, all);
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
