//! What the client accepts and what it sends: the media types of the API.
//!
//! `Accept` is taken as a list in the order of preference, without weights, as Kubernetes does.
//! Answers are JSON or YAML; a list that offers protobuf first and JSON after it gets JSON.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use super::error::Error;

/// The form in which an object or list is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Object,
    /// Rows and columns, made by the server.
    Table {
        version: &'static str,
    },
    /// Metadata alone.
    Partial {
        version: &'static str,
    },
}

/// The encoding of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
const ANSWERS: &str = "application/json, application/yaml";
const BODIES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// One entry of `Accept`: the type in lower case, and its parameters.
struct Range<'a> {
    media: String,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        Self {
            media: parts.next().unwrap_or_default().to_ascii_lowercase(),
            parameters: parts.filter_map(|part| part.split_once('=')).collect(),
        }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim_matches('"'))
    }

    fn is_yaml(&self) -> bool {
        self.media == YAML
    }

    fn is_json(&self) -> bool {
        matches!(self.media.as_str(), JSON | "application/*" | "*/*" | "")
    }
}

/// All entries of all `Accept` headers.
fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|entry| Range::parse(entry.trim()))
        .collect()
}

/// The first form that we can give.
pub(crate) fn output(headers: &HeaderMap) -> Result<Output, Error> {
    let chosen = chosen(headers, true).ok_or(Error::NotAcceptable(ANSWERS))?;
    Ok(chosen.0)
}

/// The same for what is not written in YAML: watches and schemas.
pub(crate) fn json_only(headers: &HeaderMap) -> Result<Output, Error> {
    let chosen = chosen(headers, false).ok_or(Error::NotAcceptable(JSON))?;
    Ok(chosen.0)
}

/// Whether the form that is given is to be YAML.
pub(crate) fn is_yaml(headers: &HeaderMap) -> bool {
    chosen(headers, true).is_some_and(|(_, is_yaml)| is_yaml)
}

/// The form, and whether it is YAML.
fn chosen(headers: &HeaderMap, takes_yaml: bool) -> Option<(Output, bool)> {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        return Some((Output::Object, false));
    }
    for range in ranges
        .iter()
        .filter(|it| it.is_json() || (takes_yaml && it.is_yaml()))
    {
        let version = match range.parameter("v") {
            Some("v1beta1") => "v1beta1",
            _ => "v1",
        };
        let is_meta = range
            .parameter("g")
            .is_none_or(|group| group == "meta.k8s.io");
        match range.parameter("as") {
            None => return Some((Output::Object, range.is_yaml())),
            Some("Table") if is_meta => {
                return Some((Output::Table { version }, range.is_yaml()));
            }
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if is_meta => {
                return Some((Output::Partial { version }, range.is_yaml()));
            }
            Some(_) => {}
        }
    }
    None
}

/// The version of aggregated discovery that is asked for, if one is asked for before plain JSON.
pub(crate) fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    for range in ranges(headers).iter().filter(|range| range.is_json()) {
        match (
            range.parameter("g"),
            range.parameter("v"),
            range.parameter("as"),
        ) {
            (Some("apidiscovery.k8s.io"), Some("v2"), Some("APIGroupDiscoveryList")) => {
                return Some("v2");
            }
            (Some("apidiscovery.k8s.io"), Some("v2beta1"), Some("APIGroupDiscoveryList")) => {
                return Some("v2beta1");
            }
            (None, None, None) => return None,
            _ => {}
        }
    }
    None
}

/// Whether the client takes a type that is not JSON (`openapi`, HTML) and names it.
pub(crate) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    ranges(headers).iter().any(|range| range.media == media)
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().unwrap_or("invalid");
    let media = text.split(';').next().unwrap_or_default().trim();
    (!media.is_empty()).then(|| media.to_ascii_lowercase())
}

/// The encoding of a body; JSON when the client does not say.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, Error> {
    match content_type(headers).as_deref() {
        None | Some(JSON) => Ok(Encoding::Json),
        Some("application/yaml" | "application/x-yaml" | "text/yaml") => Ok(Encoding::Yaml),
        Some("application/vnd.kubernetes.protobuf") => Ok(Encoding::Protobuf),
        Some(_) => Err(Error::UnsupportedMedia(BODIES)),
    }
}

/// The type of a patch; there is no default.
pub(crate) fn patch_type(headers: &HeaderMap) -> Result<PatchType, Error> {
    match content_type(headers).as_deref() {
        Some("application/json-patch+json") => Ok(PatchType::Json),
        Some("application/merge-patch+json") => Ok(PatchType::Merge),
        Some("application/strategic-merge-patch+json") => Ok(PatchType::Strategic),
        Some("application/apply-patch+yaml") => Ok(PatchType::Apply),
        Some(_) | None => Err(Error::UnsupportedMedia(PATCHES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())])
    }

    #[test]
    fn the_first_form_we_can_give_wins() {
        const TABLE: Output = Output::Table { version: "v1" };
        let cases = [
            ("*/*", Some(Output::Object)),
            ("application/json", Some(Output::Object)),
            (
                "application/vnd.kubernetes.protobuf, */*",
                Some(Output::Object),
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some(Output::Object),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(TABLE),
            ),
            (
                "application/json;as=Table;g=meta.k8s.io;v=v1beta1",
                Some(Output::Table { version: "v1beta1" }),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(Output::Partial { version: "v1" }),
            ),
            (
                "application/json;as=Chart;g=meta.k8s.io;v=v1,application/json;q=0.5",
                Some(Output::Object),
            ),
            ("application/yaml;as=Table;g=meta.k8s.io;v=v1", Some(TABLE)),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
        ];
        for (text, expected) in cases {
            assert_eq!(output(&accept(text)).ok(), expected, "{text}");
        }
        assert_eq!(output(&HeaderMap::new()).ok(), Some(Output::Object));
    }

    #[test]
    fn yaml_is_given_to_those_who_take_it_first() {
        for (text, expected) in [
            ("application/yaml", true),
            ("application/yaml, */*", true),
            ("application/json, application/yaml", false),
            ("*/*", false),
        ] {
            assert_eq!(is_yaml(&accept(text)), expected, "{text}");
        }
        assert!(json_only(&accept("application/yaml")).is_err());
        let both = accept("application/yaml, application/json");
        assert_eq!(json_only(&both).ok(), Some(Output::Object));
    }

    #[test]
    fn aggregated_discovery_is_echoed_exactly() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let cases = [
            (format!("{v2},{beta},application/json"), Some("v2")),
            (format!("{beta},application/json"), Some("v2beta1")),
            (format!("{v2};profile=nopeer,application/json"), Some("v2")),
            ("application/json".to_owned(), None),
        ];
        for (text, expected) in cases {
            assert_eq!(aggregated_discovery(&accept(&text)), expected, "{text}");
        }
    }

    #[test]
    fn a_body_without_a_type_is_json() {
        let sent = |text: &str| HeaderMap::from_iter([(CONTENT_TYPE, text.parse().unwrap())]);
        assert_eq!(encoding(&HeaderMap::new()).unwrap(), Encoding::Json);
        assert_eq!(
            encoding(&sent("application/json; charset=utf-8")).unwrap(),
            Encoding::Json
        );
        assert!(encoding(&sent("application/cbor")).is_err());
        assert!(patch_type(&sent("application/json")).is_err());
        assert_eq!(
            patch_type(&sent("application/merge-patch+json")).unwrap(),
            PatchType::Merge
        );
    }
}
