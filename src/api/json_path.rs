//! kubectl's JSONPath: paths, and templates of text with `{expressions}`.
//!
//! `.items[*].metadata.name`, filters `[?(@.type=="Ready")]`, slices, unions, `..`; in templates also
//! `{range .items[*]}…{end}` and `{"\n"}`. As in kubectl, what is missing prints nothing and several
//! results are joined by a space. RFC 9535 is another language; this one is what scripts and the
//! columns of custom resources are written in.
//!
//! A path in a definition is run by the server on each object that is shown, and whoever defines a kind
//! is not to be trusted: [`Path::simple`] refuses what makes more results than the object has values.

mod eval;
mod parse;

use serde_json::Value;

/// A template that has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    Range(Path, Vec<Node>),
}

/// A path that has been read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path(Vec<Step>);

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
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::template(text).map(Self)
    }

    /// The text with what the paths lead to.
    pub fn render(&self, document: &Value) -> String {
        let mut output = String::new();
        eval::render(&self.0, document, document, &mut output);
        output
    }
}

impl Path {
    /// Reads a path of fields, indices, wildcards and filters, such as
    /// `.status.conditions[?(@.type=="Ready")].status`. The error is a phrase about the text.
    pub fn simple(text: &str) -> Result<Self, String> {
        let path = parse::path(text)?;
        match path.beyond_simple() {
            None => Ok(path),
            Some(what) => Err(format!("{what} not supported here")),
        }
    }

    /// What it leads to, in order.
    pub fn find<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        eval::select(self, document, document)
    }

    /// Whether it is fields alone, `.spec.replicas`; gives them.
    pub fn fields<'a>(&'a self) -> Option<Vec<&'a str>> {
        let field = |step: &'a Step| match step {
            Step::Field(name) => Some(name.as_str()),
            _ => None,
        };
        self.0.iter().map(field).collect()
    }

    fn beyond_simple(&self) -> Option<&'static str> {
        self.0.iter().find_map(|step| match step {
            Step::Recursive => Some("recursive descent is"),
            Step::Union(_) => Some("unions are"),
            Step::Slice(..) => Some("slices are"),
            Step::Root => Some("the root is"),
            Step::Filter(left, right) => left.beyond_simple().or(match right {
                Some((_, Operand::Path(right))) => right.beyond_simple(),
                Some((_, Operand::Literal(_))) | None => None,
            }),
            Step::Field(_) | Step::Index(_) | Step::Wildcard => None,
        })
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

    #[test]
    fn simple_paths_lead_where_templates_lead() {
        let object = json!({
            "spec": {
                "replicas": 3, "a.b/c": "dots",
                "list": [{"n": "a", "v": 1}, {"n": "b", "v": 2, "w": 2}],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (text, expected) in [
            (".spec.replicas", json!([3])),
            (".spec.list[0].n", json!(["a"])),
            (".spec.list[-1].n", json!(["b"])),
            (".spec.list[*].v", json!([1, 2])),
            (".spec.list[?(@.n==\"b\")].v", json!([2])),
            (".spec.list[?(@.v >= 2)].n", json!(["b"])),
            (".spec.list[?(@.v == @.w)].n", json!(["b"])),
            (".spec.list[?(@.x)].n", json!([])),
            (
                ".status.conditions[?(@.type=='Ready')].status",
                json!(["True"]),
            ),
            (".spec['a.b/c']", json!(["dots"])),
            (r".spec.a\.b/c", json!(["dots"])),
            (".spec.none.deeper", json!([])),
        ] {
            let path = Path::simple(text).unwrap();
            assert_eq!(json!(path.find(&object)), expected, "{text}");
        }
        let path = Path::simple(".spec.replicas").unwrap();
        assert_eq!(path.fields(), Some(vec!["spec", "replicas"]));
        assert_eq!(Path::simple(".spec[0]").unwrap().fields(), None);
    }

    #[test]
    fn what_a_definition_may_not_ask_for_is_refused() {
        for (text, expected) in [
            ("spec", "unrecognized character in action: \"spec\""),
            (".spec[", "an index is missing at the end"),
            (".spec[x]", "an index is missing before `x]`"),
            (".spec}", "unrecognized character in action: \"}\""),
            (
                ".a[?(@.b==c)]",
                "a value to compare with is missing before `c)]`",
            ),
            ("..spec", "recursive descent is not supported here"),
            (".a[0,0]", "unions are not supported here"),
            (".a[0:2]", "slices are not supported here"),
            (".a[?(@.b == $.c)]", "the root is not supported here"),
        ] {
            assert_eq!(Path::simple(text).unwrap_err(), expected, "{text}");
        }
        let deep = ".a[?(@".repeat(10_000);
        assert!(
            Path::simple(&deep)
                .unwrap_err()
                .starts_with("filters in filters")
        );
    }
}
