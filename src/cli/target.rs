//! What the arguments name: `TYPE NAME…`, `TYPE/NAME…`, `TYPE,TYPE`.
//!
//! Pure: whether a type exists is a question for discovery.

use super::failure::{Failure, Result};

/// One type and the objects of it; no names means all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: String,
    pub(super) names: Vec<String>,
}

/// kubectl's grammar: either every argument has a slash, or none but the first has meaning as types.
pub(super) fn parse(arguments: &[String]) -> Result<Vec<Target>> {
    let [first, rest @ ..] = arguments else {
        return Err(Failure::usage("no type of object is named")
            .help("wasmorch get pods · types: wasmorch api-resources"));
    };
    if arguments.iter().any(|argument| argument.contains('/')) {
        return arguments.iter().map(|argument| pair(argument)).collect();
    }
    let kinds: Vec<&str> = first.split(',').filter(|kind| !kind.is_empty()).collect();
    if kinds.is_empty() {
        return Err(Failure::usage(format!("`{first}` names no type of object")));
    }
    if kinds.len() > 1 && !rest.is_empty() {
        return Err(
            Failure::usage("names can follow one type only").help("name each object as TYPE/NAME")
        );
    }
    let target = |kind: &&str| Target {
        kind: (*kind).to_owned(),
        names: rest.to_vec(),
    };
    Ok(kinds.iter().map(target).collect())
}

/// The same, where exactly one object must be named.
pub(super) fn one(arguments: &[String]) -> Result<(String, String)> {
    let mut targets = parse(arguments)?;
    match (targets.pop(), targets.is_empty()) {
        (Some(mut target), true) if target.names.len() == 1 => {
            Ok((target.kind, target.names.swap_remove(0)))
        }
        _ => Err(Failure::usage("name one object: TYPE/NAME or TYPE NAME")),
    }
}

fn pair(argument: &str) -> Result<Target> {
    match argument.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Target {
                kind: kind.to_owned(),
                names: vec![name.to_owned()],
            })
        }
        _ => Err(Failure::usage(format!(
            "`{argument}` stands among TYPE/NAME arguments and is none"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &str, expected: Option<&[(&str, &[&str])]>) {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let parsed = parse(&arguments).ok();
        let expected = expected.map(|targets| {
            let target = |(kind, names): &(&str, &[&str])| Target {
                kind: (*kind).to_owned(),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
            };
            targets.iter().map(target).collect::<Vec<_>>()
        });
        assert_eq!(parsed, expected, "{arguments:?}");
    }

    #[test]
    fn arguments_read_like_kubectl() {
        check("pods", Some(&[("pods", &[])]));
        check("pods a b", Some(&[("pods", &["a", "b"])]));
        check("po,svc", Some(&[("po", &[]), ("svc", &[])]));
        check("deploy/a", Some(&[("deploy", &["a"])]));
        check(
            "deploy/a svc/b",
            Some(&[("deploy", &["a"]), ("svc", &["b"])]),
        );
        check("deployments.apps a", Some(&[("deployments.apps", &["a"])]));
        check("", None);
        check(",", None);
        check("po,svc a", None);
        check("deploy/a b", None);
        check("deploy/", None);
        check("a/b/c", None);
    }

    #[test]
    fn one_object_is_one() {
        let one = |text: &str| {
            let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            one(&arguments).ok()
        };
        let expected = Some(("deploy".to_owned(), "a".to_owned()));
        assert_eq!(one("deploy/a"), expected);
        assert_eq!(one("deploy a"), expected);
        for wrong in ["deploy", "deploy a b", "deploy/a deploy/b", ""] {
            assert_eq!(one(wrong), None, "{wrong}");
        }
    }
}
