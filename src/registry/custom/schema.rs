//! The schema of a custom resource, compiled once per version of its definition.
//!
//! What is asked for every object (fields, defaults, how lists merge) is at hand; value rules, which
//! most fields do not have, sit behind a pointer. Patterns are compiled when first met and bounded,
//! since whoever may define a kind must not thereby choose how much memory the server spends.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::registry::merge_keys::{Keys, Shape};

/// How deep a schema may be; deeper ones are refused when they are defined.
pub(crate) const DEPTH: usize = 64;
/// The bound on one compiled pattern, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// The bound on all patterns of one schema.
const PATTERNS_SIZE: usize = 128 << 20;
const PATTERN_DEPTH: u32 = 64;

/// The JSON type that a schema asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not said: whatever the other rules allow.
    Any,
    IntOrString,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// What may stand in fields that `properties` does not name.
#[derive(Debug)]
pub(crate) enum Additional {
    Anything,
    Schema(Box<Schema>),
}

/// One node of a schema.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub(crate) preserves: bool,
    /// `x-kubernetes-embedded-resource`
    pub(crate) embedded: bool,
    pub(crate) properties: BTreeMap<String, Self>,
    pub(crate) additional: Option<Additional>,
    pub(crate) items: Option<Box<Self>>,
    pub(crate) default: Option<Value>,
    pub(crate) rules: Option<Box<Rules>>,
    merge: Merge,
}

/// What a value must be like, beside its type.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) one_of_values: Option<Vec<Value>>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: Option<String>,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) required: Vec<String>,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
}

/// How values of a node merge.
#[derive(Debug)]
enum Merge {
    Plain,
    Atomic,
    Set,
    Map(ListKeys),
}

/// `x-kubernetes-list-map-keys`, and the values of those that an item may leave out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ListKeys {
    pub(crate) names: Vec<String>,
    pub(crate) defaults: BTreeMap<String, Value>,
}

/// A pattern that is compiled when it is first asked.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// A pattern that cannot be compiled matches nothing; the definition with it was refused.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.text).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Compiles a pattern within bounds.
pub(super) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    compile_within(pattern, PATTERN_SIZE)
}

/// What each of so many patterns of one schema may take.
pub(super) fn share_of_patterns(count: usize) -> usize {
    (PATTERNS_SIZE / count.max(1)).min(PATTERN_SIZE)
}

pub(super) fn compile_within(pattern: &str, size: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(size)
        .dfa_size_limit(size)
        .nest_limit(PATTERN_DEPTH)
        .build()
}

impl Schema {
    /// Compiles the JSON of a schema. What it does not understand it leaves out: `structural` has
    /// refused it when the definition was written.
    pub(crate) fn compile(schema: &Value) -> Self {
        Self::compile_at(schema, 0)
    }

    fn compile_at(schema: &Value, depth: usize) -> Self {
        let flag = |name: &str| schema[name] == true;
        let inner = |schema: &Value| Self::compile_at(schema, depth + 1);
        let mut properties = BTreeMap::new();
        let mut additional = None;
        let mut items = None;
        if depth < DEPTH {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                properties.insert(name.clone(), inner(schema));
            }
            additional = match &schema["additionalProperties"] {
                Value::Bool(true) => Some(Additional::Anything),
                schema @ Value::Object(_) => Some(Additional::Schema(Box::new(inner(schema)))),
                _ => None,
            };
            if schema["items"].is_object() {
                items = Some(Box::new(inner(&schema["items"])));
            }
        }
        let kind = match schema["type"].as_str() {
            _ if flag("x-kubernetes-int-or-string") => Kind::IntOrString,
            Some("object") => Kind::Object,
            Some("array") => Kind::Array,
            Some("string") => Kind::String,
            Some("integer") => Kind::Integer,
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            _ => Kind::Any,
        };
        Self {
            merge: Merge::of(schema, items.as_deref()),
            kind,
            nullable: flag("nullable"),
            preserves: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            properties,
            additional,
            items,
            default: schema.get("default").filter(|it| !it.is_null()).cloned(),
            rules: Rules::of(schema, depth),
        }
    }

    /// The schema of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            Some(Additional::Anything) | None => None,
        })
    }

    /// The schema of a list's items, which stand where the list stands.
    pub(crate) fn item(&self) -> &Self {
        self.items.as_deref().unwrap_or(self)
    }

    /// How values of this schema merge.
    pub(crate) fn shape(&self) -> Shape<'_> {
        match &self.merge {
            Merge::Plain => Shape::Plain,
            Merge::Atomic => Shape::Atomic,
            Merge::Set => Shape::Set { is_patched: false },
            Merge::Map(keys) => Shape::Items {
                keys: Keys::Schema(keys),
                atomic: false,
            },
        }
    }
}

impl Merge {
    fn of(schema: &Value, items: Option<&Schema>) -> Self {
        if schema["x-kubernetes-map-type"] == "atomic" {
            return Self::Atomic;
        }
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Self::Set,
            Some("map") => {
                let names = schema["x-kubernetes-list-map-keys"].as_array();
                let names: Vec<String> = names
                    .into_iter()
                    .flatten()
                    .filter_map(|name| name.as_str().map(str::to_owned))
                    .collect();
                let default = |name: &String| {
                    let default = items?.properties.get(name)?.default.clone()?;
                    Some((name.clone(), default))
                };
                Self::Map(ListKeys {
                    defaults: names.iter().filter_map(default).collect(),
                    names,
                })
            }
            _ => Self::Plain,
        }
    }
}

impl Rules {
    /// `None` if there are none.
    fn of(schema: &Value, depth: usize) -> Option<Box<Self>> {
        const RULES: [&str; 20] = [
            "enum",
            "pattern",
            "format",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "required",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "uniqueItems",
        ];
        if depth >= DEPTH || !RULES.iter().any(|name| schema.get(name).is_some()) {
            return None;
        }
        let number = |name: &str| schema[name].as_f64();
        let count = |name: &str| schema[name].as_u64();
        let text = |name: &str| schema[name].as_str();
        let all = |name: &str| {
            let schemas = schema[name].as_array();
            let compile = |schema: &Value| Schema::compile_at(schema, depth + 1);
            schemas.into_iter().flatten().map(compile).collect()
        };
        let required = schema["required"].as_array();
        Some(Box::new(Self {
            one_of_values: schema["enum"].as_array().cloned(),
            pattern: text("pattern").map(Pattern::new),
            format: text("format").map(str::to_owned),
            minimum: number("minimum"),
            exclusive_minimum: schema["exclusiveMinimum"] == true,
            maximum: number("maximum"),
            exclusive_maximum: schema["exclusiveMaximum"] == true,
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: required
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: schema
                .get("not")
                .filter(|not| not.is_object())
                .map(|not| Box::new(Schema::compile_at(not, depth + 1))),
        }))
    }
}
