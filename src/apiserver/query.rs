//! The query parameters of the API, read once into the registry's options.
//!
//! Unknown parameters are ignored, as Kubernetes does (`kubectl` sends `timeout` everywhere); known
//! ones with senseless values are refused, never taken as their default.

use std::time::Duration;

use serde_json::{Value, json};

use crate::registry::path::Path;
use crate::registry::{
    self, DeleteOptions, Errors, FieldValidation, ListOptions, Propagation, WatchOptions,
    WriteOptions,
};

use super::error::Error;

/// The decoded pairs, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The first value; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Every value, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// `1` and `true` (and the bare name, as Go's conversion has it) are true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        match self.0.iter().find(|(key, _)| key == name) {
            Some((_, value)) => !matches!(value.as_str(), "0" | "false" | "False" | "FALSE" | "f"),
            None => false,
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::BadRequest(format!(
                        "{name}: strconv.ParseInt: parsing {text:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }

    pub(crate) fn list_options(&self) -> Result<ListOptions, Error> {
        if self.get("sendInitialEvents").is_some() {
            return Err(Error::Unprocessable {
                message: "sendInitialEvents is forbidden for list".to_owned(),
                field: "sendInitialEvents".to_owned(),
            });
        }
        self.timeout_seconds()?;
        Ok(ListOptions {
            label_selector: self.owned("labelSelector"),
            field_selector: self.owned("fieldSelector"),
            limit: self.number::<usize>("limit")?.filter(|limit| *limit > 0),
            continue_token: self.owned("continue"),
            resource_version: self.owned("resourceVersion"),
            resource_version_match: self.owned("resourceVersionMatch"),
        })
    }

    pub(crate) fn watch_options(&self) -> WatchOptions {
        WatchOptions {
            label_selector: self.owned("labelSelector"),
            field_selector: self.owned("fieldSelector"),
            resource_version: self.owned("resourceVersion"),
            resource_version_match: self.owned("resourceVersionMatch"),
            send_initial_events: self.is_true("sendInitialEvents"),
            allow_bookmarks: self.is_true("allowWatchBookmarks"),
        }
    }

    /// How long a watch may last; `None` leaves it to the server.
    pub(crate) fn timeout_seconds(&self) -> Result<Option<Duration>, Error> {
        Ok(self
            .number::<i64>("timeoutSeconds")?
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs))
    }

    /// `user_agent` is the field manager of those who name none: up to its first slash. `kind` is
    /// what Kubernetes calls the options: `CreateOptions`.
    pub(crate) fn write_options(
        &self,
        user_agent: Option<&str>,
        kind: &str,
    ) -> Result<WriteOptions, Error> {
        let refuse = |name: &str, complain: &dyn Fn(&Path<'_>, &mut Errors)| {
            Err(invalid_option(kind, name, complain))
        };
        let field_manager = match self.get("fieldManager") {
            Some(manager) if manager.len() > 128 => {
                return refuse("fieldManager", &|at, errors| errors.too_long(at, 128));
            }
            Some(manager) if manager.chars().any(char::is_control) => {
                return refuse("fieldManager", &|at, errors| {
                    errors.invalid(at, manager, "should only contain printable characters");
                });
            }
            Some(manager) => Some(manager.to_owned()),
            None => {
                let agent = user_agent.and_then(|agent| agent.split('/').next());
                let agent = agent.filter(|agent| !agent.is_empty());
                Some(agent.unwrap_or("unknown").chars().take(128).collect())
            }
        };
        let field_validation = match self.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                return refuse("fieldValidation", &|at, errors| {
                    errors.not_supported(at, other, &["Ignore", "Strict", "Warn"]);
                });
            }
        };
        Ok(WriteOptions {
            dry_run: self.dry_run(kind)?,
            field_manager,
            field_validation,
            duplicate_fields: Vec::new(),
        })
    }

    fn dry_run(&self, kind: &str) -> Result<bool, Error> {
        let mut values = self.0.iter().filter(|(key, _)| key == "dryRun");
        match values.next() {
            None => Ok(false),
            Some((_, value)) => dry_run_value(kind, value),
        }
    }

    /// Options of a deletion: a body wins over the query, as in Kubernetes.
    pub(crate) fn delete_options(&self, body: Option<&Value>) -> Result<DeleteOptions, Error> {
        match body {
            Some(body) => delete_options_of_body(body),
            None => Ok(DeleteOptions {
                dry_run: self.dry_run(DELETE)?,
                grace_period_seconds: self.number("gracePeriodSeconds")?,
                propagation_policy: propagation(
                    self.get("propagationPolicy"),
                    self.get("orphanDependents").map(|text| text == "true"),
                )?,
                uid: None,
                resource_version: None,
            }),
        }
    }
}

/// The options of a deletion, as Kubernetes calls them.
const DELETE: &str = "DeleteOptions";

