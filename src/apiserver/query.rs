//! The query parameters of the API, read once into the registry's options.
//!
//! Unknown parameters are ignored, as Kubernetes does (`kubectl` sends `timeout` everywhere); known
//! ones with senseless values are refused, never taken as their default.

use std::time::Duration;

use serde_json::Value;

use crate::registry::{
    DeleteOptions, FieldValidation, ListOptions, Propagation, WatchOptions, WriteOptions,
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
                        "the query parameter {name} is not a number: {text}"
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
            .number::<u64>("timeoutSeconds")?
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs))
    }

    /// `user_agent` is the field manager of those who name none: up to its first slash.
    pub(crate) fn write_options(&self, user_agent: Option<&str>) -> Result<WriteOptions, Error> {
        let field_manager = match self.get("fieldManager") {
            Some(manager) if manager.chars().count() > 128 => {
                return Err(Error::Unprocessable {
                    message: "fieldManager: Too long: may not be more than 128 bytes".to_owned(),
                    field: "fieldManager".to_owned(),
                });
            }
            Some(manager) if !manager.chars().all(|letter| !letter.is_control()) => {
                return Err(Error::Unprocessable {
                    message:
                        "fieldManager: Invalid value: should only contain printable characters"
                            .to_owned(),
                    field: "fieldManager".to_owned(),
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
                return Err(Error::Unprocessable {
                    message: format!(
                        "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
                    ),
                    field: "fieldValidation".to_owned(),
                });
            }
        };
        Ok(WriteOptions {
            dry_run: self.dry_run()?,
            field_manager,
            field_validation,
            duplicate_fields: Vec::new(),
        })
    }

    fn dry_run(&self) -> Result<bool, Error> {
        let mut values = self.0.iter().filter(|(key, _)| key == "dryRun");
        match values.next() {
            None => Ok(false),
            Some((_, value)) => dry_run_value(value),
        }
    }

    /// Options of a deletion: a body wins over the query, as in Kubernetes.
    pub(crate) fn delete_options(&self, body: Option<&Value>) -> Result<DeleteOptions, Error> {
        match body {
            Some(body) => delete_options_of_body(body),
            None => Ok(DeleteOptions {
                dry_run: self.dry_run()?,
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

fn dry_run_value(value: &str) -> Result<bool, Error> {
    match value {
        "All" => Ok(true),
        "" => Ok(false),
        other => Err(Error::Unprocessable {
            message: format!("dryRun: Unsupported value: \"{other}\": supported values: \"All\""),
            field: "dryRun".to_owned(),
        }),
    }
}

fn delete_options_of_body(body: &Value) -> Result<DeleteOptions, Error> {
    let wrong = |field: &str| {
        Error::BadRequest(format!(
            "DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: json: cannot unmarshal field {field}"
        ))
    };
    let field = |name: &str| body.get(name).filter(|value| !value.is_null());
    let text = |value: Option<&Value>, name: &str| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(name)),
    };
    let dry_run = match field("dryRun") {
        None => false,
        Some(Value::Array(values)) => match values.first() {
            None => false,
            Some(Value::String(value)) => dry_run_value(value)?,
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
    let refuse = |message: String| {
        Err(Error::Unprocessable {
            message,
            field: "propagationPolicy".to_owned(),
        })
    };
    match (policy, orphan) {
        (Some(_), Some(_)) => refuse(
            "propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set".to_owned(),
        ),
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some(other), None) => refuse(format!(
            "propagationPolicy: Unsupported value: \"{other}\": supported values: \"Foreground\", \"Background\", \"Orphan\""
        )),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn senseless_values_are_refused() {
        let list = |text: &str| Query::parse(text).list_options();
        assert!(list("limit=x").is_err());
        assert!(list("sendInitialEvents=true").is_err());
        let write = |text: &str| Query::parse(text).write_options(Some("kubectl/v1.32"));
        assert!(write("dryRun=Some").is_err());
        assert!(write("dryRun=All").unwrap().dry_run);
        assert!(write("fieldValidation=Never").is_err());
        assert_eq!(write("").unwrap().field_manager.as_deref(), Some("kubectl"));
        assert!(write(&format!("fieldManager={}", "a".repeat(129))).is_err());
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
