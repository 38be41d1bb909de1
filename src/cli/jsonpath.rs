//! kubectl's JSONPath templates: text with `{expressions}`.
//!
//! `{.items[*].metadata.name}`, `{range .items[*]}…{end}`, `{"\n"}`, filters
//! `[?(@.type=="Ready")]`, slices, unions, `..`. As in kubectl, what is missing prints nothing and
//! several results are joined by a space. RFC 9535 is another language; this one is what scripts
//! are written in.

mod eval;
mod parse;

use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    Range(Path, Vec<Node>),
}

type Path = Vec<Step>;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `$`: back to the whole document.
    Root,
    Field(String),
    /// Several fields or indices in brackets.
    Union(Vec<Step>),
    Index(i64),
    /// From, to, step.
    Slice(Option<i64>, Option<i64>, usize),
    Wildcard,
    /// `..`: the value and everything below it.
    Recursive,
    Filter(Path, Option<(Comparison, Operand)>),
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

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Path),
}

impl Template {
    /// The error is a phrase about the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        parse::template(text).map(Self)
    }

    pub(super) fn render(&self, document: &Value) -> String {
        let mut output = String::new();
        eval::render(&self.0, document, document, &mut output);
        output
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let document = json!({
            "kind": "List",
            "items": [
                {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}},
                 "spec": {"replicas": 3, "ready": true},
                 "status": {"conditions": [
                    {"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]}},
                {"metadata": {"name": "b"}, "spec": {"replicas": 1}, "status": {"conditions": []}},
                {"metadata": {"name": "c"}, "spec": {}}
            ]
        });
        let template = Template::parse(template).unwrap();
        assert_eq!(template.render(&document), expected);
    }

    #[test]
    fn paths() {
        check("{.kind}", "List");
        check(".kind", "List");
        check("kind", "List");
        check("{$.kind}", "List");
        check("{.items[*].metadata.name}", "a b c");
        check("{.items[0].metadata.name}", "a");
        check("{.items[-1].metadata.name}", "c");
        check("{.items[1:].metadata.name}", "b c");
        check("{.items[0:2].metadata.name}", "a b");
        check("{.items[::2].metadata.name}", "a c");
        check("{.items[0,2].metadata.name}", "a c");
        check(
            "{.items[0].metadata['name','labels']}",
            "a {\"app.kubernetes.io/name\":\"x\"}",
        );
        check("{.items[0].metadata.labels['app.kubernetes.io/name']}", "x");
        check(r"{.items[0].metadata.labels.app\.kubernetes\.io/name}", "x");
        check("{..name}", "a b c");
        check("{.items[0].spec.*}", "true 3");
        check("{.items[0].spec}", "{\"ready\":true,\"replicas\":3}");
        check("{.nothing.at.all}", "");
        check("{.items[9].metadata.name}", "");
    }

    #[test]
    fn text_and_ranges() {
        check("kind is {.kind}!", "kind is List!");
        check(
            r#"{range .items[*]}{.metadata.name}{"\t"}{.spec.replicas}{"\n"}{end}"#,
            "a\t3\nb\t1\nc\t\n",
        );
        check("{range .items[*]}[{.metadata.name}]{end}", "[a][b][c]");
    }

    #[test]
    fn filters() {
        check("{.items[?(@.metadata.name==\"b\")].spec.replicas}", "1");
        check("{.items[?(@.spec.replicas>1)].metadata.name}", "a");
        check("{.items[?(@.spec.replicas <= 1)].metadata.name}", "b");
        check("{.items[?(@.spec.ready==true)].metadata.name}", "a");
        check("{.items[?(@.metadata.name!='a')].metadata.name}", "b c");
        check("{.items[?(@.spec.replicas)].metadata.name}", "a b");
        check(
            "{.items[*].status.conditions[?(@.type=='Ready')].status}",
            "True",
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "{.a",
            "{range .a}",
            "{end}",
            "{.a[}",
            "{.a[?(@.b==)]}",
            "{.a[x]}",
            "{'a}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