/// One option of a request with a senseless value.
fn invalid_option(kind: &str, name: &str, complain: &dyn Fn(&Path<'_>, &mut Errors)) -> Error {
    let mut errors = Errors::default();
    complain(&Path::Root.field(name), &mut errors);
    Error::Registry(registry::Error::Invalid {
        group: "meta.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: String::new(),
        errors: errors.0,
    })
}

fn dry_run_value(kind: &str, value: &str) -> Result<bool, Error> {
    match value {
        "All" => Ok(true),
        "" => Ok(false),
        other => Err(invalid_option(kind, "dryRun", &|at, errors| {
            errors.not_supported_json(at, &json!([other]), &["All"]);
        })),
    }
}

fn delete_options_of_body(body: &Value) -> Result<DeleteOptions, Error> {
    let wrong = |field: &str| {
        Error::BadRequest(format!(
            "DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: json: cannot unmarshal field {field}"
        ))
    };
    let field = |name: &str| body.get(name).filter(|value| !value.is_null());
    if let Some(kind) = body["kind"]
        .as_str()
        .filter(|kind| !matches!(*kind, "" | DELETE))
    {
        let version = body["apiVersion"].as_str().unwrap_or_default();
        return Err(Error::BadRequest(format!(
            "no kind {kind:?} is registered for version {version:?}: the body of a deletion is DeleteOptions"
        )));
    }
    let text = |value: Option<&Value>, name: &str| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(name)),
    };
    let dry_run = match field("dryRun") {
        None => false,
        Some(Value::Array(values)) => match values.first() {
            None => false,
            Some(Value::String(value)) => dry_run_value(DELETE, value)?,
            Some(_) => return Err(wrong("dryRun")),
        },
        Some(_) => return Err(wrong("dryRun")),
    };
    let grace_period_seconds = field("gracePeriodSeconds")
        .map(|value| value.as_i64().ok_or_else(|| wrong("gracePeriodSeconds")))
        .transpose()?;
    let orphan = field("orphanDependents")
        .map(|value| value.as_bool().ok_or_else(|| wrong("orphanDependents")))
        .transpose()?;
    let policy = text(field("propagationPolicy"), "propagationPolicy")?;
    let preconditions = field("preconditions");
    let precondition = |name: &str| text(preconditions.and_then(|all| all.get(name)), name);
    Ok(DeleteOptions {
        dry_run,
        grace_period_seconds,
        propagation_policy: propagation(policy.as_deref(), orphan)?,
        uid: precondition("uid")?,
        resource_version: precondition("resourceVersion")?,
    })
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Error> {
    let refuse = |complain: &dyn Fn(&Path<'_>, &mut Errors)| {
        Err(invalid_option(DELETE, "propagationPolicy", complain))
    };
    match (policy, orphan) {
        (Some(policy), Some(_)) => refuse(&|at, errors| {
            errors.invalid(
                at,
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }),
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some(other), None) => refuse(&|at, errors| {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            errors.not_supported(at, other, &supported);
        }),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::status;
    use super::*;

    #[test]
    fn senseless_values_are_refused() {
        let list = |text: &str| Query::parse(text).list_options();
        assert!(list("limit=x").is_err());
        assert!(list("sendInitialEvents=true").is_err());
        assert!(list("timeoutSeconds=x").is_err());
        let write =
            |text: &str| Query::parse(text).write_options(Some("kubectl/v1.32"), "CreateOptions");
        assert!(write("dryRun=Some").is_err());
        assert!(write("dryRun=All").unwrap().dry_run);
        assert!(write("fieldValidation=Never").is_err());
        assert_eq!(write("").unwrap().field_manager.as_deref(), Some("kubectl"));
        assert!(write(&format!("fieldManager={}", "a".repeat(129))).is_err());
    }

    #[test]
    fn a_wrong_option_is_told_as_kubernetes_does() {
        let told = |error: Error| status::status_object(&error);
        let write = Query::parse("dryRun=Some").write_options(None, "UpdateOptions");
        let refused = told(write.unwrap_err());
        assert_eq!(
            refused["message"],
            "UpdateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
        );
        let details = &refused["details"];
        assert_eq!(details["group"], "meta.k8s.io");
        assert_eq!(details["kind"], "UpdateOptions");
        assert_eq!(details["causes"][0]["reason"], "FieldValueNotSupported");
        let delete = Query::parse("propagationPolicy=Later").delete_options(None);
        assert_eq!(told(delete.unwrap_err())["details"]["kind"], DELETE);
        let pod = json!({"apiVersion": "v1", "kind": "Pod"});
        let refused = Query::default().delete_options(Some(&pod)).unwrap_err();
        assert_eq!(told(refused)["code"], 400);
    }

    #[test]
    fn deletion_options_come_from_the_body_or_the_query() {
        let query = Query::parse("gracePeriodSeconds=5&propagationPolicy=Orphan");
        let options = query.delete_options(None).unwrap();
        assert_eq!(options.grace_period_seconds, Some(5));
        assert_eq!(options.propagation_policy, Some(Propagation::Orphan));
        let body = json!({"kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "dryRun": ["All"]});
        let options = query.delete_options(Some(&body)).unwrap();
        assert_eq!(options.grace_period_seconds, Some(0));
        assert_eq!((options.uid.as_deref(), options.dry_run), (Some("u"), true));
        assert!(
            query
                .delete_options(Some(&json!({"gracePeriodSeconds": "x"})))
                .is_err()
        );
        assert!(
            query
                .delete_options(Some(&json!({"propagationPolicy": "Later"})))
                .is_err()
        );
    }
}
